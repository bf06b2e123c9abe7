"""Where a state lives on several devices: replicated, or with item tables split by rows for catalogues that do not fit one."""

from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.train import parallel

ITEMS = "items"  # the parameter group that has a row an item


def map_items(change, tree, *others, otherwise=lambda leaf, *_: leaf):
    """`change` on the item tables of trees alike, of parameters and of moments; `otherwise` on their other leaves."""

    def one(path, *leaves):
        return (change if jax.tree_util.DictKey(ITEMS) in path else otherwise)(*leaves)

    return jax.tree_util.tree_map_with_path(one, tree, *others)


class Part(NamedTuple):
    """Which rows of an item table a device has: those from `start` on, of `rows` in all; the others lie along `axis`."""

    start: jax.Array
    rows: int
    axis: str


def part_of(num_items: int, axis: str) -> Part:
    """This device's, inside a step."""
    return Part(parallel.device_index(axis) * rows_a_device(num_items), num_items + 1, axis)


def rows_a_device(num_items: int) -> int:
    """Of an item table [V + 1, ..] that is split; the last device's are filled up with zeros."""
    return -(-(num_items + 1) // parallel.num_devices())


def place(tree, num_items: int, shard_items: bool):
    """Puts a tree on the devices; with `shard_items` each holds its rows of the item tables and no others."""
    if not shard_items or parallel.num_devices() == 1:
        return parallel.replicate(tree)
    filled = rows_a_device(num_items) * parallel.num_devices() - num_items - 1

    def split(table):
        return parallel.shard(np.pad(np.asarray(table), ((0, filled), (0, 0))))

    return map_items(split, tree, otherwise=parallel.replicate)


def fetch(tree, num_items: int, shard_items: bool):
    """Undoes `place`: numpy arrays, whole, in every process."""
    if not shard_items or parallel.num_devices() == 1:
        return jax.tree.map(np.asarray, parallel.unreplicate(tree))
    return map_items(
        lambda table: parallel.gather(table)[: num_items + 1],
        tree,
        otherwise=lambda leaf: np.asarray(parallel.unreplicate(leaf)),
    )


def look_up(table: jax.Array, ids: jax.Array, part: Part | None) -> jax.Array:
    """Rows [.., D] of `ids`, which are the same on all devices, from whichever has them; zero for ids beyond the table."""
    return parallel.all_sum(_take(table, ids, part), part and part.axis)


def take_rows(tree, ids: jax.Array, rest, part: Part | None):
    """The rows [M, ..] of `ids`, zero where they are not here, in place of item tables; other leaves are those of `rest`."""
    return map_items(lambda table, _: _take(table, ids, part), tree, rest, otherwise=lambda _, other: other)


def put_rows(tree, ids: jax.Array, rows, part: Part | None):
    """Undoes `take_rows`: writes rows back where they belong; what is no item table is taken from `rows`."""
    at = _place(ids, part)
    return map_items(lambda table, new: table.at[at].set(new, mode="drop"), tree, rows, otherwise=lambda _, new: new)


def _take(table, ids, part):
    return table.at[_place(ids, part)].get(mode="fill", fill_value=0)


def _place(ids, part):
    return ids if part is None else (ids - part.start).astype("uint32")  # what is negative must not count from the end
