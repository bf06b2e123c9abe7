"""Experiments: configuration, the setup of a seed, stages, the plan of a run, measurements."""
