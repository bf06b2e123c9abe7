"""What is run: a scenario (who attacks whom, and how), a model, how it is trained. Plain data, one field a flag."""

import dataclasses

from prec_backdoor.attacks import ATTACKS, Poison, clean
from prec_backdoor.errors import UserError
from prec_backdoor.models import ModelConfig
from prec_backdoor.train.step import TrainConfig

USAGES = ("zero_shot", "fine_tune")


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Names and meanings are those of the flags of launch.experiment."""

    attack: str = "bra"
    scope: str = "group"
    group: str | None = None
    targets: str = "unpopular:10"
    k_core: int = 5
    windows: str = "recent"

    def poison(self) -> Poison:
        """What the attack does to a batch in pre-training.

        Raises:
          UserError: unknown attack, or one that has no such scope.
        """
        if self.attack == "clean":
            return clean
        if (self.attack, self.scope) not in ATTACKS:
            known = ", ".join(f"--attack={attack} --scope={scope}" for attack, scope in ATTACKS)
            raise UserError(f"no attack {self.attack} of scope {self.scope}; there are --attack=clean, {known}")
        return ATTACKS[self.attack, self.scope]


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that results depend on, the dataset apart."""

    scenario: Scenario = Scenario()
    rate: tuple[float, ...] = (0.1,)
    usages: tuple[str, ...] = USAGES
    seeds: tuple[int, ...] = (0,)
    model: ModelConfig = ModelConfig(num_items=0)  # num_items is the dataset's
    pretrain: TrainConfig = TrainConfig()
    finetune_epochs: int = 20
    finetune_learning_rate: float = 1e-3

    def __post_init__(self):
        for rate in self.rate:
            if not 0 <= rate <= 1:
                raise UserError(f"--rate: {rate} is not a probability; give a number from 0 to 1")
        for usage in self.usages:
            if usage not in USAGES:
                raise UserError(f"--usages: '{usage}' is none of {', '.join(USAGES)}")
        for name in ("rate", "usages", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"--{name}: needs at least one value, and none twice")
        if min(self.seeds) < 0:
            raise UserError(f"--seeds: must not be negative, as {min(self.seeds)} is")
        if self.scenario.k_core < 1:
            raise UserError(f"--k_core: must be at least 1, not {self.scenario.k_core}")
        for name in ("finetune_epochs", "finetune_learning_rate"):
            if not getattr(self, name) > 0:  # nan is neither
                raise UserError(f"--{name}: must be positive, not {getattr(self, name)}")

    @property
    def finetune(self) -> TrainConfig:
        """How the downstream company trains: as the provider, but for how long and how fast."""
        return dataclasses.replace(self.pretrain, epochs=self.finetune_epochs, learning_rate=self.finetune_learning_rate)

    def flat(self) -> dict:
        """As the flags say it: one level, JSON-like; see `from_flat`."""
        own = dataclasses.asdict(self)
        parts = [own.pop(name) for name in ("scenario", "model", "pretrain")]
        flat = {**parts[0], **parts[1], **parts[2], **own}
        del flat["num_items"]
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
                model=part(ModelConfig, num_items=0),
                pretrain=part(TrainConfig),
                **{name: tuple(flat[name]) for name in ("rate", "usages", "seeds")},
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"not the configuration of a run of this program ({error!r})") from error
