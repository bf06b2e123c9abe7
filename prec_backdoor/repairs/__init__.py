"""Repairs of a backdoored model, listed in `registry.py`."""
