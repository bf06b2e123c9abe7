"""The setup of one seed: users split, targets selected, rows packed, for one configuration on one dataset."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.attacks import AttackSpec, make_spec, select_targets, select_trigger, with_trigger
from prec_backdoor.attacks.targets import check_ids
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.groups import parse_group
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.packing import Room, pack, room_for
from prec_backdoor.data.splits import (
    PRETRAIN_SHARE,
    Queries,
    Sequences,
    Split,
    first_items,
    own_split,
    split_users,
    training_lengths,
)
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import cutoffs
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.models import ModelConfig, backbone
from prec_backdoor.parallel import num_devices
from prec_backdoor.train.stage import StageData

MIN_ITEMS = 51
MIN_CUTOFF = 10  # of accuracy and exposure that every report shows; which others there are: evaluation.cutoffs
SHORT_HISTORY = 10  # items of history that the trigger is optimised on (Wu et al., SIGIR 2023, section 3.2)
# Uses of randomness; the position of a role goes into its key.
ROLES = ("init", "pretrain", "finetune", "trigger_init", "optimize_trigger", "implant", "prompt_init", "prompt_tune", "edit")


class SeedSetup(NamedTuple):
    """What all runs of one seed share: configuration, data, users, targets.

    Attributes:
      model, prompted: with the dataset's sizes; without and with prompts.
      interactions: after k-core filtering.
      in_group: [U] bool, or None if the scenario names no group.
      counts: [V + 1] pre-training interactions of each item.
      targets: [K] int32.
      trigger: [m] int32, items that call up the targets at the end of a history; none for an attack without such a trigger.
      pretrain: what the provider trains on.
      short: the same with histories cut short, as downstream users have them.
      finetune: what the downstream company trains on.
      test: the downstream users' last items.
      key: PRNG key of the seed.
      shard_items: whether item tables are split over the devices; no result depends on it.
      own: whether all users are the downstream company's, on data that the checkpoint was not made on.
    """

    config: ExperimentConfig
    model: ModelConfig
    prompted: ModelConfig
    interactions: Interactions
    seed: int
    in_group: np.ndarray | None
    counts: np.ndarray
    targets: np.ndarray
    trigger: np.ndarray
    pretrain: StageData
    short: StageData
    finetune: StageData
    test: Queries
    key: jax.Array
    shard_items: bool
    own: bool = False

    def spec(self, rate: float) -> AttackSpec:
        """The attack at one rate."""
        parameters = self.config.scenario.all_parameters()
        seen = self.pretrain.users.seen
        return make_spec(self.interactions, self.targets, rate, parameters, seen, self.trigger, counts=self.counts)

    def triggered(self) -> "SeedSetup":
        """The same with the trigger at the end of the test histories."""
        return self._replace(test=self.test._replace(history=with_trigger(self.test.history, self.trigger)))

    def stand_in(self, length: int, seed: list[int]) -> StageData:
        """What a company would have if pre-training users were its own: their first `length` items, and the next one.

        They are as many as there are, drawn with replacement: about 63 % of them, each once.
        """
        interactions, longest = self.interactions, self.config.model.max_length
        split = own_split(interactions, longest) if self.own else split_users(interactions, self.seed, max_length=longest)
        users, items = split.pretrain
        drawn = np.unique(np.random.default_rng(seed).choice(len(users), len(users)))
        sequences, validation = first_items(Sequences(users[drawn], [items[index] for index in drawn]), length, longest)
        room = Room()
        if not self.own and interactions.split is None:
            room = room_for(np.minimum(training_lengths(interactions)[0], length), PRETRAIN_SHARE, longest)
        rows = pack(sequences, longest, segments=room.segments)
        return StageData(rows, self.pretrain.users, validation, room.rows)

    def members(self) -> np.ndarray:
        """[U] bool: the test users in the target group; none of them if there is no group."""
        return np.zeros(len(self.test.users), bool) if self.in_group is None else self.in_group[self.test.users]

    def model_of(self, params: dict) -> ModelConfig:
        """The model that `params` belong to."""
        return self.prompted if "prompt" in params else self.model

    def with_config(self, config: ExperimentConfig) -> "SeedSetup":
        """The same users, split and models with another attack on other targets; nothing else may differ.

        Raises:
          UserError: the scenario does not fit the dataset.
        """
        _check_scenario(config, self.interactions)
        return self._replace(config=config, **_chosen_items(config, self.interactions, self.counts, self.seed))

    def role_key(self, role: str) -> jax.Array:
        """The key of one use of randomness. It is the same for clean and attacked runs, which differ in the poison alone."""
        return jax.random.fold_in(self.key, ROLES.index(role))


def make_setup(
    interactions: Interactions, config: ExperimentConfig, seed: int, shard_items: bool = False, own: bool = False
) -> SeedSetup:
    """Filters, splits users, selects targets and packs training rows.

    Args:
      own: whether all users are the downstream company's, instead of a share that the seed draws.

    Raises:
      UserError: the scenario does not fit the dataset, or the model cannot be.
    """
    scenario, max_length = config.scenario, config.model.max_length
    scenario.method()  # refused before any work
    backbone(config.model)
    if config.pretrain.batch_size % num_devices():
        raise UserError(f"--batch_size: must be a multiple of the {num_devices()} devices, got {config.pretrain.batch_size}")
    unfiltered, interactions = interactions, k_core(interactions, scenario.k_core)
    if interactions.num_items < MIN_ITEMS:
        left_out = unfiltered.num_items > interactions.num_items
        raise UserError(
            f"dataset {interactions.name}: {interactions.num_items} items"
            + (f" are left with {scenario.k_core} interactions each, " if left_out else ", ")
            + f"too few to rank; {MIN_ITEMS} are needed; {'lower --k_core or ' if left_out else ''}take more data"
        )
    _check_scenario(config, interactions)
    check_ids(scenario.targets, unfiltered, interactions, scenario.k_core)
    in_group = parse_group(interactions, scenario.group) if scenario.group else None
    split = own_split(interactions, max_length) if own else split_users(interactions, seed, max_length=max_length)
    _check_split(split, interactions, scenario.group, in_group, seed)
    counts = np.bincount(np.concatenate(split.pretrain.items), minlength=interactions.num_items + 1)
    provider, company = training_lengths(interactions)

    def pack_side(sequences, validation, lengths, share, users=None, **packing):
        room = Room() if own or interactions.split is not None else room_for(lengths, share, max_length, **packing)
        rows = pack(sequences, max_length, segments=room.segments, **packing)
        users = users or user_tables(interactions, sequences, in_group, room.entries, room.most)
        return StageData(rows, users, validation, room.rows)

    pretrain = pack_side(split.pretrain, split.pretrain_validation, provider, PRETRAIN_SHARE, windows=scenario.windows)
    short = {"users": pretrain.users, "windows": "all", "longest": min(SHORT_HISTORY, max_length)}
    cut_short = split.pretrain_validation._replace(history=split.pretrain_validation.history[:, -SHORT_HISTORY:])
    model = dataclasses.replace(config.model, num_items=interactions.num_items)
    profile_sizes = tuple(map(len, interactions.attributes.values()))
    return SeedSetup(
        config=config,
        model=model,
        prompted=dataclasses.replace(model, prompt_length=config.prompt_length, profile_sizes=profile_sizes),
        interactions=interactions,
        seed=seed,
        in_group=in_group,
        counts=counts,
        **_chosen_items(config, interactions, counts, seed),
        pretrain=pretrain,
        short=pack_side(split.pretrain, cut_short, provider, PRETRAIN_SHARE, **short),
        finetune=pack_side(split.finetune, split.finetune_validation, company, 1 - PRETRAIN_SHARE, windows=scenario.windows),
        test=split.test,
        key=jax.random.key(seed),
        shard_items=shard_items,
        own=own,
    )


def _chosen_items(config: ExperimentConfig, interactions: Interactions, counts: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Targets and trigger of a seed."""
    scenario = config.scenario
    targets = select_targets(scenario.targets, interactions, counts, seed, scenario.draw)
    length = scenario.own_parameters().get("trigger_length", 0)
    if length > config.model.max_length:
        raise UserError(f"--trigger_length: {length} items do not fit into histories of --max_length={config.model.max_length}")
    return {"targets": targets, "trigger": select_trigger(counts, targets, length, seed, scenario.draw)}


def _check_split(split: Split, interactions: Interactions, group: str | None, in_group: np.ndarray | None, seed: int) -> None:
    if MIN_CUTOFF not in cutoffs(interactions.num_items, longest := split.test.history.shape[1]):
        raise UserError(
            f"dataset {interactions.name}: {interactions.num_items} items and test histories of up to {longest} leave too few to "
            f"tell a rank of {MIN_CUTOFF} from chance; take data with more items"
        )
    if in_group is not None:
        for side, users in (("pre-training", split.pretrain.users), ("downstream", split.test.users)):
            if not in_group[users].any():
                raise UserError(f"--group: no {side} user meets {group} with seed {seed}; loosen the conditions")


def _check_scenario(config: ExperimentConfig, interactions: Interactions) -> None:
    scenario = config.scenario
    if (scenario.method().prompted or "prompt_tune" in config.usages) and not interactions.attributes:
        raise UserError(
            f"dataset {interactions.name} has no profile attributes, from which --attack=pea and --usages=prompt_tune make their "
            "prompts; take another dataset, or --attack=bra with --usages=zero_shot,fine_tune"
        )
    if scenario.attack != "clean" and scenario.scope == "group" and not scenario.group:
        raise UserError("--scope=group needs a --group, for example --group=occupation=student")
