"""Runs a contest: executes its plan, seed by seed. A finished row is read from its file, so that the same call continues."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from prec_backdoor.audit.audit import audit_model
from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of
from prec_backdoor.audit.calibration import calibration_models
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.reference import Reference, reference_of
from prec_backdoor.audit.report import trigger_items
from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import cutoffs
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.measure import measure
from prec_backdoor.experiment.plan import StageTask
from prec_backdoor.experiment.run import stage_run
from prec_backdoor.experiment.setup import SeedSetup, make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.leaderboard.attackers import ATTACKERS
from prec_backdoor.leaderboard.config import ContestConfig
from prec_backdoor.leaderboard.pages import page_of, write_page
from prec_backdoor.leaderboard.plan import AuditTask, CalibrationTask, Cell, ContestPlan, RepairTask, last_uses, make_plan, needs
from prec_backdoor.leaderboard.progress import is_void, missing, read_row
from prec_backdoor.leaderboard.rows import EXPOSURE_AT, clean_row, detection_row, repair_row
from prec_backdoor.repairs.registry import REPAIRS, check_repair
from prec_backdoor.storage import workdir as work
from prec_backdoor.storage.training_log import metrics_log
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions


class Seed(NamedTuple):
    """What all tasks of one seed share.

    Attributes:
      setups: one for each configuration of the plan.
      auditor_data: of the downstream users.
      audit: settings of all audits.
      p_value: level up to which items are suspects.
      folder: the workdir.
    """

    setups: list[SeedSetup]
    auditor_data: AuditorData
    audit: AuditConfig
    p_value: float
    folder: Path

    def options(self, path: str) -> RunOptions:
        """How to run what is kept in the folder `path`."""
        return RunOptions(folder=self.folder / path, log=metrics_log(self.folder, path), title=path)


def run_contest(
    interactions: Interactions,
    base: ExperimentConfig,
    contest: ContestConfig,
    audit: AuditConfig,
    folder: str | Path,
    say: Callable[[str], None] = print,
) -> dict:
    """Runs what is not finished in `folder` and returns the rows: {"detection": [...], "repairs": [...]}.

    Each row has the path of its model's audit page.

    Args:
      base: a clean configuration with the target group; attackers change its scenario.
      say: called with a line for each audited model.

    Raises:
      UserError: an attack does not fit the dataset, or a repair does not fit the model; before anything is trained.
    """
    folder, plan = work.as_path(folder), plan_contest(interactions, base, contest, audit)
    to_do = missing(plan, folder)
    for repair in contest.repairs if to_do else ():
        check_repair(repair, base.model)
    rows = {"detection": [], "repairs": []}
    for number, of_seed in itertools.groupby(plan.cells(), lambda cell: cell.seed):
        cells, seed = list(of_seed), None
        if any(cell in to_do for cell in cells):
            setup = make_setup(interactions, base, number)
            _check_cutoff(setup)
            setups = [setup.with_config(config) for config in plan.configs]
            seed = Seed(setups, auditor_data_of(setup, audit.histories), audit, contest.p_value, folder)
        for cell, row in run_cells(plan, cells, seed, folder):
            is_audit = isinstance(cell, AuditTask)
            row["page"] = page_of(cell.path if is_audit else cell.audit)
            rows["detection" if is_audit else "repairs"].append(row)
            if is_audit:
                row.pop("suspects", None)
                say(_line(row))
    return rows


def plan_contest(interactions: Interactions, base: ExperimentConfig, contest: ContestConfig, audit: AuditConfig) -> ContestPlan:
    """Returns the plan of `run_contest`; the size of the catalogue decides the number of calibration models."""
    num_items = k_core(interactions, base.scenario.k_core).num_items
    return make_plan(base, contest, audit.num_models(num_items))


def run_cells(plan: ContestPlan, cells: Sequence[Cell], seed: Seed | None, folder: Path) -> Iterator[tuple[Cell, dict]]:
    """Yields the cells of a seed that are not void, with their rows; `seed` is None if all of them are finished."""
    results, last = {}, last_uses(plan)
    for _, each in itertools.groupby(cells, lambda cell: cell.attacker):
        of_attacker = list(each)
        for cell in of_attacker:
            if not is_void(cell, folder):
                yield cell, dict(read_row(folder / cell.path) or result_of(cell.path, plan, seed, results))
            results = {path: result for path, result in results.items() if last[path] != cell.path}
        if any(isinstance(cell, RepairTask) for cell in of_attacker):
            # Each number of suspects has its own program for `suppress`, and a process can map a limited number of programs.
            jax.clear_caches()


def result_of(path: str, plan: ContestPlan, seed: Seed, results: dict[str, Any]) -> Any:
    """Returns the result of a task: from `results`, from the file of a finished row, or by running it after what it needs."""
    if path not in results:
        task = plan.tasks[path]
        result = read_row(seed.folder / path) if isinstance(task, Cell) else None
        if result is None:
            result = _RUN[type(task)](task, seed, *(result_of(each, plan, seed, results) for each in needs(task)))
            if isinstance(task, Cell):
                result = _keep(seed.folder / path, result)
        results[path] = result
    return results[path]


def _check_cutoff(setup: SeedSetup) -> None:
    """Raises a UserError if no model can fail to show an item among the first EXPOSURE_AT."""
    items, longest = setup.interactions.num_items, setup.test.history.shape[1]
    if EXPOSURE_AT not in cutoffs(items, longest):
        raise UserError(
            f"dataset {setup.interactions.name}: {items} items and test histories of up to {longest} leave too few for HR@"
            f"{EXPOSURE_AT}, by which exposure is compared; lower --k_core or take more data"
        )


def _keep(path: Path, row: dict) -> dict:
    """Writes a row and returns it as it is read again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work.write_json(path, row)
    return read_row(path)


def _train(task: StageTask, seed: Seed, *starts: StartPoint) -> StartPoint:
    run = stage_run(task, seed.setups[task.config], *starts)
    return StartPoint.after(run_stage(run._replace(options=seed.options(task.path))), task.rate)


def _calibrate(task: CalibrationTask, seed: Seed) -> Reference:
    setup = seed.setups[0]
    model = setup.prompted if task.prompted else setup.model
    models = calibration_models(seed.auditor_data, model, setup.config.pretrain, seed.audit, seed.options(task.path))
    return reference_of(models, model, seed.auditor_data)


def _audit(task: AuditTask, seed: Seed, start: StartPoint, reference: Reference, clean: StartPoint | None = None) -> dict:
    setup = seed.setups[task.config]
    result = audit_model(start.params, setup.model_of(start.params), seed.auditor_data, reference, seed.audit)
    write_page(seed.folder, task.path, setup, result, seed.audit, (task.model, start.hash))
    if clean is None:
        return clean_row(setup, task.attacker, result)
    ranks = (measure(setup, each.params) for each in (start, clean))
    row = detection_row(setup, task.attacker, ATTACKERS[task.attacker], result, *ranks)
    suspects = np.union1d(1 + np.flatnonzero(result.p_value <= seed.p_value), trigger_items(result, seed.p_value))
    return row | {"suspects": suspects.tolist()}  # as of `choose_suspects`


def _repair(task: RepairTask, seed: Seed, detection: dict, start: StartPoint, clean: StartPoint) -> dict:
    setup, suspects = seed.setups[task.config], np.array(detection["suspects"], np.int32)
    options = seed.options(str(Path(task.path).parent))
    run = REPAIRS[task.repair](setup, start, suspects, options)
    repaired = run_stage(run._replace(options=options))
    return repair_row(setup, detection, task.repair, *(measure(setup, each.params) for each in (repaired, clean)))


_RUN = {StageTask: _train, CalibrationTask: _calibrate, AuditTask: _audit, RepairTask: _repair}


def _line(row: dict) -> str:
    """The line about an audited model."""
    line = f"seed {row['seed']}  {row['attacker']:<20} "
    if "auc" not in row:
        return f"{line}{row['verdict']}"
    return f"{line}draw {row['draw']}  auc {row['auc']:.3f}  {row['verdict']:<10}  {row['group'] or ''}"
