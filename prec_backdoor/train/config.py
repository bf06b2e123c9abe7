"""How a stage trains, as plain data."""

import dataclasses

from prec_backdoor.errors import UserError
from prec_backdoor.options import check_options, option
from prec_backdoor.train.losses import LOSSES, SAMPLED

ITEM_UPDATES = ("auto", "dense", "lazy")
SCHEDULES = ("cosine", "constant")
LAZY_FROM = 20_000  # catalogue size from which "auto" is lazy
BASE_DIM = 64  # width of the models that learning rates are given for


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a stage trains. `batch_size` counts packed rows of max_length positions, over all devices.

    Learning rates are those of models of up to BASE_DIM dimensions; see `step_size`.
    """

    loss: str = option("bpr", "training", "Loss; bpr with several negatives is BPR-max.", choices=LOSSES)
    negatives: int = option(1, "training", "Sampled negatives per position.", minimum=1)
    batch_size: int = option(32, "training", "Packed rows of max_length positions per step, over all devices.", minimum=1)
    learning_rate: float = option(
        4e-3,
        "training",
        f"Adam's step size in pre-training. Every stage of a model wider than {BASE_DIM} takes {BASE_DIM}/embed_dim of its rate.",
        above=0.0,
    )
    schedule: str = option("cosine", "training", "Step size over a stage: cosine decay or constant.", choices=SCHEDULES)
    l2: float = option(1e-6, "training", "L2 penalty on all weights.", minimum=0.0)
    epochs: int = option(40, "training", "Maximum number of epochs of pre-training.", minimum=1)
    patience: int = option(20, "training", "A stage stops after this many epochs without a better validation NDCG@10.", minimum=1)
    item_updates: str = option(
        "auto",
        "training",
        f"Item rows that Adam updates: all (dense) or those of the batch (lazy). auto: lazy from {LAZY_FROM:,} items on.",
        choices=ITEM_UPDATES,
    )

    def __post_init__(self):
        check_options(self)
        if self.item_updates == "lazy" and self.loss not in SAMPLED:
            raise UserError(f"--item_updates=lazy: --loss={self.loss} needs every item at every step; use --item_updates=dense")

    def step_size(self, embed_dim: int) -> float:
        """Adam's step size for models of a width: `learning_rate`, times BASE_DIM / embed_dim for wider models.

        A step moves a hidden state by the sum of embed_dim changes of weights, hence the inverse of the width (Yang et al., arXiv
        2203.03466). At one rate for all widths, a model of 128 dimensions, 3 layers and 4 heads trained for 15 epochs on ml-100k
        stays on the popularity plateau, at HR@10 0.13; with smaller steps it reaches 0.25. Clipping gradients does not help.
        """
        return self.learning_rate * min(1.0, BASE_DIM / embed_dim)

    @property
    def sampled_negatives(self) -> int:
        """Negatives to sample per position; 0 for a loss over the whole catalogue."""
        return self.negatives if self.loss in SAMPLED else 0

    def lazy(self, num_items: int) -> bool:
        """Whether only touched rows of the item table are updated (see `item_updates`)."""
        large = num_items >= LAZY_FROM and self.loss in SAMPLED
        return large if self.item_updates == "auto" else self.item_updates == "lazy"
