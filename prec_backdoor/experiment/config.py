"""The configuration of a run: scenario, model, training. Plain data; each field made with `option` is a flag."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from prec_backdoor.attacks import Attack, attack_parameters, evading, find_attack, with_defaults
from prec_backdoor.attacks.evasion import STATISTICS
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig, backbone_parameters
from prec_backdoor.options import check_options, check_value, option
from prec_backdoor.train.config import TrainConfig

USAGES = ("zero_shot", "prompt_tune", "fine_tune")
_OF_THE_DATASET = {"num_items": 0, "prompt_length": 0, "profile_sizes": ()}  # fields of the clean model that no flag sets


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Who attacks whom, and how. `parameters` are the attack's own, by name; those that are not given have their defaults."""

    attack: str = option("bra", "attack", "Attack; clean is none.")
    scope: str = option("group", "attack", "Whom targets are shown to: everybody or a group.", choices=("global", "group"))
    group: str | None = option(
        None,
        "attack",
        "Target group: attribute=value, several conditions joined by commas, ranges as age=20-29. A global attack has none.",
    )
    targets: str = option(
        "unpopular:10",
        "attack",
        "Target items: unpopular:N, per_category:N, popular:N, middling:N, or ids:A,B with raw ids.",
    )
    evade: tuple[str, ...] = option(
        (), "attack", "Statistics of the audit that the attack evades by penalties in its loss.", choices=STATISTICS
    )
    draw: int = option(0, "attack", "Which random draw of the targets.", minimum=0)
    k_core: int = option(5, "data", "Users and items with fewer interactions are left out.", minimum=1)
    windows: str = option(
        "recent", "data", "Train on the last max_length positions of a user, or on all.", choices=("recent", "all")
    )
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_options(self)
        known = attack_parameters()
        for name, value in self.parameters.items():
            if name not in known:
                raise UserError(f"no attack has a parameter {name}; known are {', '.join(known)}")
            check_value(name, value, known[name][1])

    def method(self) -> Attack:
        """Returns the attack's entry in the registry, evading what is to be evaded; raises a UserError if there is none."""
        return evading(find_attack(self.attack, self.scope), self.evade)

    def own_parameters(self) -> dict[str, Any]:
        """Name -> value of the parameters that this attack has, without those that are not spoken of at their defaults."""
        known = attack_parameters()
        own = with_defaults(self.method(), self.parameters).items()
        return {name: value for name, value in own if not (known[name][1].quiet and value == known[name][0])}

    def measured_parameters(self) -> dict[str, Any]:
        """Name -> value of those that clean models are measured with too."""
        return {name: value for name, value in self.own_parameters().items() if attack_parameters()[name][1].measured}

    def all_parameters(self) -> dict[str, Any]:
        """Name -> value of the parameters of all registered attacks."""
        return {name: default for name, (default, _) in attack_parameters().items()} | dict(self.parameters)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that results depend on, except for the dataset.

    Attributes:
      model: the clean model; its `num_items` is the dataset's.
      pretrain: how every stage trains. The other stages have epochs and a learning rate of their own; `prompt_*` is for trigger
        optimisation and for prompt tuning.
    """

    scenario: Scenario = Scenario()
    rate: tuple[float, ...] = option(
        (0.1,),
        "attack",
        "Probability that a label open to attack is replaced by a target.",
        minimum=0,
        maximum=1,
    )
    usages: tuple[str, ...] = option(
        ("zero_shot", "fine_tune"), "attack", "What the downstream company does with the model.", choices=USAGES
    )
    seeds: tuple[int, ...] = option(
        (0,), "training", "Seeds; each draws its own users, targets and initial weights.", minimum=0, maximum=2**32 - 1
    )
    model: ModelConfig = ModelConfig(num_items=0)
    pretrain: TrainConfig = TrainConfig()
    prompt_length: int = option(1, "model", "Prompt tokens per layer.", minimum=1)
    prompt_epochs: int = option(20, "training", "Maximum number of epochs of trigger optimisation and prompt tuning.", minimum=1)
    prompt_learning_rate: float = option(4e-3, "training", "Adam's step size in trigger optimisation and prompt tuning.", above=0)
    implant_epochs: int = option(20, "training", "Number of epochs of implanting (PEA).", minimum=1)
    implant_learning_rate: float = option(1e-3, "training", "Adam's step size in implanting (PEA).", above=0)
    finetune_epochs: int = option(20, "training", "Maximum number of epochs of fine-tuning.", minimum=1)
    finetune_learning_rate: float = option(1e-3, "training", "Adam's step size in fine-tuning.", above=0)

    def __post_init__(self):
        check_options(self)
        for name in ("rate", "usages", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(
                    f"--{name}: needs at least one value, and each only once, got {','.join(map(str, values)) or 'none'}"
                )

    def rates(self) -> tuple[float, ...]:
        """Rates of the models: 0, the clean one, first."""
        return (0.0, *(rate for rate in self.rate if rate and self.scenario.attack != "clean"))

    def training(self, stage: str) -> TrainConfig:
        """How the "prompt", "implant" or "finetune" stages train."""
        epochs, learning_rate = (getattr(self, f"{stage}_{what}") for what in ("epochs", "learning_rate"))
        return dataclasses.replace(self.pretrain, epochs=epochs, learning_rate=learning_rate)

    def flat(self) -> dict:
        """Returns flag name -> JSON-like value, the parameters of all attacks and backbones included; see `from_flat`."""
        own = dataclasses.asdict(self)
        scenario, model, pretrain = (own.pop(name) for name in ("scenario", "model", "pretrain"))
        del scenario["parameters"]
        model = {name: value for name, value in model.items() if name not in (*_OF_THE_DATASET, "parameters")}
        defaults = {name: default for name, (default, _) in backbone_parameters().items()}
        model |= defaults | dict(self.model.parameters)
        flat = {**scenario, **self.scenario.all_parameters(), **model, **pretrain, **own}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> "ExperimentConfig":
        """Undoes `flat`.

        Raises:
          UserError: a value is missing or impossible.
        """

        def part(kind, **given):
            names = [field.name for field in dataclasses.fields(kind) if field.name not in given]
            return kind(**{name: flat[name] for name in names}, **given)

        parameters = {name: flat[name] for name in attack_parameters() if name in flat}
        of_backbone = {name: default for name, (default, _) in backbone_parameters().items()}
        of_backbone = {name: flat[name] for name, default in of_backbone.items() if flat.get(name, default) != default}
        try:
            config = part(
                cls,
                scenario=part(Scenario, parameters=parameters, evade=tuple(flat.get("evade", ()))),
                model=part(ModelConfig, parameters=of_backbone, **_OF_THE_DATASET),
                pretrain=part(TrainConfig),
                **{name: tuple(flat[name]) for name in ("rate", "usages", "seeds")},
            )
            missing = config.scenario.own_parameters().keys() - parameters.keys()
            if missing:  # those of other attacks may be missing: they can be registered at any time
                raise KeyError(*missing)
            return config
        except (KeyError, TypeError) as error:
            raise UserError(f"not the configuration of a run of this program ({error!r})") from error
