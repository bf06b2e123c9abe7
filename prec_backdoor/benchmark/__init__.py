"""Speed and memory of training and ranking against peers, taking turns in one run; `launch.benchmark` is the program.

Modules that peers run import nothing of JAX, so that a peer's memory is its own.
"""
