"""The whole pipeline of one configuration: pre-train clean and attacked, use downstream, measure; every step resumable."""

from collections.abc import Callable
from pathlib import Path

from prec_backdoor import workdir as work
from prec_backdoor.config import ExperimentConfig
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.pipeline import Measured, finetune, measure, pretrain, result_rows, save_measured
from prec_backdoor.setting import Setting, make_setting
from prec_backdoor.train.stage import StageResult


def run_experiment(interactions: Interactions, config: ExperimentConfig, folder: Path, say: Callable = print) -> dict:
    """Runs what is not yet there of a configuration and returns the content of results.json.

    Raises:
      UserError: the scenario does not fit the dataset, or `folder` holds another run.
    """
    settings = [make_setting(interactions, config, seed) for seed in config.seeds]
    description = {"config": config.flat(), "dataset": settings[0].interactions.summary()}
    work.claim(folder, description)
    if (done := work.finished_results(folder)) is not None:
        say(f"{folder}: finished before; nothing to run")
        return done
    rows, timings = [], {}
    for setting in settings:
        rows += _run_seed(setting, folder, timings, say)
    return work.write_results(folder, description, rows, timings)


def _run_seed(setting: Setting, folder: Path, timings: dict, say: Callable) -> list[dict]:
    config = setting.config
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

        provided = note("pretrain", pretrain(setting, rate, cell_folder / "pretrain", log))
        for usage in config.usages:
            used = provided
            if usage == "fine_tune":
                stage_folder = cell_folder / "finetune"
                tuned = finetune(setting, provided.params, provided.hash, rate, stage_folder, log)
                used = note("finetune", tuned)
            measured = measure(setting, used.params)
            save_measured(cell_folder / f"{usage}.npz", setting, measured)
            cell = {"attack": attack, "rate": rate, "usage": usage}
            rows += result_rows(setting, measured, clean_measured.setdefault(usage, measured), cell)
    return rows
