import itertools
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prec_backdoor.errors import UserError
from prec_backdoor.storage import workdir as work
from prec_backdoor.storage.training_log import metrics_log, replaced_labels

CELL = {"attack": "pea", "scope": "group", "rate": 0.35, "demote_rate": 0.1, "usage": "zero_shot", "seed": 3, "draw": 0}


def test_names_by_hand():
    assert work.model_name(CELL) == "pea-group-0.35-demote_rate-0.1"
    assert work.model_name(CELL | {"draw": 2}) == "pea-group-0.35-demote_rate-0.1-draw-2"
    assert work.model_name(CELL | {"rate": 0.1234567}) != work.model_name(CELL | {"rate": 0.12345671})
    assert work.model_name(CELL | {"attack": "bra", "rate": 1.0, "demote_rate": None}) == "bra-group-1.0"
    clean = CELL | {"attack": "clean", "rate": 0.0, "demote_rate": None}
    assert work.model_name(clean) == work.model_name(clean | {"draw": 2, "scope": "global"}) == "clean"
    ranks = Path("run/seed-3/ranks")
    assert work.ranks_path(Path("run"), CELL) == ranks / "pea-group-0.35-demote_rate-0.1-zero_shot.npz"
    assert work.ranks_path(Path("run"), clean | {"draw": 2}) == ranks / "clean-group-draw-2-zero_shot.npz"


def test_no_two_cells_share_their_ranks():
    attacked = [
        {"attack": attack, "rate": rate, "demote_rate": demote_rate}
        for attack, demote_rates in (("bra", (None,)), ("pea", (0.0, 0.1, 0.5)))
        for rate, demote_rate in itertools.product((0.05, 0.1, 0.5, 1.0), demote_rates)
    ]
    models = [{"attack": "clean", "rate": 0.0, "demote_rate": None}, *attacked]
    paths = [
        work.ranks_path(Path("run"), {**model, "scope": scope, "usage": usage, "seed": seed, "draw": draw})
        for model in models
        for scope in ("global", "group")
        for usage in ("zero_shot", "prompt_tune", "fine_tune")
        for seed in (0, 1, 11)
        for draw in (0, 1, 11)
    ]
    assert len(set(paths)) == len(paths)


def test_ranks_come_back(tmp_path):
    truth, targets = np.array([1.0, 2.5, 7]), np.array([[1, np.nan], [3.5, 4], [np.nan, np.nan]])
    path = work.ranks_path(tmp_path, CELL)
    work.save_ranks(path, truth, targets, "tpu")
    found = work.load_ranks(path)
    assert set(found) == {"truth", "targets", "platform"} and found["platform"] == "tpu"
    np.testing.assert_array_equal(found["truth"], truth)
    np.testing.assert_array_equal(found["targets"], targets)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_test_users_come_back_as_text(tmp_path):
    users = pl.DataFrame({"user_id": ["007", 'a,"b"', "true"], "in_group": [True, False, True], "age": ["10-19", "", "1e3"]})
    work.save_test_users(tmp_path, 3, users)
    assert_frame_equal(work.load_test_users(tmp_path, 3), users)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    work.write_json(path, {"rows": [1]})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        work.write_json(path, {"rows": object()})
    with pytest.raises(OSError, match="disk full"), work.replacing(path) as partial:
        partial.write_text("half")
        assert path.read_bytes() == before
        raise OSError("disk full")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def record(stage, step, loss):
    return {"stage": stage, "step": step, "loss": loss, "seconds": 1.0 * step}


def test_timings_are_kept_by_stage_and_activity(tmp_path):
    assert work.timings(tmp_path) == {}
    work.set_timings(tmp_path, "seed-0/clean/pretrain", {"compile": 1.0, "train": 2.00049})
    work.set_timings(tmp_path, "seed-0/clean/finetune", {"train": 3.0})
    work.set_timings(str(tmp_path), "seed-0/clean/pretrain", {"train": 4.0, "rank": 5.0})
    expected = {"seed-0/clean/pretrain": {"compile": 1.0, "train": 4.0, "rank": 5.0}, "seed-0/clean/finetune": {"train": 3.0}}
    assert work.timings(tmp_path) == expected == json.loads((tmp_path / "timings.json").read_text())


def test_what_a_resumed_stage_takes_again_is_recorded_once(tmp_path):
    log, other = metrics_log(tmp_path, "seed-0/clean"), metrics_log(tmp_path, "seed-1/clean")
    for step in (10, 20, 30):
        log(record("pretrain", step, 1.0))
        other(record("pretrain", step, 2.0))
    log(record("finetune", 20, 3.0))
    path = tmp_path / "metrics.jsonl"
    with open(path, "a") as file:
        file.write('{"run": "seed-0/clean", "stage": "pretr')  # cut off, as by a full disk
    resumed = metrics_log(tmp_path, "seed-0/clean")
    resumed(record("pretrain", 20, 4.0))
    resumed(record("pretrain", 30, 5.0))
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["run"][5], each["stage"], each["step"], each["loss"]) for each in found] == [
        ("0", "pretrain", 10, 1.0),
        *(("1", "pretrain", step, 2.0) for step in (10, 20, 30)),
        ("0", "finetune", 20, 3.0),
        ("0", "pretrain", 20, 4.0),
        ("0", "pretrain", 30, 5.0),
    ]


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut", b"\xff\xfe", b'{"a": [', b"[]"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, content):
    ranks, users = work.ranks_path(tmp_path, CELL), tmp_path / "seed-3" / "test_users.csv"
    read = {
        ranks: lambda: work.load_ranks(ranks),
        users: lambda: work.load_test_users(tmp_path, 3),
        tmp_path / "results.json": lambda: work.finished_results(tmp_path),
        tmp_path / "timings.json": lambda: work.timings(tmp_path),
    }
    ranks.parent.mkdir(parents=True)
    for path, reader in read.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{re.escape(str(path))}: damaged; remove it"):
            reader()
    ranks.unlink()
    with pytest.raises(FileNotFoundError):
        work.load_ranks(ranks)


@pytest.mark.parametrize("line", ['{"run": "a"', "[]", "5", '{"run": "a", "stage": "s"}'])
def test_a_damaged_record_is_named_by_its_line(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"run": "a", "stage": "s", "step": 1, "replaced": 0, "positions": 1}}\n{line}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl: damaged; remove line 2"):
        replaced_labels(tmp_path)


def test_a_record_of_a_table_is_a_line(tmp_path):
    content = {"a": {"b": [1, "é\n"]}, "rows": [{"x": 1, "y": [1, 2]}, {"x": 2, "y": []}], "none": []}
    work.write_json(tmp_path / "file.json", content)
    text = (tmp_path / "file.json").read_text()
    assert json.loads(text) == content and '{"x": 1, "y": [1, 2]},' in map(str.strip, text.splitlines())
