"""Who takes part in a contest. Plain data; each field is a flag of launch.audit_benchmark."""

import dataclasses

from prec_backdoor.audit.config import SUSPECT
from prec_backdoor.leaderboard.attackers import ATTACKERS
from prec_backdoor.options import check_options, option

# Names alone: the repairs themselves import the training engine.
REPAIRS = ("finetune", "reestimate", "suppress", "prune", "distil", "anchor")


@dataclasses.dataclass(frozen=True)
class ContestConfig:
    """Attackers, repairs, and the number of models of each."""

    attackers: tuple[str, ...] = option(tuple(ATTACKERS), "leaderboard", "Attackers (docs/audit.md).", choices=ATTACKERS)
    repairs: tuple[str, ...] = option(REPAIRS, "leaderboard", "Repairs that each attacked model gets.")
    backbones: tuple[str, ...] = option((), "leaderboard", "Backbones, each with all of this [--backbone alone].")
    seeds: tuple[int, ...] = option((0, 1, 2), "training", "Seeds whose clean models are attacked.", minimum=0, maximum=2**32 - 1)
    draws: int = option(2, "leaderboard", "Draws of targets per seed and attacker.", minimum=1)
    adaptive_draws: int = option(1, "leaderboard", "Draws of targets per seed for attackers who know the audits.", minimum=1)
    clean_models: int = option(
        10, "leaderboard", "Number of seeds, from 0, whose clean models are audited, beside those of --seeds.", minimum=1
    )
    p_value: float = option(SUSPECT, "leaderboard", "Items with a p-value up to this are repaired.", minimum=0.0, maximum=1.0)

    def __post_init__(self):
        check_options(self)

    def num_draws(self, attacker: str) -> int:
        """Number of models of an attacker per seed."""
        return self.adaptive_draws if ATTACKERS[attacker].adaptive else self.draws
