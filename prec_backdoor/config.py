"""What is run: a scenario (who attacks whom, and how), a model, how it is trained. Plain data, one field a flag."""

import dataclasses

from prec_backdoor.attacks import ATTACKS, Attack, check_probability, clean
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig
from prec_backdoor.train.step import TrainConfig

USAGES = ("zero_shot", "prompt_tune", "fine_tune")
_OF_THE_DATASET = {"num_items": 0, "prompt_length": 0, "profile_sizes": ()}  # fields of the clean model that no flag sets


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Names and meanings are those of the flags of launch.experiment."""

    attack: str = "bra"
    scope: str = "group"
    group: str | None = None
    targets: str = "unpopular:10"
    draw: int = 0
    demote_rate: float = 0.1
    k_core: int = 5
    windows: str = "recent"

    def __post_init__(self):
        check_probability("demote_rate", self.demote_rate)
        if self.k_core < 1:
            raise UserError(f"--k_core: must be at least 1, not {self.k_core}")

    def method(self) -> Attack:
        """The attack's entry in the registry; for `clean` one that does nothing.

        Raises:
          UserError: unknown attack, or one that has no such scope.
        """
        if self.attack == "clean":
            return Attack(clean, default_rate=0.0)
        if (self.attack, self.scope) not in ATTACKS:
            known = ", ".join(f"--attack={attack} --scope={scope}" for attack, scope in ATTACKS)
            raise UserError(f"no attack {self.attack} of scope {self.scope}; there are --attack=clean, {known}")
        return ATTACKS[self.attack, self.scope]


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that results depend on, the dataset apart.

    `pretrain` is how every stage trains, but for how long and how fast: `prompt_*` is for trigger optimisation and prompt tuning.
    """

    scenario: Scenario = Scenario()
    rate: tuple[float, ...] = (0.1,)
    usages: tuple[str, ...] = ("zero_shot", "fine_tune")
    seeds: tuple[int, ...] = (0,)
    model: ModelConfig = ModelConfig(num_items=0)  # of the clean model; num_items is the dataset's
    pretrain: TrainConfig = TrainConfig()
    prompt_length: int = 1
    prompt_epochs: int = 20
    prompt_learning_rate: float = 4e-3
    implant_epochs: int = 20
    implant_learning_rate: float = 1e-3
    finetune_epochs: int = 20
    finetune_learning_rate: float = 1e-3

    def __post_init__(self):
        for rate in self.rate:
            check_probability("rate", rate)
        for usage in self.usages:
            if usage not in USAGES:
                raise UserError(f"--usages: '{usage}' is none of {', '.join(USAGES)}")
        for name in ("rate", "usages", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"--{name}: needs at least one value, and none twice")
        if min(self.seeds) < 0:
            raise UserError(f"--seeds: must not be negative, as {min(self.seeds)} is")
        for name in (
            "prompt_length",
            *(f"{stage}_{what}" for stage in ("prompt", "implant", "finetune") for what in ("epochs", "learning_rate")),
        ):
            if not getattr(self, name) > 0:  # nan is neither
                raise UserError(f"--{name}: must be positive, not {getattr(self, name)}")

    def rates(self) -> tuple[float, ...]:
        """Of the models to be made: 0, the clean one, first."""
        return (0.0, *(rate for rate in self.rate if rate and self.scenario.attack != "clean"))

    def training(self, stage: str) -> TrainConfig:
        """How the "prompt", "implant" or "finetune" stages train."""
        epochs, learning_rate = (getattr(self, f"{stage}_{what}") for what in ("epochs", "learning_rate"))
        return dataclasses.replace(self.pretrain, epochs=epochs, learning_rate=learning_rate)

    def flat(self) -> dict:
        """As the flags say it: one level, JSON-like; see `from_flat`."""
        own = dataclasses.asdict(self)
        scenario, model, pretrain = (own.pop(name) for name in ("scenario", "model", "pretrain"))
        flat = {**scenario, **{name: model[name] for name in model if name not in _OF_THE_DATASET}, **pretrain, **own}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}

    @classmethod
    def from_flat(cls, flat: dict) -> "ExperimentConfig":
        """Undoes `flat`.

        Raises:
          UserError: a value is missing, unknown or impossible.
        """

        def part(kind, **given):
            names = [field.name for field in dataclasses.fields(kind) if field.name not in given]
            return kind(**{name: flat[name] for name in names}, **given)

        try:
            return part(
                cls,
                scenario=part(Scenario),
                model=part(ModelConfig, **_OF_THE_DATASET),
                pretrain=part(TrainConfig),
                **{name: tuple(flat[name]) for name in ("rate", "usages", "seeds")},
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"not the configuration of a run of this program ({error!r})") from error
