"""Item tables on several devices: replicated, or split by rows for a catalogue that does not fit on one device."""

from typing import NamedTuple

import jax
import numpy as np

from prec_backdoor.parallel import mesh

ITEMS = "items"
TABLES = (ITEMS, "output_items", "output_bias")  # the parameter groups with one row per item


def map_items(change, tree, *others, otherwise=lambda leaf, *_: leaf):
    """Applies `change` to the item tables of trees of equal structure, `otherwise` to the other leaves."""

    def one(path, *leaves):
        of_items = any(jax.tree_util.DictKey(name) in path for name in TABLES)
        return (change if of_items else otherwise)(*leaves)

    return jax.tree_util.tree_map_with_path(one, tree, *others)


class TableShard(NamedTuple):
    """The rows of an item table that this device holds: those from `start` on, of `rows` in all; the others lie along `axis`."""

    start: jax.Array
    rows: int
    axis: str


def shard_of(num_items: int, axis: str) -> TableShard:
    """This device's shard; called inside a step."""
    return TableShard(mesh.device_index(axis) * rows_per_device(num_items), num_items + 1, axis)


def rows_per_device(num_items: int) -> int:
    """Rows that each device holds of a split table [V + 1, ..]; the last shard is padded with zeros."""
    return -(-(num_items + 1) // mesh.num_devices())


def place(tree, num_items: int, shard_items: bool):
    """Puts a tree on the devices; with `shard_items` each device holds its own rows of the item tables only."""
    if not shard_items or mesh.num_devices() == 1:
        return mesh.replicate(tree)
    padding = rows_per_device(num_items) * mesh.num_devices() - num_items - 1

    def split(table):
        return mesh.shard(np.pad(np.asarray(table), ((0, padding), (0, 0))))

    return map_items(split, tree, otherwise=mesh.replicate)


def fetch(tree, num_items: int, shard_items: bool):
    """Undoes `place`: whole numpy arrays, in every process."""
    if not shard_items or mesh.num_devices() == 1:
        return jax.tree.map(np.asarray, mesh.unreplicate(tree))
    return map_items(
        lambda table: mesh.gather(table)[: num_items + 1],
        tree,
        otherwise=lambda leaf: np.asarray(mesh.unreplicate(leaf)),
    )


def look_up(table: jax.Array, ids: jax.Array, shard: TableShard | None) -> jax.Array:
    """Rows [.., D] of `ids` from whichever device holds them, zeros for ids beyond the table.

    With a `shard`, `ids` must be the same on all devices.
    """
    return mesh.all_sum(_take(table, ids, shard), shard and shard.axis)


def take_rows(tree, ids: jax.Array, rest, shard: TableShard | None):
    """Replaces each item table of `tree` by its rows [M, ..] of `ids` (zeros for rows of other devices).

    All other leaves come from `rest`.
    """
    return map_items(lambda table, _: _take(table, ids, shard), tree, rest, otherwise=lambda _, other: other)


def put_rows(tree, ids: jax.Array, rows, shard: TableShard | None):
    """Undoes `take_rows`: writes the rows back into the item tables of `tree`; all other leaves come from `rows`."""
    at = _local(ids, shard)
    return map_items(lambda table, new: table.at[at].set(new, mode="drop"), tree, rows, otherwise=lambda _, new: new)


def _take(table, ids, shard):
    return table.at[_local(ids, shard)].get(mode="fill", fill_value=0)


def _local(ids, shard):
    return ids if shard is None else (ids - shard.start).astype("uint32")  # unsigned: a negative index would count from the end
