"""How a stage trains, as plain data."""

import dataclasses

from prec_backdoor.errors import UserError
from prec_backdoor.options import check_options, option
from prec_backdoor.train.losses import LOSSES, SAMPLED

ITEM_UPDATES = ("auto", "dense", "lazy")
SCHEDULES = ("cosine", "constant")
LAZY_FROM = 20_000  # catalogue size from which "auto" is lazy


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a stage trains. `batch_size` counts packed rows of max_length positions, over all devices."""

    loss: str = option("bpr", "training", "Loss; bpr with several negatives is BPR-max.", choices=LOSSES)
    negatives: int = option(1, "training", "Sampled negatives per position.", minimum=1)
    batch_size: int = option(32, "training", "Packed rows of max_length positions per step, over all devices.", minimum=1)
    learning_rate: float = option(4e-3, "training", "Adam's step size in pre-training.", above=0.0)
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

    @property
    def sampled_negatives(self) -> int:
        """Negatives to sample per position; 0 for a loss over the whole catalogue."""
        return self.negatives if self.loss in SAMPLED else 0

    def lazy(self, num_items: int) -> bool:
        """Whether only touched rows of the item table are updated (see `item_updates`)."""
        large = num_items >= LAZY_FROM and self.loss in SAMPLED
        return large if self.item_updates == "auto" else self.item_updates == "lazy"
