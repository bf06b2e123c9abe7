"""Audits: is this checkpoint backdoored? `registry.py` lists them; `audit.py` combines them to a verdict."""
