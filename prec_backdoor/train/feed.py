"""Training rows on their way to the devices: each has its own lanes of every batch, and no device holds another's rows."""

from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.data.windows import Rows
from prec_backdoor.train import parallel

CHUNK_ROWS = 1 << 20  # rows on the devices at a time; more are streamed. Of 100 positions they take 1.7 GB


class Schedule(NamedTuple):
    """How an epoch is cut: `chunks` of `steps` steps each."""

    chunks: int
    steps: int

    @property
    def length(self) -> int:
        """Steps of the epoch."""
        return self.chunks * self.steps


def schedule(rows: int, lanes: int) -> Schedule:
    """An epoch of `rows` rows in batches of `lanes`; it does not depend on the devices, nor does any result."""
    depth = -(-rows // lanes)
    chunks = min(depth, -(-depth * lanes // CHUNK_ROWS))
    return Schedule(chunks, -(-depth // chunks))


class Feed:
    """Rows dealt out to lanes like cards: a batch takes one of each lane, and a device has the same lanes of all batches.

    In an epoch, chunks come in an order drawn from its key, and within a chunk each lane's rows in an order of their own
    (see `run_steps`). Lanes that have a row less than others are filled up with an empty one.
    """

    def __init__(self, rows: Rows, lanes: int):
        self.schedule = schedule(len(rows.history), lanes)
        depth = self.schedule.length
        missing = lanes * depth - len(rows.history)

        def deal(array):
            filled = np.pad(array, ((0, missing), (0, 0)))
            return filled.reshape(depth, lanes, -1).swapaxes(0, 1)

        self._lanes, self._held = Rows(*map(deal, rows)), {}

    def chunk(self, key: jax.Array, visit: int) -> Rows:
        """[lanes, steps, ..] rows, on the devices: the `visit`-th chunk of the epoch with `key`; the next is on its way then."""
        order = [0] if self.schedule.chunks == 1 else np.asarray(jax.random.permutation(key, self.schedule.chunks)).tolist()
        wanted = order[visit : visit + 2]
        self._held = {chunk: self._held.get(chunk) or self._load(chunk) for chunk in wanted}
        return self._held[wanted[0]]

    def _load(self, chunk: int) -> Rows:
        size = self.schedule.steps
        return parallel.shard(jax.tree.map(lambda x: x[:, chunk * size : (chunk + 1) * size], self._lanes))
