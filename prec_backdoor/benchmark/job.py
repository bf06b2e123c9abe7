"""What one process of the benchmark is to do."""

import dataclasses
import os

LEARNING_RATE, L2 = 1e-3, 1e-6
MEAN_SHARE = 0.36  # mean history as a share of the longest
TARGETS = 10  # items ranked beside the true one
TOP_K = 50
FIRST, LAST = 8, 32  # steps that the two figures of the loss are means of


@dataclasses.dataclass(frozen=True)
class Job:
    """One system at one task on one size of data.

    Attributes:
      task: "train", "evaluate" or "machine".
      system: a name in `prec_backdoor.benchmark.systems.SYSTEMS`.
      items: catalogue size V.
      users: how many there are; each has one sequence.
      max_length: longest history.
      sequences: of a training step.
      embed_dim, feedforward_dim, layers, heads, dtype: of the encoder; by default the sizes of the released
        code. Of "bfloat16", torch's counterpart is autocast.
      models: that `mapped_models` trains at once.
    """

    task: str
    system: str
    items: int = 1
    users: int = 8192
    max_length: int = 100
    sequences: int = 256
    embed_dim: int = 64
    feedforward_dim: int = 64
    layers: int = 1
    heads: int = 1
    dtype: str = "float32"
    models: int = 1
    seed: int = 0


def threads() -> int:
    """Cores that this process may use; every system computes on all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
