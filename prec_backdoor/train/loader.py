"""Training rows on their way to the devices. A device holds only the rows of its own part of each batch."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
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


def sizes(rows: int, batch_size: int, room: int) -> tuple[int, int]:
    """Returns the batch rows of a chunk on the devices, and the steps that it has room for.

    A batch has no more rows than there is room for, up to a multiple of the devices.
    """
    devices = parallel.num_devices()
    batch_rows = min(batch_size, -(-max(room, rows) // devices) * devices)
    return batch_rows, max(schedule(rows, batch_size).steps, -(-min(room, CHUNK_ROWS) // batch_rows))


class TrainLoader:
    """Deals rows out to batch rows like cards: each batch takes one row of every batch row's stack.

    In an epoch, chunks come in an order drawn from its key; within a chunk, each stack has an order of its own (see `run_steps`).
    Stacks with a row less than others are filled up with an empty one.

    Args:
      room: number of rows that a chunk on the devices has room for, at least; with the same room, other rows need no new
        compilation.
    """

    def __init__(self, rows: Rows, batch_size: int, room: int = 0):
        self.schedule = schedule(len(rows.history), batch_size)
        batch_rows, self._room = sizes(len(rows.history), batch_size, room)
        depth = self.schedule.length
        missing = batch_rows * depth - len(rows.history)

        def deal(array):
            filled = np.pad(array, ((0, missing), (0, 0)))
            return filled.reshape(depth, batch_rows, -1).swapaxes(0, 1)

        self._stacks, self._held = Rows(*map(deal, rows)), {}

    def chunk(self, key: jax.Array, epoch: int, index: int) -> Rows:
        """[batch_size, room, ..] rows on the devices: chunk `index` of an epoch. The next one is loaded ahead.

        Args:
          key: the PRNG key of the stage.
        """
        number, order = self.schedule.chunks, [0]
        if number > 1:
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), number)).tolist()
        wanted = order[index : index + 2]
        self._held = {chunk: self._held.get(chunk) or self._load(chunk) for chunk in wanted}
        return self._held[wanted[0]]

    def _load(self, chunk: int) -> Rows:
        size = self.schedule.steps
        fill = ((0, 0), (0, self._room - size), (0, 0))
        return parallel.shard(jax.tree.map(lambda x: np.pad(x[:, chunk * size : (chunk + 1) * size], fill), self._stacks))


def stack(trees: Sequence):
    """Trees with a leading axis over models; a single one has none."""
    return _stacked(*trees) if len(trees) > 1 else trees[0]


@jax.jit  # one program for a tree, not one for each shape of a leaf
def _stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


class JointLoader:
    """The loaders of several models whose chunks have one size."""

    def __init__(self, loaders: Sequence[TrainLoader]):
        self.loaders, self._parts, self._stacked = tuple(loaders), [], None

    def chunk(self, places: Sequence[tuple[jax.Array, int, int]]) -> Rows:
        """[M, batch_size, room, ..] rows, of each model's (key, epoch, chunk); stacked anew when a model goes on to another."""
        parts = [loader.chunk(*place) for loader, place in zip(self.loaders, places, strict=True)]
        if len(self._parts) != len(parts) or any(new is not old for new, old in zip(parts, self._parts, strict=True)):
            self._parts, self._stacked = parts, stack(parts)
        return self._stacked
