"""Users in tiles of one size, so that a program for a tile is compiled once."""

from collections.abc import Iterator

import numpy as np

TILE = 64  # users per tile


def tiles(*arrays: np.ndarray) -> Iterator[tuple[slice, int, list[np.ndarray]]]:
    """Yields (rows, number of users, these rows of each array, zero-padded to TILE) for each tile of `arrays` [U, ..]."""
    for start in range(0, len(arrays[0]), TILE):
        rows = slice(start, start + TILE)
        number = len(arrays[0][rows])
        yield rows, number, [np.pad(array[rows], ((0, TILE - number), (0, 0))) for array in arrays]
