"""A checkpoint, opened on the dataset that it was made on, or on a company's own data."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from prec_backdoor.data.align import LEAST_KNOWN, Aligned, align
from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.own import is_own
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.setup import MIN_ITEMS, SeedSetup, make_setup
from prec_backdoor.experiment.widening import narrowed, widened
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage.checkpoints import Checkpoint

Catalogue = Literal["known", "widened", "offered"]

_USAGES = {  # stage of a checkpoint -> the usage that it is a model of
    "pretrain": "zero_shot",
    "edit": "zero_shot",
    "optimize_trigger": "zero_shot",
    "implant": "zero_shot",
    "prompt_tune": "prompt_tune",
    "finetune": "fine_tune",
    "repair": "fine_tune",
    "imported": "zero_shot",
}
# The scenario on data that are not the checkpoint's dataset; its group and its draws of targets have no meaning there. What a
# program changes holds there, too.
_OWN_DATA = {"attack": "clean", "evade": (), "scope": "global", "group": None, "targets": "unpopular:1", "draw": 0, "k_core": 1}


class Opened(NamedTuple):
    """A checkpoint and the data that it is used on.

    Attributes:
      setup: the one that it was made in or, on a company's own data, one with all users.
      rate: of its attack; 0 for a clean model and for one from elsewhere.
      usage: what it is a model of.
      aligned: how much of the company's own data the model knows; None on the dataset that it was made on.
    """

    checkpoint: Checkpoint
    setup: SeedSetup
    rate: float
    usage: str
    aligned: Aligned | None = None


def open_checkpoint(
    path: str | Path,
    interactions: Interactions,
    changes: Mapping[str, Any] | None = None,
    least_known: float = LEAST_KNOWN,
    catalogue: Catalogue = "known",
) -> Opened:
    """Loads a checkpoint and splits `interactions` as it was made with; `changes` replace fields of its configuration.

    Interactions that are read from a company's tables (`data.own`), or of another name than the dataset that it was made on, are
    the company's own unless they are that dataset: items are matched by the checkpoint's vocabulary, all users are downstream,
    and nothing of the attack's scenario is known but the targets.

    Args:
      least_known: see `data.align.align`.
      catalogue: of which items the model has rows on own data: those that the checkpoint knows; `widened` by the company's others
        (`widening.widened`); only those that the company's catalogue, if there is one, has `offered` (`widening.narrowed`).

    Raises:
      UserError: no sound checkpoint, or one that does not know the items.
    """
    checkpoint = checkpoints.load(path, finished=True)
    metadata = checkpoint.metadata
    recorded = metadata.get("config", {})
    config = ExperimentConfig.from_flat(recorded | dict(changes or {}))
    _check_model(checkpoint, ExperimentConfig.from_flat(recorded))
    if metadata["stage"] not in _USAGES:
        raise UserError(f"{checkpoint.path}: made by an unknown stage '{metadata['stage']}'")
    # Before anything else of the dataset: on another one, group and targets may be missing too.
    found, wanted = _summary(interactions, config.scenario.k_core), metadata["dataset"]
    own = metadata.get("own_data") is True  # fine-tuned or repaired on a company's data
    if not own and found["fingerprint"] == wanted.get("fingerprint"):
        setup = make_setup(interactions, config, config.seeds[0])
        return Opened(checkpoint, setup, config.rate[0], _USAGES[metadata["stage"]])
    own = own or is_own(interactions)  # files of two companies may have one name, datasets may not
    if checkpoint.vocabulary is None or (not own and found["name"] == wanted.get("name")):
        raise UserError(
            f"{checkpoint.path}: made on dataset {wanted.get('name')} ({wanted.get('fingerprint')}), not on {found['name']} "
            f"({found['fingerprint']}); change --dataset or --data_dir, or another flag that says what is read, as --min_rating"
        )
    least_offered = MIN_ITEMS if catalogue == "offered" else None
    aligned = align(interactions, checkpoint.vocabulary, least_known, catalogue == "widened", least_offered)
    _check_attributes(checkpoint)
    targets = {} if "targets" in (changes or {}) else _declared_targets(checkpoint, aligned)
    chosen = {name: value for name, value in (changes or {}).items() if name in _OWN_DATA}
    config = ExperimentConfig.from_flat(config.flat() | _OWN_DATA | targets | chosen)
    setup = make_setup(aligned.interactions, config, config.seeds[0], own=True)
    checkpoint = widened(checkpoint, setup) if aligned.added else checkpoint
    checkpoint = checkpoint if aligned.kept is None else narrowed(checkpoint, setup, aligned.kept)
    return Opened(checkpoint, setup, config.rate[0], _USAGES[metadata["stage"]], aligned)


def _summary(interactions: Interactions, minimum: int) -> dict:
    """The summary of the filtered dataset, or of all of it where nothing is left: a company may have few interactions."""
    try:
        return k_core(interactions, minimum).summary()
    except UserError:
        return interactions.summary()


def _check_attributes(checkpoint: Checkpoint) -> None:
    """Raises a UserError if a model with prompts has other attributes than the vocabulary."""
    sizes, named = checkpoint.model.profile_sizes, tuple(map(len, checkpoint.vocabulary.attributes.values()))
    if sizes and sizes != named:
        raise UserError(
            f"{checkpoint.path}: its vocabulary has attributes of {named} values, its model of {sizes}; use another copy"
        )


def _declared_targets(checkpoint: Checkpoint, aligned: Aligned) -> dict:
    """The targets that the metadata of an attacked model name by raw id, as a field of the configuration; all or none."""
    targets, known = checkpoint.metadata.get("targets"), set(aligned.interactions.item_ids[1:].tolist())
    named = isinstance(targets, list) and targets and all(isinstance(raw, str) and "," not in raw for raw in targets)
    return {"targets": f"ids:{','.join(targets)}"} if named and known.issuperset(targets) else {}


def _check_model(checkpoint: Checkpoint, made_with: ExperimentConfig) -> None:
    declared = checkpoint.model
    of_config = dataclasses.replace(made_with.model, num_items=declared.num_items, profile_sizes=declared.profile_sizes)
    prompt_length = made_with.prompt_length if declared.prompt_length else 0
    if dataclasses.replace(of_config, prompt_length=prompt_length) != declared:
        raise UserError(f"{checkpoint.path}: metadata declares another model than its configuration describes; use another copy")


def check_counterpart(clean: Opened, other: Opened) -> None:
    """Raises a UserError that names the difference if `clean` is not the clean counterpart of `other`."""
    pairs = {
        "seed": (clean.setup.seed, other.setup.seed),
        "k_core": (clean.setup.config.scenario.k_core, other.setup.config.scenario.k_core),
        "usage": (clean.usage, other.usage),
        **{
            field.name: (getattr(clean.setup.model, field.name), getattr(other.setup.model, field.name))
            for field in dataclasses.fields(clean.setup.model)
        },
    }
    if (ours := clean.checkpoint.model).prompt_length and (theirs := other.checkpoint.model).prompt_length:
        pairs["prompt_length"] = ours.prompt_length, theirs.prompt_length
        pairs["profile_sizes"] = ours.profile_sizes, theirs.profile_sizes
    differences = [
        f"{name} is {of_clean}, --checkpoint has {wanted}" for name, (of_clean, wanted) in pairs.items() if of_clean != wanted
    ]
    if differences:
        raise UserError(f"--clean_checkpoint: {'; '.join(differences)}; give the clean counterpart")
    if not np.array_equal(clean.setup.interactions.item_ids, other.setup.interactions.item_ids):
        raise UserError("--clean_checkpoint: its items are not those of --checkpoint; give the clean counterpart")
    if clean.rate:
        raise UserError(f"--clean_checkpoint: attacked with rate {clean.rate:g}; give a clean model")
