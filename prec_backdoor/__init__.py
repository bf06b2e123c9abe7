"""Backdoors in pre-trained sequential recommenders: planted, measured, audited (Wu et al., SIGIR 2023)."""
