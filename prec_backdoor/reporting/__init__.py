"""What a report is made of: cells with intervals, findings, tables, figures; `prec_backdoor.report` puts them together."""
