"""Training rows on their way to the devices. A device holds only the rows of its own part of each batch."""

from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor import parallel
from prec_backdoor.data.packing import Rows

CHUNK_ROWS = 1 << 20  # rows on the devices at a time; larger data is streamed. Rows of 100 positions take 1.7 GB


class Schedule(NamedTuple):
    """How an epoch is cut: `chunks` of `steps` steps each."""

    chunks: int
    steps: int

    @property
    def length(self) -> int:
        """Steps of an epoch."""
        return self.chunks * self.steps


def schedule(rows: int, batch_size: int) -> Schedule:
    """Returns the schedule of an epoch of `rows` rows; it does not depend on the number of devices."""
    depth = -(-rows // batch_size)
    chunks = min(depth, -(-depth * batch_size // CHUNK_ROWS))
    return Schedule(chunks, -(-depth // chunks))


class TrainLoader:
    """Deals rows out to batch rows like cards: each batch takes one row of every batch row's stack.

    In an epoch, chunks come in an order drawn from its key; within a chunk, each stack has an order of its own (see `run_steps`).
    Stacks with a row less than others are filled up with an empty one. A batch has no more rows than there are, up to a multiple
    of the devices.
    """

    def __init__(self, rows: Rows, batch_size: int):
        self.schedule = schedule(len(rows.history), batch_size)
        depth, devices = self.schedule.length, parallel.num_devices()
        batch_size = min(batch_size, -(-len(rows.history) // devices) * devices)
        missing = batch_size * depth - len(rows.history)

        def deal(array):
            filled = np.pad(array, ((0, missing), (0, 0)))
            return filled.reshape(depth, batch_size, -1).swapaxes(0, 1)

        self._stacks, self._held = Rows(*map(deal, rows)), {}

    def chunk(self, key: jax.Array, index: int) -> Rows:
        """[batch_size, steps, ..] rows on the devices: chunk `index` of the epoch with `key`. The next one is loaded ahead."""
        order = [0] if self.schedule.chunks == 1 else np.asarray(jax.random.permutation(key, self.schedule.chunks)).tolist()
        wanted = order[index : index + 2]
        self._held = {chunk: self._held.get(chunk) or self._load(chunk) for chunk in wanted}
        return self._held[wanted[0]]

    def _load(self, chunk: int) -> Rows:
        size = self.schedule.steps
        return parallel.shard(jax.tree.map(lambda x: x[:, chunk * size : (chunk + 1) * size], self._stacks))
