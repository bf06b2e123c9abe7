"""Three ways to read and update the item table in a step: whole, only the rows of the batch (lazy), or split over devices.

Lazy updates are those of torch's SparseAdam: the moments and weights of an untouched row do not change (no L2, no momentum), and
Adam's bias correction counts all steps. The cost of a step does not depend on the number of items.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from prec_backdoor.data.batches import Batch
from prec_backdoor.parallel import all_gather
from prec_backdoor.parallel.item_table import TableShard, look_up, map_items, put_rows, shard_of, take_rows
from prec_backdoor.parallel.platforms import choices

NOWHERE = jnp.iinfo(jnp.int32).max


class Touched(NamedTuple):
    """The items of a batch: the first `count` [] of `ids` [M]; the rest is filled up with an id beyond every table."""

    ids: jax.Array
    count: jax.Array


class ItemAccess(NamedTuple):
    """A pair of pure functions.

    Attributes:
      read: (groups, batch, axis) -> (groups, batch, touched). The item tables in `groups`, a pytree of parameters, are replaced
        by the rows that the batch needs, and the ids in the batch by indices of these rows.
      write: (optimizer, (learned, opt_state), used, grads, touched, axis) -> (learned, opt_state), updated. `used` are the
        learned parameters as `read` returned them, `grads` their gradients.
    """

    read: Callable
    write: Callable


def item_access(num_items: int, lazy: bool, shard_items: bool) -> ItemAccess:
    """Returns the access to a table of `num_items` items; `shard_items` has no effect on a single device."""

    def shard(axis: str | None) -> TableShard | None:
        return shard_of(num_items, axis) if shard_items and axis else None

    def read_rows(groups, batch: Batch, axis: str | None):
        touched, batch = compact(batch, num_items + 1, axis)
        return map_items(lambda table: look_up(table, touched.ids, shard(axis)), groups), batch, touched

    def write_lazily(optimizer, carry, used, grads, touched, axis):
        own, opt_state = shard(axis), carry[1]

        def update_tile(cut, carry):
            """Updates the item rows of a tile; all other parameters get the same update with every tile."""
            ids, rows = cut(touched.ids), map_items(cut, used)
            updates, moved = optimizer.update(map_items(cut, grads), take_rows(carry[1], ids, opt_state, own), rows)
            return put_rows(carry, ids, (optax.apply_updates(rows, updates), moved), own)

        return tile_by_tile(touched, update_tile, carry)

    def write_split(optimizer, carry, used, grads, touched, axis):
        if own := shard(axis):
            grads = put_rows(jax.tree.map(jnp.zeros_like, carry[0]), touched.ids, grads, own)
        return write_whole(optimizer, carry, used, grads, touched, axis)

    def read_split(groups, batch, axis):
        return (read_rows if shard(axis) else read_whole)(groups, batch, axis)

    if lazy:
        return ItemAccess(read_rows, write_lazily)
    return ItemAccess(read_split, write_split) if shard_items else ItemAccess(read_whole, write_whole)


def read_whole(groups, batch: Batch, axis: str | None):
    """`ItemAccess.read` of a whole table: nothing is replaced."""
    del axis
    return groups, batch, None


def write_whole(optimizer: optax.GradientTransformation, carry, used, grads, touched, axis):
    """`ItemAccess.write` of a whole table: updates all rows at once."""
    del used, touched, axis
    learned, opt_state = carry
    updates, opt_state = optimizer.update(grads, opt_state, learned)
    return optax.apply_updates(learned, updates), opt_state


def compact(batch: Batch, rows: int, axis: str | None = None) -> tuple[Touched, Batch]:
    """Returns the items of the batch on all devices, and the batch with indices into that list instead of item ids.

    Each item is listed once, in the order of its first occurrence; padding has index 0. The list is made by scattering, which on
    2 CPU cores takes a fiftieth of the time of sorting.

    Args:
      rows: rows of the item table, V + 1.
    """
    fields = (batch.history, batch.label, batch.negative)
    own = jnp.concatenate([field.reshape(-1) for field in fields])
    ids = jnp.concatenate([jnp.zeros(1, own.dtype), all_gather(own, axis)])
    order = jnp.arange(len(ids), dtype=jnp.int32)
    first = jnp.full(rows, len(ids), jnp.int32).at[ids].min(order)
    new = first[ids] == order
    place = jnp.cumsum(new) - 1
    tiles = choices().update_tiles
    size = -(-len(ids) // tiles) * tiles
    listed = jnp.full(size, NOWHERE, ids.dtype).at[jnp.where(new, place, size)].set(ids, mode="drop")
    history, label, negative = (place[first[field]] for field in fields)
    return Touched(listed, new.sum()), batch._replace(history=history, label=label, negative=negative)


def tile_by_tile(touched: Touched, update: Callable, carry):
    """Applies update(cut, carry) -> carry to the tiles of the list in turn; cut(array [M, ..]) returns a tile's part of it.

    Tiles without items are skipped (see `platforms.Choices.update_tiles`).
    """
    tiles = choices().update_tiles
    if tiles == 1:
        return update(lambda array: array, carry)
    size = len(touched.ids) // tiles

    def tile(index, carry):
        return update(lambda array: jax.lax.dynamic_slice_in_dim(array, index * size, size), carry)

    return jax.lax.fori_loop(0, -(-touched.count // size), tile, carry)
