"""Moments of a model's scores over the auditor's users, tile by tile; no [users, items] matrix is kept."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor.audit.auditor_data import AuditorData, single_groups
from prec_backdoor.audit.tiles import blocks_of_tiles, item_blocks
from prec_backdoor.models import ModelConfig, represent, scoring
from prec_backdoor.parallel import on_device

TOP = 50
BLOCK = 16  # rows per block, see `largest`
MIN_MEMBERS = 8  # smaller groups are left out
LONG = 20_000_000  # users x items from which a progress bar is shown


class ScoreMoments(NamedTuple):
    """Moments of a model's scores. U users, V items, C categories, G groups, D width; row 0 of [V + 1] is padding.

    Scores are standardised for each user over the items that are not in the user's history: z.

    Attributes:
      params, model, auditor_data: the model and the users.
      user_vectors: [U, D] the encoder's output for each history.
      category_probability: [U, C] share of the softmax probability that falls on each category.
      mean, std: [V + 1] of z over users, each weighted by the probability of the item's category.
      share_std: [V + 1] of the log of the item's share in its category's probability, weighted in the same way.
      plain_mean: [V + 1] unweighted mean of z.
      top_share: [V + 1] share of users who have the item among their first 50.
      groups: names of the groups.
      group_size: [G] users.
      group_mean, group_std: [G, V + 1] of z over the users of each group, unweighted.
    """

    params: dict
    model: ModelConfig
    auditor_data: AuditorData
    user_vectors: np.ndarray
    category_probability: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    share_std: np.ndarray
    plain_mean: np.ndarray
    top_share: np.ndarray
    groups: list[str]
    group_size: np.ndarray
    group_mean: np.ndarray
    group_std: np.ndarray


class MomentSums(NamedTuple):
    """Sums over users, from which moments are computed; a user counts for the items that are not in the user's history.

    Attributes:
      weight: [V + 1] probability of the item's category.
      weighted_z, weighted_z2: [V + 1] of z and z squared times the weight.
      weighted_share, weighted_share2: [V + 1] of the log share in the category, and its square, times the weight.
      z: [V + 1].
      in_top: [V + 1] users who have the item among their first 50.
      group_z, group_z2: [V + 1, G] of z and z squared within each group.
    """

    weight: jax.Array
    weighted_z: jax.Array
    weighted_z2: jax.Array
    weighted_share: jax.Array
    weighted_share2: jax.Array
    z: jax.Array
    in_top: jax.Array
    group_z: jax.Array
    group_z2: jax.Array


def observe(params: dict, model: ModelConfig, auditor_data: AuditorData) -> ScoreMoments:
    """Returns the moments of a model's scores.

    A call of the program scores several tiles of users one after another, each on the whole catalogue, so that the memory of one
    is used again for the next. For the sums of groups it then scores all their users on one block of items after another.
    """
    groups = single_groups(auditor_data, MIN_MEMBERS)
    users, items = len(auditor_data.history), len(auditor_data.category)
    members = np.stack(list(groups.values()), 1) if groups else np.zeros((users, 0), bool)
    categories = int(auditor_data.category.max()) + 1
    sum_tiles, totals, vectors, probability = _compiled(model, categories), None, [], []
    params, category = on_device((params, auditor_data.category))
    with tqdm(total=users, desc="scoring", unit="user", leave=False, disable=None if users * items >= LONG else True) as bar:
        for number, tiles in blocks_of_tiles(auditor_data.history, auditor_data.profile, members, np.ones((users, 1), bool)):
            sums, *of_users = sum_tiles(params, category, tiles)
            totals = sums if totals is None else _add(totals, sums)
            for kept, found in zip((vectors, probability), of_users, strict=True):
                kept.append(np.asarray(found)[:number])
            bar.update(number)
    sums = jax.tree.map(np.asarray, totals)
    mean, std = map(np.asarray, _mean_and_std(sums.weight, sums.weighted_z, sums.weighted_z2))
    excluded = [auditor_data.select(each).popularity() for each in members.T]  # of each group, by item
    group_users = members.sum(0)[:, None] - np.reshape(excluded, (len(groups), items))
    group_mean, group_std = map(np.asarray, _mean_and_std(group_users, sums.group_z.T, sums.group_z2.T))
    counted = np.maximum(users - auditor_data.popularity(), 1)
    return ScoreMoments(
        params=jax.tree.map(np.asarray, params),
        model=model,
        auditor_data=auditor_data,
        user_vectors=np.concatenate(vectors),
        category_probability=np.concatenate(probability),
        mean=mean,
        std=std,
        share_std=np.asarray(_mean_and_std(sums.weight, sums.weighted_share, sums.weighted_share2)[1]),
        plain_mean=sums.z / counted,
        top_share=sums.in_top / counted,
        groups=list(groups),
        group_size=members.sum(0),
        group_mean=group_mean,
        group_std=group_std,
    )


@jax.jit
def _mean_and_std(weight: jax.Array, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation, of the sums of weights, and of what is weighted and its square."""
    weight = jnp.maximum(weight, 1e-12)
    mean = first / weight
    return mean, jnp.sqrt(jnp.maximum(second / weight - mean**2, 0))


def largest(scores: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """The `number` largest entries of each column of `scores` [N, B], in descending order, and their rows: [number, B] each.

    Only as many blocks of rows as `number`, those with the greatest maxima, can hold them; these are found in the same way.
    """
    rows, columns = scores.shape
    if rows <= 2 * BLOCK * number:
        found, places = jax.lax.top_k(scores.T, number)
        return found.T, places.T
    blocks = -(-rows // BLOCK)
    padded = jnp.pad(scores, ((0, blocks * BLOCK - rows), (0, 0)), constant_values=-jnp.inf).reshape(blocks, BLOCK, columns)
    _, picked = largest(padded.max(1), number)
    found, places = largest(jnp.take_along_axis(padded, picked[:, None], axis=0).reshape(-1, columns), number)
    return found, BLOCK * jnp.take_along_axis(picked, places // BLOCK, axis=0) + places % BLOCK


def _sum_tile(model: ModelConfig, categories: int, params: dict, category: jax.Array, tile: tuple):
    """Returns the sums over a tile of B users, but for those of groups, and what is known of these users.

    That is their vectors [B, D], category probabilities [B, C], and the mean and standard deviation [B] of their scores.
    """
    history, profile, present = tile
    hidden = represent(params, model, history, profile if model.prompt_length else None)
    scores = scoring.scores("bd,vd->vb", hidden, scoring.item_vectors(params, model))  # sums over users are along the last axis
    users, present = jnp.arange(len(history))[:, None], present.T
    allowed = jnp.ones(scores.shape, bool).at[history, users].set(False).at[0].set(False) & present
    mean, deviation = _scale(scores, allowed)
    z = jnp.where(allowed, (scores - mean) / deviation, 0)
    log_probability = jax.nn.log_softmax(jnp.where(allowed, scores, -1e9), axis=0)
    probability = jax.ops.segment_sum(jnp.exp(log_probability) * present, category, categories)
    weight = probability[category] * allowed
    share = jnp.where(allowed, log_probability - jnp.log(jnp.maximum(probability, 1e-30))[category], 0)
    bar = largest(jnp.where(allowed, scores, -jnp.inf), min(TOP, len(scores) - 1))[0][-1]
    sums = {
        "weight": weight.sum(1),
        "weighted_z": (weight * z).sum(1),
        "weighted_z2": (weight * z**2).sum(1),
        "weighted_share": (weight * share).sum(1),
        "weighted_share2": (weight * share**2).sum(1),
        "z": z.sum(1),
        "in_top": ((scores >= bar) & allowed).sum(1),
    }
    return sums, (hidden, probability.T, mean, jnp.where(present[0], deviation, jnp.inf))  # z is 0 of whoever fills up a tile


def _sum_groups(table, history, members, hidden, mean, deviation) -> tuple[jax.Array, jax.Array]:
    """Returns the sums of z and of z squared [V + 1, G] within each group; all users meet one block of items after another.

    Args:
      table: [V + 1, E], the vectors that items are scored with.
      history, members: [U, L] and [U, G].
      hidden, mean, deviation: what `_sum_tile` returns of users.
    """
    users = jnp.arange(len(history))[:, None]

    def of_block(block):
        rows, vectors = block
        place = jnp.where(history >= rows[0], history - rows[0], len(rows))  # beyond the block: dropped
        z = (scoring.scores("bd,vd->vb", hidden, vectors) - mean) / deviation
        z = jnp.where(rows[:, None] == 0, 0, z).at[place, users].set(0, mode="drop")
        return tuple(jnp.matmul(each, members, precision=scoring.EXACT) for each in (z, z**2))

    sums = jax.lax.map(of_block, item_blocks(table))
    return tuple(jax.lax.collapse(each, 0, 2)[: len(table)] for each in sums)


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig, categories: int):
    """Returns the program that gives the MomentSums of N tiles of B users, their vectors and category probabilities [N B, ..]."""

    @jax.jit
    def sum_tiles(params, category, tiles):
        history, profile, members, present = tiles
        of_tile = functools.partial(_sum_tile, model, categories, params, category)

        def add_tile(totals, tile):
            sums, of_users = of_tile(tile)
            return jax.tree.map(jnp.add, totals, sums), of_users

        given = (history, profile, present)
        shapes, _ = jax.eval_shape(of_tile, jax.tree.map(lambda part: part[0], given))
        none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        totals, (hidden, probability, *scale) = jax.lax.scan(add_tile, none, given)
        of_users = (history, members.astype(jnp.float32), hidden, probability, *scale)
        history, members, hidden, probability, *scale = (jax.lax.collapse(each, 0, 2) for each in of_users)
        group_z, group_z2 = _sum_groups(scoring.item_vectors(params, model), history, members, hidden, *scale)
        return MomentSums(**totals, group_z=group_z, group_z2=group_z2), hidden, probability

    return sum_tiles


@functools.partial(jax.jit, donate_argnums=0)
def _add(totals: MomentSums, sums: MomentSums) -> MomentSums:
    return jax.tree.map(jnp.add, totals, sums)


def _scale(scores: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B] mean and standard deviation of each user's scores [V + 1, B] of the allowed items."""
    count = jnp.maximum(allowed.sum(0), 1)
    mean = jnp.where(allowed, scores, 0).sum(0) / count
    centred = jnp.where(allowed, scores - mean, 0)
    return mean, jnp.sqrt((centred**2).sum(0) / count + 1e-12)
