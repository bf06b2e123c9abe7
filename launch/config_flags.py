"""Flags from the fields of the configurations, and configurations from the flags."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags

from prec_backdoor.attacks import ATTACKS, attack_parameters, evading, find_attack
from prec_backdoor.data.registry import DEFAULT_GROUPS
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.models import BACKBONES, ModelConfig, backbone_parameters
from prec_backdoor.options import Option, options
from prec_backdoor.train.config import TrainConfig

from . import flag

DEFAULT = ExperimentConfig()
FIELDS: dict[str, tuple[Any, Option]] = {
    name: described
    for config in (Scenario, ExperimentConfig, ModelConfig, TrainConfig)
    for name, described in options(config).items()
}
PREPARATION = ("k_core", "windows")
ATTACK = ("attack", "scope", "group", "targets", "draw", "evade")
MODEL_AND_TRAINING = (*options(ModelConfig), *options(TrainConfig))
PROMPT = ("prompt_length", "prompt_epochs", "prompt_learning_rate")
IMPLANT = ("implant_epochs", "implant_learning_rate")
FINETUNE = ("finetune_epochs", "finetune_learning_rate")
ALL_STAGES = (*MODEL_AND_TRAINING, *PROMPT, *IMPLANT, *FINETUNE)


def define_fields(*names: str, **defaults: Any) -> None:
    """Defines flags for fields of the configurations; `defaults` replace the fields' own. backbone brings those of backbones."""
    registered = {"attack": ["clean", *dict.fromkeys(name for name, _ in ATTACKS)], "backbone": list(BACKBONES)}
    for name in names:
        default, option = FIELDS[name]
        option = option._replace(choices=registered.get(name, option.choices))
        kind = str if default in (None, ()) else type(default[0] if isinstance(default, tuple) else default)
        flag.define_option(name, defaults.get(name, default), option, kind)
    if "backbone" in names:
        for name, (default, option) in backbone_parameters().items():
            flag.define_option(name, default, option)


def define_rates(several: bool) -> None:
    """Defines --rate and a flag for each parameter of an attack; with `several`, each takes several values."""
    usual = ", ".join(f"{attack} {scope} {method.default_rate:g}" for (attack, scope), method in ATTACKS.items())
    default, option = FIELDS["rate"]
    flag.define_option("rate", () if several else None, option._replace(help=f"{option.help} By default {usual}."), float)
    for name, (default, option) in attack_parameters().items():
        flag.define_option(name, (default,) if several else default, option)


def config_from_flags(**overrides: Any) -> ExperimentConfig:
    """Returns the configuration that the flags describe; `overrides` replace single fields.

    Without --rate it has the attack's default rate; without --group a group attack has the dataset's default group.

    Raises:
      UserError: a value is impossible.
    """
    chosen = [name for name in DEFAULT.flat() if (value := _value(name)) is not None and (value != () or flag.is_given(name))]
    given = {name: _value(name) for name in chosen} | overrides
    if "group" not in given and given.get("scope") != "global":
        given["group"] = None if _value("interactions") else DEFAULT_GROUPS.get(flags.FLAGS.dataset)
    config = ExperimentConfig.from_flat(DEFAULT.flat() | given)
    if "rate" in given:
        return config
    return dataclasses.replace(config, rate=(config.scenario.method().default_rate,))


def configs_from_flags() -> list[ExperimentConfig]:
    """One configuration for each combination of values of the attack's parameters.

    Raises:
      UserError: a value is impossible, or the attack does not have a parameter that is given.
    """
    check_parameters()
    names = list(attack_parameters())
    for name in names:
        if not _value(name) or len(set(_value(name))) < len(_value(name)):
            raise UserError(f"--{name}: needs at least one value, and each only once")
    combinations = itertools.product(*(_value(name) for name in names))
    return [config_from_flags(**dict(zip(names, values, strict=True))) for values in combinations]


def check_parameters() -> None:
    """Raises a UserError if a parameter is given that --attack does not have."""
    known = options(evading(find_attack(flags.FLAGS.attack, flags.FLAGS.scope), _value("evade") or ()).parameters)
    for name in attack_parameters():
        if flag.is_given(name) and name not in known:
            raise UserError(f"--{name}: --attack={flags.FLAGS.attack} has no such parameter; leave the flag out")


def single_rate() -> dict[str, tuple[float]]:
    """Returns the rate of a program that runs one stage, if it is given, as an override."""
    return {} if flags.FLAGS.rate is None else {"rate": (flags.FLAGS.rate,)}


def changed_fields(names: Iterable[str]) -> Mapping[str, Any]:
    """Returns name -> value of the flags that have a value."""
    return {name: value for name in names if (value := _value(name)) is not None}


def _value(name: str) -> Any:
    return flags.FLAGS[name].value if name in flags.FLAGS else None
