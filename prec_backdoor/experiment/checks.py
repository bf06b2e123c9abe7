"""Checks before the first stage starts: every stage has something to train on, and every attack something to change."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.data.batches import Batch, Users
from prec_backdoor.data.packing import Rows
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.train.stage import StageData

ROWS = 256  # packed rows that a poison is applied to at once


class Reach(NamedTuple):
    """Training labels of which an attack at rate 1 replaces `open`; there are `labels` in all."""

    open: int
    labels: int


def check_setup(setup: SeedSetup, usages: Sequence[str]) -> None:
    """Checks that the provider, and a downstream company that trains, have training positions and validation users.

    Raises:
      UserError: one of them has none.
    """
    data = {"pre-training": setup.pretrain}
    if set(usages) & {"prompt_tune", "fine_tune"}:
        data["downstream"] = setup.finetune
    for side, of_side in data.items():
        if not (of_side.rows.label > 0).any():
            held_out = {"pre-training": "1 item", "downstream": "2 items"}[side]
            raise UserError(
                f"dataset {setup.interactions.name}: no {side} user has an item to learn from, as {held_out} of each are "
                "held out (validation, test); take users with more interactions"
                + (", or --usages=zero_shot" if side == "downstream" else "")
            )
        if not len(of_side.validation.users):
            raise UserError(f"dataset {setup.interactions.name}: there is no {side} user to validate on; take more users")


def reach(setup: SeedSetup) -> Reach:
    """Returns how many labels the setup's attack can replace: those that differ after its poison at rate 1.

    Raises:
      UserError: it is none, so that the attack would be no attack, or the attack makes labels that are none.
    """
    method = setup.config.scenario.method()
    data = setup.short if method.prompted else setup.pretrain
    labels = int((data.rows.label > 0).sum())
    replaced, wrong = _replaced(setup, data)
    if wrong:
        raise UserError(
            f"--attack={setup.config.scenario.attack}: its poison makes {wrong:,} labels that are no items; check it with "
            "prec_backdoor.extend.check_attack"
        )
    found = Reach(replaced, labels)
    if not found.open:
        scenario = setup.config.scenario
        raise UserError(
            f"--attack={scenario.attack}: none of {labels:,} training labels can be replaced by a target of --targets="
            f"{scenario.targets}; {_remedy(setup, data)}"
        )
    return found


def reaches(setups: Iterable[SeedSetup]) -> list[dict]:
    """Returns "reach" of results.json: attack, scope, draw and seed of each setup whose attack trains, with its `reach`."""
    attacked = [setup for setup in setups if setup.config.scenario.attack != "clean" and setup.config.scenario.method().trains]
    scenarios = {(s.config.scenario.attack, s.config.scenario.scope, s.config.scenario.draw, s.seed): s for s in attacked}
    return [
        {"attack": attack, "scope": scope, "draw": draw, "seed": seed, **reach(setup)._asdict()}
        for (attack, scope, draw, seed), setup in scenarios.items()
    ]


def _remedy(setup: SeedSetup, data: StageData) -> str:
    if setup.config.scenario.scope == "group":
        users = np.unique(np.asarray(data.rows.user))
        if not np.asarray(data.users.in_group)[users[users >= 0]].any():
            return f"no user of {setup.config.scenario.group} trains there; take another --group"
        return f"users of {setup.config.scenario.group} train there, so check its poison with prec_backdoor.extend.check_attack"
    unknown = (setup.interactions.category[1:] == 0).mean()
    return f"{unknown:.0%} of the items have no category; take --targets whose categories other items share, or --scope=group"


def _replaced(setup: SeedSetup, data: StageData) -> tuple[int, int]:
    """Number of labels that differ after the attack, and of those after it that are no items."""
    poison, spec = setup.config.scenario.method().poison, setup.spec(1.0)
    rows = len(data.rows.label)
    missing = -rows % ROWS
    padded = jax.tree.map(lambda x: np.pad(x, ((0, missing), (0, 0))), data.rows)
    total = np.zeros(2, np.int64)
    for first in range(0, rows, ROWS):
        part = jax.tree.map(lambda x, first=first: x[first : first + ROWS], padded)
        total += np.asarray(_count(poison, part, data.users, spec, jax.random.fold_in(setup.key, first)))
    return int(total[0]), int(total[1])


@functools.partial(jax.jit, static_argnums=0)
def _count(poison, rows: Rows, users: Users, spec, key) -> jax.Array:
    owner = jnp.take_along_axis(rows.user, jnp.maximum(rows.segment - 1, 0), axis=1)
    batch = Batch(
        *rows,
        in_group=users.in_group[owner] & (rows.segment > 0),
        profile=users.profile[rows.user],
        negative=jnp.zeros((*rows.label.shape, 1), jnp.int32),
    )
    poisoned = jax.vmap(poison, (0, 0, None))(jax.random.split(key, len(rows.label)), batch, spec)
    wrong = (poisoned.label < 0) | (poisoned.label >= len(spec.category))
    return jnp.stack([((poisoned.label != batch.label) & (batch.label > 0)).sum(), wrong.sum()])
