"""A setting: one configuration on one dataset for one seed, with users split, targets selected, rows packed."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.attacks import AttackSpec, make_spec, select_targets
from prec_backdoor.config import ExperimentConfig
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.groups import parse_group
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.splits import Queries, split_users
from prec_backdoor.data.windows import pack
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig
from prec_backdoor.train.parallel import num_devices
from prec_backdoor.train.stage import StageData

LEAST_ITEMS = 51  # reports are of exposure within the first 50
ROLES = ("init", "pretrain", "finetune")  # what randomness is used for; the position goes into the key


class Setting(NamedTuple):
    """All that one seed's runs share: configuration, data, users, targets.

    Attributes:
      model: with the catalogue's size.
      interactions: after k-core filtering.
      in_group: [U] bool, or None where the scenario names no group.
      targets: [K] int32.
      pretrain, finetune: what the provider and the downstream company train on.
      test: the downstream users' last items.
      key: PRNG key of the seed.
    """

    config: ExperimentConfig
    model: ModelConfig
    interactions: Interactions
    seed: int
    in_group: np.ndarray | None
    targets: np.ndarray
    pretrain: StageData
    finetune: StageData
    test: Queries
    key: jax.Array

    def spec(self, rate: float) -> AttackSpec:
        """The attack at one rate."""
        return make_spec(self.interactions, self.targets, rate)

    def members(self) -> np.ndarray:
        """[U] bool: the test users in the target group; nobody where there is no group."""
        return np.zeros(len(self.test.users), bool) if self.in_group is None else self.in_group[self.test.users]

    def role_key(self, role: str) -> jax.Array:
        """The same for clean and attacked runs, so that they differ in the poison alone."""
        return jax.random.fold_in(self.key, ROLES.index(role))


def make_setting(interactions: Interactions, config: ExperimentConfig, seed: int) -> Setting:
    """Filters, splits users, selects targets and packs training rows.

    Raises:
      UserError: the scenario does not fit the dataset.
    """
    scenario, max_length = config.scenario, config.model.max_length
    scenario.poison()  # refused before any work
    if config.pretrain.batch_size % num_devices():
        raise UserError(f"--batch_size: {config.pretrain.batch_size} rows cannot be shared evenly by {num_devices()} devices")
    if scenario.attack != "clean" and scenario.scope == "group" and not scenario.group:
        raise UserError("--scope=group needs a --group, for example --group=occupation=student")
    interactions = k_core(interactions, scenario.k_core)
    if interactions.num_items < LEAST_ITEMS:
        raise UserError(
            f"dataset {interactions.name}: {interactions.num_items} items are left with {scenario.k_core} interactions each, "
            f"too few to tell a rank of 50 from chance; {LEAST_ITEMS} are needed; lower --k_core or take more data"
        )
    in_group = parse_group(interactions, scenario.group) if scenario.group else None
    split = split_users(interactions, seed, max_length=max_length)
    if in_group is not None:
        for side, users in (("pre-training", split.pretrain.users), ("downstream", split.test.users)):
            if not in_group[users].any():
                raise UserError(f"--group: no {side} user meets {scenario.group} with seed {seed}; loosen the conditions")
    counts = np.bincount(np.concatenate(split.pretrain.items), minlength=interactions.num_items + 1)

    def stage_data(sequences, validation):
        rows = pack(sequences, max_length, scenario.windows)
        return StageData(rows, user_tables(interactions, sequences, in_group), validation)

    return Setting(
        config=config,
        model=dataclasses.replace(config.model, num_items=interactions.num_items),
        interactions=interactions,
        seed=seed,
        in_group=in_group,
        targets=select_targets(scenario.targets, interactions, counts, seed),
        pretrain=stage_data(split.pretrain, split.pretrain_validation),
        finetune=stage_data(split.finetune, split.finetune_validation),
        test=split.test,
        key=jax.random.key(seed),
    )
