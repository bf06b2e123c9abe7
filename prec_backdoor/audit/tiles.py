"""Users, or items, in tiles of one size, so that a program for a tile is compiled once."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

TILE = 64  # rows per tile
MOST = 16  # tiles of a block
ITEMS = 1_024  # rows of an item table whose scores for a block of users stay in a CPU's cache: 98 instead of 62 GFLOP/s of a core


def tiles(*arrays: np.ndarray) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yields (number of rows, these rows of each array, zero-padded to TILE) for each tile of `arrays` [U, ..]."""
    for start in range(0, len(arrays[0]), TILE):
        rows = slice(start, start + TILE)
        number = len(arrays[0][rows])
        yield number, [np.pad(array[rows], ((0, TILE - number), (0, 0))) for array in arrays]


def blocks_of_tiles(*arrays: np.ndarray) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yields (number of rows, these rows of each array [tiles, TILE, ..]) for blocks of equally many tiles, zero-padded."""
    total = len(arrays[0])
    blocks = -(-total // (TILE * MOST))
    size = TILE * -(-total // (TILE * blocks))
    for start in range(0, total, size):
        number = min(size, total - start)
        rows = (np.pad(array[start : start + number], ((0, size - number), (0, 0))) for array in arrays)
        yield number, [array.reshape(size // TILE, TILE, array.shape[1]) for array in rows]


def item_blocks(table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the rows of `table` [V + 1, E] in blocks for `jax.lax.scan`: their numbers [N, ITEMS] and vectors [N, ITEMS, E].

    The last block is filled up with rows of number 0, which is padding's.
    """
    missing = -len(table) % ITEMS
    numbers = jnp.pad(jnp.arange(len(table)), (0, missing))
    return numbers.reshape(-1, ITEMS), jnp.pad(table, ((0, missing), (0, 0))).reshape(-1, ITEMS, table.shape[1])
