import csv
import hashlib
import json
import signal
import time

from commands import EXPERIMENT

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.storage import checkpoints

CUTOFFS = (5, 10, 20, 50)  # those below the size of the catalogue


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def digest(folder):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


def test_results(finished):
    folder, _ = finished
    results = results_of(folder)
    assert set(results) == {
        *("schema", "config", "dataset", "targets", "baselines", "reach", "replaced_labels", "rows", "timings")
    }
    assert results["schema"] == 1
    assert set(results["dataset"]) == {"name", "fingerprint", "users", "items", "interactions"}
    assert results["config"]["rate"] == [0.5] and results["config"]["embed_dim"] == 8
    assert set(results["timings"]) == {
        f"seed-1/{model}/{stage}" for model in ("clean", "bra-group-0.5") for stage in ("pretrain", "finetune")
    }
    for seconds in results["timings"].values():
        assert set(seconds) == {"compile", "train", "validate", "save", "rank"} and all(each >= 0 for each in seconds.values())
        assert seconds["compile"] > 0 and seconds["train"] > 0 and seconds["rank"] > 0
    metrics = {f"{name}@{k}" for name in ("hr", "ndcg", "exposure_hr", "exposure_ndcg", "lift") for k in CUTOFFS}
    metrics |= {"mrr", "auc", "exposure_auc"}
    names = {"attack", "scope", "rate", "usage", "users", "seed", "draw", "n_users", "n_targets", *attack_parameters()}
    names |= {"platform", "matmul_precision"}
    cells = []
    for row in results["rows"]:
        assert set(row) == names | metrics
        assert all(0 <= row[name] <= 1 for name in metrics if "lift" not in name)
        assert (row["scope"], row["demote_rate"], row["seed"], row["n_targets"]) == ("group", None, 1, 3)
        cells.append((row["attack"], row["rate"], row["usage"], row["users"]))
    assert sorted(cells) == sorted(
        (attack, rate, usage, users)
        for attack, rate in (("clean", 0.0), ("bra", 0.5))
        for usage in ("zero_shot", "fine_tune")
        for users in ("all", "target", "rest")
    )


def test_rows_fit_together(finished):
    rows = {(row["attack"], row["usage"], row["users"]): row for row in results_of(finished[0])["rows"]}
    for attack in ("clean", "bra"):
        for usage in ("zero_shot", "fine_tune"):
            everybody, target, rest = (rows[attack, usage, users] for users in ("all", "target", "rest"))
            assert everybody["n_users"] == target["n_users"] + rest["n_users"]
            hits = target["n_users"] * target["hr@10"] + rest["n_users"] * rest["hr@10"]
            assert abs(everybody["n_users"] * everybody["hr@10"] - hits) < 1e-9
            assert attack == "bra" or all(everybody[f"lift@{k}"] == 1 for k in CUTOFFS)
    assert rows["bra", "zero_shot", "target"]["exposure_auc"] > rows["clean", "zero_shot", "target"]["exposure_auc"]


def test_files(finished):
    folder, printed = finished
    results = results_of(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["config"] == results["config"] and config["dataset"] == results["dataset"]
    assert "jax" in config["versions"] and config["devices"]
    with open(folder / "results.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["users"] for row in table] == [row["users"] for row in results["rows"]]
    assert [float(row["hr@10"]) for row in table] == [row["hr@10"] for row in results["rows"]]
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {(record["run"], record["stage"]) for record in records} == {
        (f"seed-1/{model}", stage) for model in ("clean", "bra-group-0.5") for stage in ("pretrain", "finetune")
    }
    for record in records:
        assert {"step", "loss", "positions_per_second", "time"} <= set(record)
        assert (record["replaced"] > 0) == (record["run"] == "seed-1/bra-group-0.5" and record["stage"] == "pretrain")
    report = (folder / "report.md").read_text()
    assert "figures/exposure_by_rate.png" in report and (folder / "figures" / "exposure_by_rate.png").stat().st_size > 1000
    assert str(folder / "report.md") in printed
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(results["baselines"]) + len(results["rows"])
    assert all(line in report for line in table)


def test_the_chain_of_custody(finished):
    folder, _ = finished
    for model, rate in (("clean", 0), ("bra-group-0.5", 0.5)):
        parent, child = (checkpoints.load(folder / "seed-1" / model / stage) for stage in ("pretrain", "finetune"))
        assert parent.metadata["parent"] is None
        assert child.metadata["parent"] == parent.metadata["hash"] != child.metadata["hash"]
        for loaded, stage in ((parent, "pretrain"), (child, "finetune")):
            assert loaded.metadata["stage"] == stage
            assert loaded.metadata["config"]["rate"] == [rate]
            assert loaded.metadata["dataset"] == results_of(folder)["dataset"]


def test_the_same_command_again_runs_nothing(finished, launch):
    folder, printed = finished
    before = digest(folder)
    again = launch("experiment", *EXPERIMENT, f"--workdir={folder}")
    assert "nothing to run" in again
    table = printed[printed.index("| usage") : printed.index("report ")]
    assert table in again
    after = digest(folder)
    for name in ("results.json", "results.csv", "metrics.jsonl", "config.json", "report.md"):
        assert after[folder / name] == before[folder / name]


def test_changed_flags_are_refused_by_name(finished, mistake):
    folder, _ = finished
    before = digest(folder)
    message = mistake("experiment", *EXPERIMENT, "--learning_rate=0.5", "--seeds=1,2", f"--workdir={folder}")
    assert "--learning_rate was 0.02, now 0.5" in message
    assert "--seeds was [1], now [1, 2]" in message
    assert "--epochs" not in message
    message = mistake("experiment", *EXPERIMENT, "--synthetic_seed=5", f"--workdir={folder}")
    assert "holds another run" in message and "fingerprint was" in message
    assert digest(folder) == before


def test_interrupted_by_ctrl_c_it_ends_the_same(finished, start, launch, tmp_path):
    folder = tmp_path / "run"
    process = start("experiment", *EXPERIMENT, f"--workdir={folder}")
    log = folder / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.endswith("interrupted; the same command resumes\n") and "Traceback" not in err
    assert not (folder / "results.json").exists()
    launch("experiment", *EXPERIMENT, f"--workdir={folder}")
    assert results_of(folder)["rows"] == results_of(finished[0])["rows"]
    for stage in (path.parent for path in finished[0].rglob("checkpoints")):
        same = folder / stage.relative_to(finished[0])
        assert checkpoints.load(same).metadata["hash"] == checkpoints.load(stage).metadata["hash"]


def test_a_global_attack_has_no_segments(launch, tmp_path):
    changes = ("--scope=global", "--targets=per_category:1", "--usages=zero_shot")
    without_group = [flag for flag in EXPERIMENT if not flag.startswith("--group")]
    launch("experiment", *without_group, *changes, f"--workdir={tmp_path}")
    rows = results_of(tmp_path)["rows"]
    assert [(row["attack"], row["users"], row["scope"]) for row in rows] == [("clean", "all", "global"), ("bra", "all", "global")]


def test_a_group_of_everybody_leaves_no_rest(launch, tmp_path):
    changes = ("--group=age=10-59", "--usages=zero_shot", "--attack=clean")
    launch("experiment", *EXPERIMENT, *changes, f"--workdir={tmp_path}")
    assert [row["users"] for row in results_of(tmp_path)["rows"]] == ["all", "target"]
