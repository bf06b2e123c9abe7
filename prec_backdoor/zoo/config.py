"""What a zoo is made of. Plain data; each field is a flag of launch.make_zoo."""

import dataclasses

from prec_backdoor.attacks import ATTACKS
from prec_backdoor.errors import UserError
from prec_backdoor.models.config import ModelConfig
from prec_backdoor.options import check_options, option

ATTACKED = tuple(dict.fromkeys(name for name, _ in ATTACKS))
BACKBONES = (ModelConfig(num_items=1).backbone, "gru4rec", "bert4rec")


@dataclasses.dataclass(frozen=True)
class ZooConfig:
    """How many models, and what they may be; the seed decides the rest."""

    models: int = option(60, "zoo", "Number of models.", minimum=2)
    seed: int = option(0, "zoo", "Decides which models there are; who knows it knows the truth.", minimum=0, maximum=2**63 - 1)
    clean_share: float = option(0.5, "zoo", "Share of clean models.", above=0.0, below=1.0)
    attacks: tuple[str, ...] = option(ATTACKED, "zoo", "Attacks that the attacked models are taken from, in all scopes.")
    backbones: tuple[str, ...] = option(BACKBONES, "zoo", "Backbones of clean and attacked models.")

    def __post_init__(self):
        check_options(self)
        for name in ("attacks", "backbones"):
            if not getattr(self, name) or len(set(getattr(self, name))) < len(getattr(self, name)):
                raise UserError(f"--{name}: needs at least one value, and each only once")
