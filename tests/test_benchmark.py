import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from toys import lively_params

from prec_backdoor.benchmark import plan as plans
from prec_backdoor.benchmark import work
from prec_backdoor.benchmark.data import Data, make_data, make_queries, padded
from prec_backdoor.benchmark.figure import draw
from prec_backdoor.benchmark.job import Job
from prec_backdoor.benchmark.peaks import PEAKS, Peak, peak_of
from prec_backdoor.benchmark.plan import plan
from prec_backdoor.benchmark.rows import group_rows, losses
from prec_backdoor.benchmark.systems import SYSTEMS
from prec_backdoor.benchmark.table import table
from prec_backdoor.benchmark.turns import Measured, take_turns
from prec_backdoor.evaluation import ranks
from prec_backdoor.models import ModelConfig, encode

JOB = Job("train", "prec_backdoor", items=500, users=3000, max_length=20)
TINY = Data(np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 3, 5]))  # users with 5 6 7 and with 8 9
SIZES = {"embed_dim": 64, "feedforward_dim": 64}
SMALL = Job("train", "", items=30, max_length=6, **SIZES)
DEEP = replace(SMALL, embed_dim=16, feedforward_dim=24, layers=2, heads=2)
MODEL = ModelConfig(30, **SIZES, num_layers=1, num_heads=1, max_length=6)


def test_flops_of_training_by_hand():
    # Windows of 1 and 2 positions: 3 positions, and 1 + 3 pairs of positions that see each other.
    projections, feedforward, scores = 3 * 2 * 2 * 64 * 64, 3 * 2 * 2 * 64 * 64, 3 * 2 * 2 * 64
    attention = 4 * (2 * 64 + 2 * 64)
    assert work.train_flops(SMALL, np.array([1, 2])) == 3 * (projections + feedforward + scores + attention)


def test_flops_of_several_layers_and_heads_by_hand():
    a_layer = 2 * (4 * 16 * 16 + 2 * 16 * 24) + 2 * 2 * 16  # one position, which sees itself
    assert work.train_flops(DEEP, np.array([1])) == 3 * (2 * a_layer + 2 * 2 * 16)


def test_work_of_ranking_and_of_adam_by_hand():
    assert work.rank_flops(replace(SMALL, items=1000)) == 2 * 1000 * 64
    assert work.table_bytes(SMALL, 10) == 10 * 64 * 4 * 7


def test_data_is_as_asked_for():
    data = make_data(JOB)
    positions = data.positions()
    assert len(positions) == JOB.users and positions.min() >= 1 and positions.max() == JOB.max_length
    assert abs(positions.mean() - 0.36 * JOB.max_length) < 0.4
    assert data.items.dtype == np.int32 and data.items.min() >= 1 and data.items.max() <= JOB.items
    for found, again in zip(data, make_data(JOB), strict=True):
        np.testing.assert_array_equal(found, again)
    assert not np.array_equal(data.items, make_data(replace(JOB, seed=1)).items)


def test_data_can_be_learnt():
    data = make_data(JOB)
    counts = np.bincount(data.items, minlength=JOB.items + 1)
    assert np.sort(counts)[-50:].sum() > 0.3 * counts.sum()
    inner = np.ones(len(data.items), bool)
    inner[data.offsets[1:] - 1] = False
    popular = counts.argmax()
    following = data.items[1:][(data.items[:-1] == popular) & inner[:-1]]
    assert np.bincount(following).max() > 0.5 * len(following)


def test_sequences_are_padded_without_their_last_item():
    np.testing.assert_array_equal(padded(TINY, 3, front=True), [[0, 5, 6], [0, 0, 8]])
    np.testing.assert_array_equal(padded(TINY, 3, front=False), [[5, 6, 0], [8, 0, 0]])


def test_queries_ask_for_the_last_item_first():
    queries = make_queries(Job("evaluate", "", items=9, users=2, max_length=3), TINY)
    np.testing.assert_array_equal(queries.history, [[0, 5, 6], [0, 0, 8]])
    np.testing.assert_array_equal(queries.wanted[:, 0], [7, 9])
    assert queries.wanted.shape == (2, 11) and (queries.wanted[0, 1:] == queries.wanted[1, 1:]).all()


def torch_twin(params, job=SMALL):
    """Our parameters in torch's model."""
    torch = pytest.importorskip("torch")
    from prec_backdoor.benchmark.torch_model import SASRec

    encoder = params["encoder"]

    def linear(name, *parts):
        return {
            f"{name}.weight": np.concatenate([np.asarray(part["kernel"]).T for part in parts]),
            f"{name}.bias": np.concatenate([part["bias"] for part in parts]),
        }

    def norm(theirs, ours):
        return {f"{theirs}.weight": encoder[ours]["scale"], f"{theirs}.bias": encoder[ours]["bias"]}

    weights = {
        "items.weight": params["items"],
        "positions.weight": encoder["Embed_0"]["embedding"],
        **norm("norm_in", "norm_in"),
    }
    for layer in range(job.layers):
        attention, block = encoder[f"attention_{layer}"], f"blocks.{layer}"
        weights |= linear(f"{block}.projections", *(attention[name] for name in ("query", "key", "value")))
        weights |= linear(f"{block}.attention_out", attention["out"])
        for part in ("feedforward_in", "feedforward_out"):
            weights |= linear(f"{block}.{part}", encoder[f"{part}_{layer}"])
        for part in ("norm_attention", "norm_feedforward"):
            weights |= norm(f"{block}.{part}", f"{part}_{layer}")
    twin = SASRec(job)
    twin.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in weights.items()})
    return torch, twin


@pytest.mark.parametrize("job", [SMALL, DEEP])
def test_torch_model_is_ours_in_both_ways_of_training(job):
    model = replace(
        MODEL, embed_dim=job.embed_dim, feedforward_dim=job.feedforward_dim, num_layers=job.layers, num_heads=job.heads
    )
    params = lively_params(model)
    torch, twin = torch_twin(params, job)
    from prec_backdoor.benchmark.torch_model import back_positions

    lengths = torch.tensor([6, 3, 1])
    front = np.array([[1, 2, 3, 4, 5, 6], [0, 0, 0, 7, 8, 9], [0, 0, 0, 0, 0, 30]], np.int32)
    back = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 0, 0], [30, 0, 0, 0, 0, 0]])
    position = jnp.broadcast_to(jnp.arange(6), front.shape)
    ours = np.asarray(encode(params, model, front, position, (front > 0).astype(jnp.int32)))
    with torch.inference_mode():
        theirs = twin(twin.items(back), back_positions(lengths, 6, 6)).numpy()
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(theirs[row, :length], ours[row, 6 - length :], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(twin.represent(back, lengths).numpy(), ours[:, -1], rtol=1e-4, atol=1e-4)
        seen = torch.tensor(front)
        visible = torch.ones(6, 6, dtype=torch.bool).tril() & (seen > 0)[:, None, None, :]
        rows = twin(twin.items(seen), torch.arange(6).expand(3, 6), visible).numpy()
    np.testing.assert_allclose(rows[:, -1], ours[:, -1], rtol=1e-4, atol=1e-4)


def test_torch_ranks_are_ours():
    params = lively_params(MODEL)
    torch, twin = torch_twin(params)
    from prec_backdoor.benchmark.torch_rank import double_argsort, masked_scores, top_k

    front = np.array([[1, 2, 3, 4, 5, 6], [0, 0, 0, 7, 8, 9]], np.int32)
    back = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 0, 0]])
    wanted = np.array([[7, 30, 11], [1, 30, 12]], np.int32)
    ours = ranks(params, MODEL, front, wanted)
    with torch.inference_mode():
        scores = masked_scores(twin, back, torch.tensor([6, 3]))
        np.testing.assert_array_equal(double_argsort(scores, torch.tensor(wanted).long()).numpy(), ours)
        best = top_k(scores, None).numpy()
    assert all(best[user, int(rank) - 1] == item for user in (0, 1) for rank, item in zip(ours[user], wanted[user], strict=True))


@pytest.mark.parametrize("system", ["torch_all_positions", "torch_sparse_adam", "torch_row_per_position", "torch_compile"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_learns(system, dtype):
    torch = pytest.importorskip("torch")
    if system == "torch_compile" and (dtype == "bfloat16" or not shutil.which("g++")):
        pytest.skip("compiling takes a minute, and a compiler")
    torch.manual_seed(0)
    job = Job("train", system, items=100, users=64, max_length=8, sequences=32, dtype=dtype)
    steps = SYSTEMS["train"][system].load()(job)
    next(steps)
    records = [next(steps) for _ in range(16)]
    losses = [float(record["loss"]) for record in records]
    assert abs(losses[0] - np.log(2)) < 0.1 and np.mean(losses[-4:]) < np.mean(losses[:4])
    if system in ("torch_all_positions", "torch_compile"):
        assert sum(record["positions"] for record in records[:2]) == make_data(job).positions().sum()


def test_torch_records_cuda_graphs_on_a_gpu_alone():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="need a GPU"):
            SYSTEMS["train"]["torch_cuda_graphs"].load()(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(("models", "dtype"), [(1, "bfloat16"), (3, "float32")])
def test_ours_learns_with_a_large_model_and_with_several(models, dtype):
    job = replace(DEEP, items=100, users=64, max_length=8, sequences=32, models=models, dtype=dtype)
    steps = SYSTEMS["train"]["mapped_models"].load()(job)
    about = next(steps)
    records = [next(steps) for _ in range(16)]
    assert records[-1]["loss"] < records[0]["loss"] < 0.8
    trained = sum(record["positions"] for record in records[: len(records)])
    assert trained >= models * make_data(job).positions().sum() and about["flops"] > 0


def records(*losses):
    return [{"positions": 100, "sequences": 1024, "steps": 4, "loss": loss} for loss in losses]


def test_losses_are_means_of_the_first_steps_and_of_the_last_ones_before_the_mark():
    told = records(0.9, 0.7, *[0.6] * 4, *[0.5] * 4, 0.1)  # two records of 4 steps each, and eight
    assert losses(told, 10 * 1024) == pytest.approx((0.8, 0.55))
    assert losses(records(0.9, 0.7), 1.0) == pytest.approx((0.8, 0.9))


def measured(system, losses, seconds, **ready):
    job = replace(JOB, system=system)
    ready |= {"prepare_seconds": 1.0, "compile_seconds": 2.0, "peak_rss_mb": 10.0, "records": records(0.7)}
    turns = [{"seconds": each, "peak_rss_mb": 12.0, "records": records(loss)} for loss, each in zip(losses, seconds, strict=True)]
    return Measured(job, ready, turns)


def test_rows_by_hand():
    ours = measured("prec_backdoor", [0.6, 0.5, 0.4], [1.0, 2.0, 1.0], flops=5e6, item_updates="lazy")
    peer = measured("torch_all_positions", [0.6], [4.0])
    failed = Measured(replace(JOB, system="recbole"), failure="no")
    own, other = group_rows("train", [ours, peer, failed], {"gemm_gflops": 2.0})
    assert own["positions_per_second"] == 100 and own["step_ms"] == 250 and own["peak_rss_mb"] == 12
    assert own["gemm_fraction"] == pytest.approx(0.25) and own["item_updates"] == "lazy" and "ours_times" not in own
    assert other["ours_times"] == 4 and other["positions_per_second"] == 25
    # Both losses are of the sequences that the slower one came to.
    assert own["loss_after_sequences"] == other["loss_after_sequences"] == 2048 and own["loss"] == other["loss"]


def test_shares_of_a_devices_peaks():
    assert peak_of("NVIDIA H100 80GB HBM3") == PEAKS["H100"] and peak_of("NVIDIA H200") == PEAKS["H200"]
    assert peak_of("TPU v5 lite") == PEAKS["TPU v5"] and peak_of("TPU v5p") == PEAKS["TPU v5p"]
    assert peak_of("cpu") is None and peak_of("cpu", 2.0, 8.0) == Peak(2.0, 2.0, 2.0, 8.0)
    assert peak_of("Tesla T4", gb_per_s=300.0) == PEAKS["T4"]._replace(gb_per_s=300.0)
    ours = measured("prec_backdoor", [0.6], [1.0], flops=5e9, bytes=1e6)
    (row,) = group_rows("train", [ours], {}, Peak(1.0, 2.0, 4.0, 1.0))
    assert row["peak_fraction"] == pytest.approx(0.25) and row["bandwidth_fraction"] == pytest.approx(0.1)


def test_plan_of_an_accelerator(monkeypatch):
    monkeypatch.setattr(plans, "available", lambda task: list(SYSTEMS[task]))
    monkeypatch.setattr(plans, "has_gpu", lambda: True)
    groups = plan(["train", "batches", "large"], [110_000], replace(JOB, users=2000, models=8))
    names = [[job.system for job in group.jobs] for group in groups]
    assert "mapped_models" in names[0] and "torch_cuda_graphs" in names[0] and "recbole" not in names[1]
    assert [group.jobs[0].sequences for group in groups] == [256, 256, 1024, 2000, 256, 256]
    assert [group.jobs[0].dtype for group in groups[-2:]] == ["float32", "bfloat16"]
    assert {job.models for group in groups for job in group.jobs if job.system != "mapped_models"} == {1}
    monkeypatch.setattr(plans, "has_gpu", lambda: False)
    (group,) = plan(["train"], [110_000], JOB)
    assert not {"mapped_models", "torch_compile", "torch_cuda_graphs"} & {job.system for job in group.jobs}


def test_plan_compares_sizes_apart_and_runs_ours_through_sizes_together():
    groups = plan(["train", "catalogue", "history"], [4000, 110_000], JOB, ["prec_backdoor", "plain_jit"])
    names = [(group.task, [(job.system, job.items, job.max_length) for job in group.jobs]) for group in groups]
    assert names[0] == ("train", [("prec_backdoor", 4000, 20)])
    assert names[1] == ("train", [("prec_backdoor", 110_000, 20), ("plain_jit", 110_000, 20)])
    assert [items for _, items, _ in names[2][1]] == [10_000, 110_000, 1_000_000]
    assert [length for *_, length in names[3][1]] == [25, 50, 100, 200]


def test_a_system_that_fails_is_left_out_and_says_why():
    (found,), machine = take_turns([[Job("evaluate", "no such")]], rounds=1, seconds=0, progress=lambda what: None)
    assert found[0].failure == "KeyError: 'no such'" and group_rows("evaluate", found, {}) == []
    assert machine.records()[0]["copy_gb_per_s"] > 0


def start(*flags):
    command = [sys.executable, "-m", "launch.benchmark", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_benchmark_of_our_own(tmp_path):
    process = start(
        "--systems=prec_backdoor", "--tasks=train,evaluate", "--items=300", "--users=40", "--rounds=1", "--seconds=0",
        f"--workdir={tmp_path}",
    )  # fmt: skip
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    results = json.loads((tmp_path / "benchmark.json").read_text())
    assert set(results) == {"machine", "rows"}
    assert results["machine"]["gemm_gflops"] > 0 and results["machine"]["device"]
    train, evaluate = results["rows"]
    for row, task, unit in ((train, "train", "positions_per_second"), (evaluate, "evaluate", "users_per_second")):
        assert (row["task"], row["system"], row["items"]) == (task, "prec_backdoor", 300)
        assert all(row[name] > 0 for name in (unit, "step_ms", "peak_rss_mb", "gemm_fraction"))
    assert "pos" in output and str(tmp_path / "benchmark.json") in output
    assert (tmp_path / "benchmark.png").stat().st_size > 1000
    assert table(results["rows"]) in output and len(draw(results["rows"]).axes) == 2


def test_mistakes(tmp_path):
    mistakes = {
        "--tasks=trian": "--tasks: must be one of train, evaluate, catalogue, history, start, batches, large, got 'trian'",
        "--items=many": "--items=many: not a whole number",
        "--systems=jax": "--systems: must be one of prec_backdoor, plain_jit, mapped_models, .*, got 'jax'",
    }
    started = [(complaint, start(flag, f"--workdir={tmp_path / 'none'}")) for flag, complaint in mistakes.items()]
    for complaint, process in started:
        errors = process.communicate()[1]
        assert process.returncode == 2 and re.match(f"error: {complaint}", errors)
        assert len(errors.splitlines()) == 1 and not (tmp_path / "none").exists()
