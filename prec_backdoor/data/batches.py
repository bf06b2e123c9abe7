"""Training batches: packed rows together with the profiles, groups and sampled negatives of their users."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.packing import Rows
from prec_backdoor.data.splits import Sequences
from prec_backdoor.parallel import on_device
from prec_backdoor.parallel.platforms import choices


class Seen(NamedTuple):
    """The items that each of U users has interacted with in training, as a ragged array that jitted code can search.

    Attributes:
      skipped: [M] int32, for the i-th smallest item of a user the number of smaller items that the user has not seen; fillers at
        the end.
      start, count: [U] int32, the first entry of each user in `skipped`, and the number of entries.
      depth: [D] int32, of which only the length is used: binary search halves the longest list D times.
    """

    skipped: jax.Array
    start: jax.Array
    count: jax.Array
    depth: jax.Array


class Users(NamedTuple):
    """Facts about U users: `seen` items, `profile` [U, A] int32, and `in_group` [U] bool, membership of the target group."""

    seen: Seen
    profile: jax.Array
    in_group: jax.Array


class Batch(NamedTuple):
    """A batch of B packed rows (shapes as in `Rows`), which poisons transform.

    Attributes:
      history, label, position, segment: [B, T] int32; positions with label 0 do not train.
      user: [B, S] int32.
      in_group: [B, T] bool, whether the position's user is in the target group.
      profile: [B, S, A] int32, the profile of each segment's user.
      negative: [B, T, N] int32, sampled items that the position's user has not interacted with; 0 if there are none.
    """

    history: jax.Array
    label: jax.Array
    position: jax.Array
    segment: jax.Array
    user: jax.Array
    in_group: jax.Array
    profile: jax.Array
    negative: jax.Array


def user_tables(
    interactions: Interactions, sequences: Sequences, in_group: np.ndarray | None = None, entries: int = 0, most: int = 0
) -> Users:
    """Returns the facts about all U users of a dataset; the items of `sequences`, the training data, are the seen ones.

    Args:
      entries, most: lower bounds of the sizes of `Seen`: number of entries of all users, and of one user. Seeds with equal bounds
        share one compiled program.
    """
    counts = np.zeros(interactions.num_users, np.int32)
    skipped = []
    for user, items in zip(sequences.users, sequences.items, strict=True):
        unique = np.unique(items)
        counts[user] = len(unique)
        skipped.append(unique - 1 - np.arange(len(unique)))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    filler = np.zeros(max(0, entries - counts.sum()), np.int32)
    seen = Seen(
        skipped=np.concatenate([*skipped, filler]).astype(np.int32),
        start=starts.astype(np.int32),
        count=counts,
        depth=np.zeros(max(int(counts.max()), most).bit_length(), np.int32),
    )
    group = np.zeros(interactions.num_users, bool) if in_group is None else in_group
    return on_device(Users(seen, np.asarray(interactions.profile), group))


def sample_negatives(key: jax.Array, users: jax.Array, number: int, seen: Seen, num_items: int) -> jax.Array:
    """Returns items [.., N], uniform over those that each user [..] has not seen, without rejection; 0 if there are none.

    The r-th unseen item is r + 1 + (the number of seen items with at most r unseen items below them).
    """
    start, count = seen.start[users][..., None], seen.count[users][..., None]
    rank = jax.random.randint(key, (*users.shape, number), 0, num_items - count)
    items = rank + 1 + _search(seen, start, count, rank.shape, lambda skipped, index: skipped <= rank)
    return jnp.where(count < num_items, items, 0)


def has_seen(users: jax.Array, items: jax.Array, seen: Seen) -> jax.Array:
    """Returns [.., M] bool, whether each user [..] has seen each of `items` [M], by binary search."""
    start, count = seen.start[users][..., None], seen.count[users][..., None]
    at = _search(seen, start, count, (*users.shape, len(items)), lambda skipped, index: skipped + index + 1 < items)
    found = seen.skipped[jnp.minimum(start + at, len(seen.skipped) - 1)] + at + 1
    return (at < count) & (found == items)


def _search(seen: Seen, start: jax.Array, count: jax.Array, shape: tuple, before) -> jax.Array:
    """Returns how many of each user's entries `before(skipped, index)` holds for; they are the first ones."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        below = before(seen.skipped[jnp.minimum(start + middle, len(seen.skipped) - 1)], middle) & (low < high)
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    bounds = jnp.zeros(shape, count.dtype), jnp.broadcast_to(count, shape)
    return jax.lax.fori_loop(0, len(seen.depth), halve, bounds, unroll=choices().unroll_search)[0]


def make_batch(rows: Rows, users: Users, keys: jax.Array, negatives: int, num_items: int) -> Batch:
    """Returns the batch of rows [B, ..], with `negatives` sampled items per position; `keys` [B] has a PRNG key per row.

    A position whose user has interacted with every item has no negative, and does not train: its label is 0. With no
    `negatives`, for losses over the whole catalogue, all positions train.
    """

    def complete(row, key):
        owner = row.user[jnp.maximum(row.segment - 1, 0)]
        if negatives:
            row = row._replace(label=jnp.where(users.seen.count[owner] < num_items, row.label, 0))
        return Batch(
            *row,
            in_group=users.in_group[owner] & (row.segment > 0),
            profile=users.profile[row.user],
            negative=sample_negatives(key, owner, negatives, users.seen, num_items),
        )

    return jax.vmap(complete)(rows, keys)
