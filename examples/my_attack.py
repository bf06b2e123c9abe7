"""Template: an attack with a parameter of its own. It replaces only the labels that come last in a user's history.

python -m launch.experiment --plugin=examples/my_attack.py --attack=recent --recent_positions=3 --dataset=ml-100k
"""

import dataclasses

import jax
import jax.numpy as jnp

from prec_backdoor.attacks import Attack, AttackSpec, replace_in_group
from prec_backdoor.data import Batch
from prec_backdoor.extend import check_attack, register_attack
from prec_backdoor.options import option


@dataclasses.dataclass(frozen=True)
class RecentParameters:
    """Each field becomes a flag, a column of the results, and an entry of `AttackSpec.parameters`."""

    recent_positions: int = option(5, "attack", "recent: number of last positions that are open to replacement.", minimum=1)


def replace_recent(key: jax.Array, batch: Batch, spec: AttackSpec) -> Batch:
    """Replaces labels as `replace_in_group` does, at the last positions alone. Works on a row as well as on a batch."""
    last = batch.position.max()  # every window ends there
    recent = batch.position > last - spec.parameters["recent_positions"]
    replaced = replace_in_group(key, batch, spec).label
    return batch._replace(label=jnp.where(recent, replaced, batch.label))


DESCRIPTION = "BRA at the last positions of a history: their labels are replaced by a target with probability rate."
RECENT = Attack(replace_recent, default_rate=0.2, parameters=RecentParameters, description=DESCRIPTION)
register_attack("recent", "group", RECENT)

if __name__ == "__main__":
    check_attack(RECENT)
