"""The pipeline of one scenario: pre-train clean and attacked, use downstream, measure; every step resumable."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prec_backdoor import workdir as work
from prec_backdoor.attacks import clean
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import accuracy, exposure, lift, ranks, unseen
from prec_backdoor.models import ModelConfig, init_params
from prec_backdoor.scenario import Scenario, Setting, make_setting
from prec_backdoor.train.stage import Stage, StageResult, run_stage
from prec_backdoor.train.step import TrainConfig

USAGES = ("zero_shot", "fine_tune")


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
            if not getattr(self, name):
                raise UserError(f"--{name}: needs at least one value")

    @property
    def finetune(self) -> TrainConfig:
        """How the downstream company trains: as the provider, but for how long and how fast."""
        return dataclasses.replace(
            self.pretrain, epochs=self.finetune_epochs, learning_rate=self.finetune_learning_rate
        )

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


class Measured(NamedTuple):
    """Ranks on the test queries: of the real next items [U], and of the targets [U, K]."""

    truth: np.ndarray
    targets: np.ndarray


def pretrain(setting: Setting, config: ExperimentConfig, rate: float, folder: Path | None, log: Callable) -> StageResult:
    """The provider's stage; with rate 0 its clean counterpart, which differs in nothing else."""
    stage = Stage("pretrain", config.pretrain, config.scenario.poison() if rate else clean)
    model = dataclasses.replace(config.model, num_items=setting.interactions.num_items)
    params = init_params(setting.role_key("init"), model)
    metadata = _metadata(setting, config, rate, parent=None)
    key = setting.role_key("pretrain")
    return run_stage(stage, model, params, setting.pretrain, setting.spec(rate), key, folder, metadata, log)


def finetune(
    setting: Setting, config: ExperimentConfig, params: dict, parent: str, rate: float, folder: Path | None, log: Callable
) -> StageResult:
    """The downstream company's stage: everything trains on, on clean data."""
    stage = Stage("finetune", config.finetune)
    model = dataclasses.replace(config.model, num_items=setting.interactions.num_items)
    metadata = _metadata(setting, config, rate, parent)
    key = setting.role_key("finetune")
    return run_stage(stage, model, params, setting.finetune, setting.spec(rate), key, folder, metadata, log)


def measure(setting: Setting, model: ModelConfig, params: dict) -> Measured:
    """Ranks the real next item and all targets for every downstream user."""
    model = dataclasses.replace(model, num_items=setting.interactions.num_items)
    targets = np.broadcast_to(setting.targets, (len(setting.test.users), len(setting.targets)))
    found = ranks(params, model, setting.test.history, np.concatenate([setting.test.truth[:, None], targets], axis=1))
    return Measured(found[:, 0], found[:, 1:])


def result_rows(setting: Setting, measured: Measured, clean_measured: Measured, cell: dict) -> Iterator[dict]:
    """One row for each segment of users: all, and, where the scenario names a group, target and rest."""
    history, targets, num_items = setting.test.history, setting.targets, setting.interactions.num_items
    segments = {"all": np.ones(len(history), bool)}
    if setting.in_group is not None:
        segments |= {"target": setting.members(), "rest": ~setting.members()}
    for name, chosen in segments.items():
        pairs = unseen(history[chosen], targets)
        yield {
            **cell,
            "users": name,
            "seed": setting.seed,
            "n_users": int(chosen.sum()),
            "n_targets": len(targets),
            **accuracy(measured.truth[chosen], history[chosen], num_items),
            **exposure(measured.targets[chosen], history[chosen], targets, num_items),
            **lift(measured.targets[chosen], clean_measured.targets[chosen], pairs, num_items),
        }


def run_experiment(interactions: Interactions, config: ExperimentConfig, folder: Path, say: Callable = print) -> dict:
    """Runs what is not yet there of a scenario and returns the content of results.json.

    Raises:
      UserError: the scenario does not fit the dataset, or `folder` holds another experiment.
    """
    settings = [make_setting(interactions, config.scenario, seed, config.model.max_length) for seed in config.seeds]
    description = {"config": config.flat(), "dataset": settings[0].interactions.summary()}
    work.claim(folder, description)
    if (done := work.finished_results(folder)) is not None:
        say(f"{folder}: finished before; nothing to run")
        return done
    rows, timings = [], {}
    for setting in settings:
        rows += _run_seed(setting, config, folder, timings, say)
    results = {"schema": work.RESULTS_SCHEMA, **description, "rows": rows, "timings": timings}
    work.write_results(folder, results)
    return results


def _run_seed(setting: Setting, config: ExperimentConfig, folder: Path, timings: dict, say: Callable) -> list[dict]:
    rates = (0.0, *(rate for rate in config.rate if rate)) if config.scenario.attack != "clean" else (0.0,)
    clean_measured: dict[str, Measured] = {}
    rows = []
    for rate in rates:
        attack = config.scenario.attack if rate else "clean"
        cell_folder = work.cell_folder(folder, setting.seed, attack, rate)
        name = str(cell_folder.relative_to(folder))
        log = work.metrics_log(folder, name)

        def note(stage: str, result: StageResult, name=name) -> StageResult:
            timings[f"{name}/{stage}"] = round(result.seconds, 3)
            say(f"{name:<24}{stage:<10}epoch {result.epoch:>3}  ndcg@10 {result.score:.4f}  {result.seconds:6.1f} s")
            return result

        provided = note("pretrain", pretrain(setting, config, rate, cell_folder / "pretrain", log))
        for usage in config.usages:
            used = provided
            if usage == "fine_tune":
                stage_folder = cell_folder / "finetune"
                used = note(
                    "finetune", finetune(setting, config, provided.params, provided.hash, rate, stage_folder, log)
                )
            measured = measure(setting, config.model, used.params)
            work.save_ranks(
                cell_folder / f"{usage}.npz",
                setting.test.users,
                setting.members(),
                measured.truth,
                np.where(unseen(setting.test.history, setting.targets), measured.targets, np.nan),
            )
            cell = {"attack": attack, "scope": config.scenario.scope, "rate": rate, "demote_rate": None, "usage": usage}
            rows += result_rows(setting, measured, clean_measured.setdefault(usage, measured), cell)
    return rows


def _metadata(setting: Setting, config: ExperimentConfig, rate: float, parent: str | None) -> dict:
    config = dataclasses.replace(config, rate=(rate,), seeds=(setting.seed,))
    return {"dataset": setting.interactions.summary(), "config": config.flat(), "parent": parent}
