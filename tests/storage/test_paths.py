"""Paths may be text wherever the Python API takes them."""

import dataclasses
import inspect
import json
import os
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from toys import assert_same_trees, lively_params, tiny_model

from prec_backdoor.audit import report as audit_report
from prec_backdoor.audit.reading import read_audit
from prec_backdoor.experiment import opened, plan, run
from prec_backdoor.leaderboard import progress as leaderboard_progress
from prec_backdoor.leaderboard import report as leaderboard_report
from prec_backdoor.leaderboard import run as leaderboard_run
from prec_backdoor.reporting import report
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage import workdir as work
from prec_backdoor.storage.training_log import metrics_log
from prec_backdoor.train.stage import RunOptions

MODEL = tiny_model(num_items=9, num_layers=1, max_length=5)
METADATA = {"stage": "pretrain", "finished": True, "model": dataclasses.asdict(MODEL), "dataset": {"name": "toy"}}
CELL = {"attack": "clean", "scope": "group", "rate": 0.0, "usage": "zero_shot", "seed": 3, "draw": 0}


@pytest.fixture(params=[str, Path, "home", "parent"])
def folder(request, tmp_path, tmp_path_factory, monkeypatch):
    """A folder as text, as a path, as text that begins with ~, and as text that begins with two dots."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path_factory.mktemp("beside"))
    texts = {"home": "~/run", "parent": f"../{tmp_path.name}/run"}
    return texts[request.param] if request.param in texts else request.param(tmp_path / "run")


def test_checkpoints(folder, tmp_path):
    params = jax.tree.map(np.asarray, lively_params(MODEL))
    where = f"{folder}/checkpoints" if isinstance(folder, str) else folder / "checkpoints"
    assert checkpoints.progress(where) is checkpoints.resume(where, params, None) is None
    checkpoints.save(where, 4, params, None, METADATA)
    assert_same_trees(checkpoints.load(folder).params, params)
    assert_same_trees(checkpoints.resume(where, params, None)[0], params)
    assert checkpoints.progress(where)["step"] == 4
    assert (tmp_path / "run" / "checkpoints" / "4").is_dir()


def test_workdirs(folder, tmp_path):
    description = {"config": {"rate": 0.1}, "dataset": {}}
    assert not work.check_claim(folder, description)
    work.claim(folder, description)
    assert work.check_claim(folder, description)
    metrics_log(folder, "a")({"stage": "s", "step": 1, "seconds": 2.0})
    work.set_timings(folder, "a/s", {"train": 2.0})
    assert work.timings(folder) == {"a/s": {"train": 2.0}}
    path = work.ranks_path(folder, CELL)
    work.save_ranks(str(path), np.ones(3), np.ones((3, 2)), "cpu")
    assert set(work.load_ranks(str(path))) == {"truth", "targets", "platform"}
    work.save_test_users(folder, 3, pl.DataFrame({"user_id": ["a"], "in_group": [True]}))
    assert work.load_test_users(folder, 3)["in_group"].to_list() == [True]
    work.write_results(folder, description, [{"hr@10": 0.5}], {})
    assert work.finished_results(folder)["rows"] == [{"hr@10": 0.5}]
    work.write_json(f"{folder}/more.json", {"a": 1})
    assert json.loads((tmp_path / "run" / "more.json").read_text()) == {"a": 1}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "timings.json", "seed-3", "results.csv", "results.json", "more.json"
    }  # fmt: skip
    assert os.listdir(tmp_path) == ["run"]


def test_options():
    assert RunOptions(folder="a").subfolder("b") == Path("a/b") and RunOptions().subfolder("b") is None


PUBLIC = [
    *(checkpoints.save, checkpoints.load, checkpoints.progress, checkpoints.resume),
    *(work.claim, work.check_claim, work.finished_results, work.write_results, work.ranks_path, work.save_ranks, work.load_ranks),
    *(
        work.save_test_users,
        work.load_test_users,
        work.set_timings,
        work.timings,
        metrics_log,
        work.write_json,
        work.replacing,
    ),
    *(opened.open_checkpoint, plan.missing, plan.describe_plan, run.Output, RunOptions, run.run_experiment),
    *(report.summary_table, report.write_report, audit_report.write_audit, read_audit),
    *(leaderboard_report.write_leaderboard, leaderboard_run.run_contest, leaderboard_progress.describe_plan),
]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__qualname__)
def test_what_is_declared(function):
    """The functions that are tested only with large inputs at least say so; their programs call them with paths."""
    parameters = inspect.signature(function).parameters
    (path,) = (parameters[name] for name in ("folder", "path", "output") if name in parameters)
    assert str in path.annotation.__args__
