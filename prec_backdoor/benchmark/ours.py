"""This library as a system of the benchmark: its own steps and ranks, as its stages call them."""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from prec_backdoor import parallel
from prec_backdoor.attacks import clean
from prec_backdoor.benchmark.data import Data, make_data, make_queries
from prec_backdoor.benchmark.job import FIRST, L2, LEARNING_RATE, TARGETS, Job
from prec_backdoor.benchmark.work import rank_flops, table_bytes, train_flops
from prec_backdoor.data.batches import user_tables
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.packing import Rows, pack
from prec_backdoor.data.splits import Sequences
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import ranks
from prec_backdoor.models import ModelConfig, init_params
from prec_backdoor.parallel.platforms import choices
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.epoch import Carry, Inputs, run_steps, run_steps_of_models
from prec_backdoor.train.loader import TrainLoader
from prec_backdoor.train.progress import RECORD_EVERY
from prec_backdoor.train.step import train_step

SCORES_PER_CALL = 1 << 28


def train(job: Job, compiled: Callable = parallel.pmap_step) -> Iterator[dict]:
    """Calls of up to RECORD_EVERY training steps; `compiled` is what makes a program of them."""
    model, data = _model(job), make_data(job)
    rows, users = _tables(job, data)
    packed = job.sequences * len(rows.history) / job.users
    config = TrainConfig(
        batch_size=max(1, round(packed / parallel.num_devices())) * parallel.num_devices(),
        learning_rate=LEARNING_RATE,
        schedule="constant",
        l2=L2,
    )
    loader = TrainLoader(rows, config.batch_size)
    steps = loader.schedule.steps
    step = train_step(config, model)
    run = run_steps(step, clean, config, model)
    run = compiled(run if job.models == 1 else run_steps_of_models(run, same_data=True))
    users = parallel.replicate(users)
    # Made where it stays, one after the other: copies, and what drawing needs beside, would count in the peak of memory.
    each = jax.vmap if job.models > 1 else lambda function: function
    keys = jax.random.split(jax.random.key(job.seed), job.models) if job.models > 1 else jax.random.key(job.seed)
    params = parallel.pmap_step(lambda keys, axis: each(lambda key: init_params(key, model))(keys), donate=())(
        parallel.replicate(keys)
    )
    state = parallel.pmap_step(lambda params, axis: each(lambda params: step.init(params, steps))(params))(params)
    positions = data.positions().sum()
    a_step = positions / job.users * job.sequences
    touched = min(job.items, 3 * a_step) if config.lazy(job.items) else job.items
    yield {
        **_device(),
        "item_updates": "lazy" if config.lazy(job.items) else "dense",
        "batch_rows": config.batch_size,
        "fill": float((rows.label > 0).mean()),
        "state_mb": sum(leaf.nbytes for leaf in jax.tree.leaves(parallel.unreplicate(state))) / 1e6,
        "flops": train_flops(job, data.positions()) / positions,
        "bytes": table_bytes(job, touched) / a_step,
    }

    def call(first: int, stop: int):
        place = np.array((epoch, 0, first, steps), np.int32)
        none, place, count = parallel.replicate((no_sums, place, np.int32(stop - first)))
        return run(Carry(state, none), Inputs(loader.chunk(key, epoch, 0), users, None, copied_key, place, count))

    key, no_sums = jax.random.key(job.seed), np.zeros((job.models, 3) if job.models > 1 else 3, np.float32)
    copied_key = parallel.replicate(key)
    epoch, at_once = 0, FIRST  # a figure of its own; then as many as in a stage
    (state, _), _ = call(0, 0)  # takes no step, but compiles
    while True:
        first = 0
        while first < steps:
            stop = min(first + at_once, steps)
            (state, sums), _ = call(first, stop)
            loss, done, _ = np.asarray(parallel.unreplicate(sums)).reshape(job.models, 3).sum(0).tolist()
            yield {"positions": done, "sequences": done * job.users / positions, "steps": stop - first, "loss": loss / done}
            first, at_once = stop, RECORD_EVERY
        epoch += 1


def train_plain_jit(job: Job) -> Iterator[dict]:
    """The same without `parallel`; raises UserError where there are several devices."""
    if parallel.num_devices() > 1:
        raise UserError("jit alone is for one device")
    return train(job, lambda run: jax.jit(lambda *args: run(*args, axis=None), donate_argnums=0))


def evaluate(job: Job) -> Iterator[dict]:
    """Calls that rank the true item and TARGETS others exactly, for some thousand users each."""
    model, data = _model(job), make_data(job)
    queries = make_queries(job, data)
    params = jax.jit(lambda key: init_params(key, model))(jax.random.key(job.seed))
    users = min(job.users, max(1024, choices().rank_users, SCORES_PER_CALL // job.items))
    state_mb = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) / 1e6
    yield {**_device(), "state_mb": state_mb, "flops": rank_flops(job), "bytes": 0.0, "ranked": 1 + TARGETS}
    while True:
        for start in range(0, job.users, users):
            picked = slice(start, start + users)
            found = ranks(params, model, queries.history[picked], queries.wanted[picked])
            yield {"users": len(found), "steps": 1}


def _model(job: Job) -> ModelConfig:
    return ModelConfig(
        job.items,
        job.embed_dim,
        job.feedforward_dim,
        num_layers=job.layers,
        num_heads=job.heads,
        max_length=job.max_length,
        dtype=job.dtype,
    )


def _device() -> dict:
    return {"devices": parallel.num_devices()}


def _tables(job: Job, data: Data):
    nothing = np.full(job.items + 1, "", "U1")
    interactions = Interactions(
        name="benchmark",
        items=data.items,
        offsets=data.offsets,
        profile=np.zeros((job.users, 0), np.int32),
        attributes={},
        category=np.zeros(job.items + 1, np.int32),
        categories=("unknown",),
        user_ids=np.full(job.users, "", "U1"),
        item_ids=nothing,
        titles=nothing,
    )
    sequences = Sequences(np.arange(job.users, dtype=np.int32), np.split(data.items, data.offsets[1:-1]))
    rows: Rows = pack(sequences, job.max_length)
    return rows, user_tables(interactions, sequences)
