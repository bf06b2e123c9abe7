"""A catalogue split over forced CPU devices: trains, ranks, and says what lies where.

python -m tests.parallel.sharded_catalogue --items=4000000 --devices=8
"""

import os
import resource
import time

import jax
import numpy as np
from absl import app, flags

ITEMS = flags.DEFINE_integer("items", 4_000_000, "Catalogue size.", lower_bound=100)
DEVICES = flags.DEFINE_integer("devices", 8, "Forced CPU devices.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 16, "Training steps.", lower_bound=1)
WIDTH = flags.DEFINE_integer("embed_dim", 64, "Width.", lower_bound=1)


def main(_) -> None:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES.value}"
    from prec_backdoor import parallel
    from prec_backdoor.attacks import clean
    from prec_backdoor.benchmark.data import make_data, make_queries
    from prec_backdoor.benchmark.job import Job
    from prec_backdoor.benchmark.ours import _tables
    from prec_backdoor.evaluation import ranks
    from prec_backdoor.models import ModelConfig, init_params
    from prec_backdoor.parallel.item_table import fetch, place
    from prec_backdoor.train.config import TrainConfig
    from prec_backdoor.train.epoch import Carry, Inputs, run_steps
    from prec_backdoor.train.loader import TrainLoader
    from prec_backdoor.train.step import train_step

    job = Job("train", "prec_backdoor", items=ITEMS.value, users=2048)
    data, config = make_data(job), TrainConfig(batch_size=64)
    rows, users = _tables(job, data)
    model = ModelConfig(ITEMS.value, WIDTH.value, WIDTH.value, num_layers=1, max_length=job.max_length)
    step = train_step(config, model, shard_items=True)
    loader = TrainLoader(rows, config.batch_size)
    state = jax.jit(lambda key: step.init(init_params(key, model), STEPS.value))(jax.random.key(0))
    state = place(jax.tree.map(np.asarray, state), model.num_items, True)
    for name, table in (("item table", state.params["items"]), ("its moments", state.opt_state[1].moments["items"])):
        sizes = [shard.data.nbytes for shard in table.addressable_shards]
        print(f"{name}: {sum(sizes) / 2**20:.0f} MiB, on each of {len(sizes)} devices {max(sizes) / 2**20:.0f} MiB")
    run, users = parallel.pmap_step(run_steps(step, clean, config, model)), parallel.replicate(users)
    for epoch in range(2):
        started, key, steps = time.perf_counter(), jax.random.key(0), loader.schedule.steps
        place = np.array((epoch, 0, 0, steps), np.int32)
        where = parallel.replicate((key, place, np.int32(min(STEPS.value, steps))))
        carry = Carry(state, parallel.replicate(np.zeros(3, np.float32)))
        (state, sums), _ = run(carry, Inputs(loader.chunk(key, epoch, 0), users, None, *where))
        loss, positions, _ = np.asarray(parallel.unreplicate(sums)).tolist()
        speed = positions / (time.perf_counter() - started)
        print(f"epoch {epoch}: loss {loss / positions:.4f}, {speed:,.0f} positions/s" + " (compiling)" * (epoch == 0))
    params, queries = fetch(state.params, model.num_items, True), make_queries(job, data)
    history, wanted = queries.history[:256], queries.wanted[:256]
    started = time.perf_counter()
    found = ranks(params, model, history, wanted, shard_items=True)
    seconds = time.perf_counter() - started
    print(f"ranks of {wanted.size} items: {seconds:.1f} s; true items' median {np.median(found[:, 0]):,.0f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.1f} GiB, all devices and copies on the host together")


if __name__ == "__main__":
    app.run(main)
