"""The whole pipeline of configurations: pre-train clean and attacked, use downstream, measure; every step resumable."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from prec_backdoor import pipeline
from prec_backdoor import workdir as work
from prec_backdoor.config import ExperimentConfig
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import unseen
from prec_backdoor.pipeline import Measured, Source
from prec_backdoor.setting import Setting, make_setting
from prec_backdoor.train import parallel
from prec_backdoor.train.stage import SECONDS_PER_CHECKPOINT, Job, run_jobs

_STAGES = {"prompt_tune": pipeline.prompt_tune, "fine_tune": pipeline.finetune}


def run_experiment(
    interactions: Interactions,
    configs: Sequence[ExperimentConfig],
    folder: Path,
    say: Callable = print,
    tensorboard: bool = False,
    checkpoint_seconds: float = SECONDS_PER_CHECKPOINT,
    shard_items: bool = False,
) -> dict:
    """Runs what is not yet there of `configs` and returns the content of results.json.

    Args:
      configs: may differ in rates and, within the scenario, in attack, scope, targets, draw and demote_rate. Clean models, their
        fine-tuned and prompt-tuned versions and their triggers are trained once a seed and shared.
      tensorboard: see `workdir.metrics_log`.
      checkpoint_seconds: how often a stage under way is saved.
      shard_items: splits item tables over the devices.

    Raises:
      UserError: a scenario does not fit the dataset, or `folder` holds another run.
    """
    targets = {}
    for scenario in (config.scenario for config in configs):
        if targets.setdefault((scenario.scope, scenario.draw), scenario.targets) != scenario.targets:
            raise UserError(f"two {scenario.scope} attacks of draw {scenario.draw} have other targets; give them other draws")
    bases = [make_setting(interactions, configs[0], seed, shard_items) for seed in configs[0].seeds]
    settings = [[base.with_config(config) for config in configs] for base in bases]
    description = {"config": _merged([config.flat() for config in configs]), "dataset": bases[0].interactions.summary()}
    work.claim(folder, description)
    if (done := work.finished_results(folder)) is not None:
        say(f"{folder}: finished before; nothing to run")
        return done
    rows = [row for of_seed in settings for row in _run_seed(of_seed, folder, say, tensorboard, checkpoint_seconds)]
    return work.write_results(folder, description, rows, work.timings(folder))


def _merged(configs: list[dict]) -> dict:
    """One configuration that has a list, an entry for each of `configs`, where these differ."""
    columns = {name: [config[name] for config in configs] for name in configs[0]}
    return {name: column[0] if all(value == column[0] for value in column) else column for name, column in columns.items()}


def _run_seed(settings: list[Setting], folder: Path, say: Callable, tensorboard: bool, checkpoint_seconds: float) -> list[dict]:
    """The rows of one seed; `settings` has one for each configuration. Only what has not been measured is trained or loaded."""
    base, said = settings[0], set()
    work.save_test_users(folder, base.seed, test_users(base))

    def run(stage: Callable, setting: Setting, starts: dict, **how) -> list[Source]:
        """Runs `stage` for each model's name -> what it starts from."""
        places = [f"seed-{base.seed}/{name}" for name in starts]
        jobs = [
            stage(
                setting,
                start,
                folder=folder / place / stage.__name__,
                log=work.metrics_log(folder, place, tensorboard),
                checkpoint_seconds=checkpoint_seconds,
                run=Job,
                **how,
            )
            for place, start in zip(places, starts.values(), strict=True)
        ]
        results = run_jobs(jobs)
        for place, result in zip(places, results, strict=True):
            line = f"{place:<36}{stage.__name__:<18}epoch {result.epoch:>3}  ndcg@10 {result.score:.4f}  {result.seconds:6.1f} s"
            if line not in said:  # a clean model serves several attacks
                say(line)
                said.add(line)
        return [Source(result.params, result.hash) for result in results]

    @functools.cache
    def clean() -> Source:
        return run(pipeline.pretrain, base, {"clean": 0.0})[0]

    @functools.cache
    def trigger() -> Source:
        return run(pipeline.optimize_trigger, base, {"clean": clean()})[0]

    def provide(setting: Setting, names: dict[float, str]) -> list[Source]:
        """What the provider hands out, for each rate; `names` are the models'."""
        attacked = {rate: name for rate, name in names.items() if rate}
        if setting.config.scenario.method().prompted:
            made = run(pipeline.implant, setting, {name: trigger()._replace(rate=rate) for rate, name in attacked.items()})
        else:
            made = run(pipeline.pretrain, setting, {name: rate for rate, name in attacked.items()})
        sources = {rate: source._replace(rate=rate) for rate, source in zip(attacked, made, strict=True)}
        return [sources[rate] if rate else clean() for rate in names]

    rows, measured = [], {}
    for setting in settings:
        cells = {
            usage: [pipeline.cell_of(setting, rate, usage) for rate in setting.config.rates()] for usage in setting.config.usages
        }
        provided = {}
        for usage, of_usage in cells.items():
            missing = {cell["rate"]: work.model_name(cell) for cell in of_usage if not work.ranks_path(folder, cell).exists()}
            new = {rate: name for rate, name in missing.items() if rate not in provided}
            provided |= dict(zip(new, provide(setting, new), strict=True))
            used = [provided[rate] for rate in missing]
            if usage in _STAGES and missing:
                starts = dict(zip(missing.values(), used, strict=True))
                used = run(_STAGES[usage], setting, starts, watch=pipeline.watch_exposure(setting))
            for rate, source in zip(missing, used, strict=True):
                path = work.ranks_path(folder, pipeline.cell_of(setting, rate, usage))
                save_measured(path, setting, pipeline.measure(setting, source.params))
        parallel.wait("ranks")  # of the process that writes them
        for cell in (cell for of_usage in cells.values() for cell in of_usage):
            path = work.ranks_path(folder, cell)
            if path in measured:  # the clean model, for another attack on the same targets
                continue
            measured[path] = Measured(**work.load_ranks(path))
            reference = measured[work.ranks_path(folder, pipeline.cell_of(setting, 0.0, cell["usage"]))]
            rows += pipeline.result_rows(setting, cell, measured[path], reference)
    return rows


def save_measured(path: Path, setting: Setting, measured: Measured) -> None:
    """Keeps the ranks of a cell, for resuming and for the report."""
    pairs = unseen(setting.test.history, setting.targets)
    work.save_ranks(path, measured.truth, np.where(pairs, measured.targets, np.nan))


def test_users(setting: Setting) -> pl.DataFrame:
    """Who is tested: user_id, in_group, and a column for each profile attribute."""
    interactions, users = setting.interactions, setting.test.users
    profile = np.asarray(interactions.profile)[users]
    columns = {name: np.array(values)[profile[:, index]] for index, (name, values) in enumerate(interactions.attributes.items())}
    return pl.DataFrame({"user_id": interactions.user_ids[users], "in_group": setting.members(), **columns})
