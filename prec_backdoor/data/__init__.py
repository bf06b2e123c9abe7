"""Readers of datasets, all to Interactions."""
