"""Reports of experiments: estimates with intervals from ranks, then findings, tables and figures; see `report.write_report`."""
