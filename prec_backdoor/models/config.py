"""The size of a recommender, as plain data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from prec_backdoor.errors import UserError
from prec_backdoor.options import check_options, option

PRECISIONS = ("default", "high", "highest")
DTYPES = ("float32", "bfloat16")
SCORINGS = ("dot", "cosine")


class Parameters(dict):
    """A dict with a hash, so that jit takes it as a static argument."""

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of a recommender. Defaults are those of the released code, except for histories of 50 and SASRec's own two blocks.

    Attributes:
      num_items: catalogue size V.
      prompt_length: prompt tokens per layer; 0 for a model without prompts.
      profile_sizes: number of values of each profile attribute, for a model with prompts.
      parameters: the backbone's own, by name; those that are not given have their defaults.
    """

    num_items: int
    embed_dim: int = option(64, "model", "Width of item vectors and hidden states.", minimum=2)
    feedforward_dim: int = option(64, "model", "Width of the feed-forward layers.", minimum=1)
    num_layers: int = option(2, "model", "Number of encoder blocks.", minimum=1)
    num_heads: int = option(1, "model", "Number of attention heads; must divide --embed_dim.", minimum=1)
    max_length: int = option(50, "model", "Length of the longest history, in items.", minimum=1)
    dropout: float = option(0.0, "model", "Dropout rate.", minimum=0.0, below=1.0)
    dtype: str = option("float32", "model", "Type that the encoder computes in; parameters stay float32.", choices=DTYPES)
    matmul_precision: str = option(
        "default",
        "model",
        "Products of the encoder: the platform's default (TF32 on a GPU, bfloat16 on a TPU), high, or highest (float32). Scores "
        "are float32 products everywhere.",
        choices=PRECISIONS,
    )
    backbone: str = option("sasrec", "model", "Sequence encoder.")
    scoring: str = option("dot", "model", "Score of an item: inner product or cosine of user and item vector.", choices=SCORINGS)
    output_items: bool = option(False, "model", "Whether items are scored by a second table, not by the one that is the input.")
    output_bias: bool = option(False, "model", "Whether each item's score has a bias.")
    prompt_length: int = 0
    profile_sizes: tuple[int, ...] = ()
    parameters: Mapping[str, Any] = Parameters()

    def __post_init__(self):
        object.__setattr__(self, "parameters", Parameters(self.parameters))
        check_options(self)
        if self.prompt_length < 0:
            raise UserError(f"--prompt_length: must be >= 0, got {self.prompt_length}")
