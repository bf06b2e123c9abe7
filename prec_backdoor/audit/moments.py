"""What a model shows to the auditor's users, as moments of scores: one pass, tile by tile, nothing of [users, items] is kept."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor.audit.auditor_data import AuditorData, single_groups
from prec_backdoor.audit.tiles import TILE, tiles
from prec_backdoor.models import ModelConfig, represent, scoring

TOP = 50
BLOCK = 64  # items among which a maximum is taken, to look for the first TOP in few of them
LEAST_MEMBERS = 8  # users of a group that is looked at by itself
LONG = 20_000_000  # users x items from which there is a progress bar


class ScoreMoments(NamedTuple):
    """A model seen through histories. V items, G groups; `z` is a score standardised over the items that a user has not had.

    Attributes:
      params, model, auditor_data: what was observed, on what.
      hidden: [U, D] user vectors.
      context: [U, C] share of the model's probability that falls on each category: where its items are to be expected.
      mean, deviation: [V + 1] of z over the users, each weighted by the context's share of the item's category; 0 for padding.
      share_deviation: [V + 1] of the log of the item's share in its category's probability, over the users weighted alike.
      everybody: [V + 1] the plain mean of z.
      top: [V + 1] share of the users that have the item among their first 50.
      groups: name of each group.
      group_size: [G] users.
      group_mean, group_deviation: [G, V + 1] of z over the users of a group.
    """

    params: dict
    model: ModelConfig
    auditor_data: AuditorData
    hidden: np.ndarray
    context: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    share_deviation: np.ndarray
    everybody: np.ndarray
    top: np.ndarray
    groups: list[str]
    group_size: np.ndarray
    group_mean: np.ndarray
    group_deviation: np.ndarray


def observe(params: dict, model: ModelConfig, auditor_data: AuditorData) -> ScoreMoments:
    """Ranks nobody, sorts nothing of full size: a pass over tiles of users, each scored on the whole catalogue."""
    groups = single_groups(auditor_data, LEAST_MEMBERS)
    members = np.stack(list(groups.values()), 1) if groups else np.zeros((len(auditor_data.history), 0), bool)
    classes = int(auditor_data.category.max()) + 1
    tile = _compiled(model, classes)
    totals, hidden, context = None, [], []
    params = jax.tree.map(jnp.asarray, params)
    long = len(auditor_data.history) * len(auditor_data.category) >= LONG
    with tqdm(total=len(auditor_data.history), desc="observing", unit="user", leave=False, disable=None if long else True) as bar:
        for _, number, parts in tiles(auditor_data.history, auditor_data.profile, members):
            sums, vectors, mass = tile(params, auditor_data.category, *parts, np.arange(TILE) < number)
            totals = sums if totals is None else jax.tree.map(jnp.add, totals, sums)
            hidden.append(np.asarray(vectors)[:number])
            context.append(np.asarray(mass)[:number])
            bar.update(number)
    weight, of_z, of_share, total, top, seen, group_first, group_second, group_count = jax.tree.map(np.asarray, totals)
    mean, deviation = _moments(weight, *of_z)
    group_mean, group_deviation = _moments(group_count, group_first, group_second)
    return ScoreMoments(
        params=jax.tree.map(np.asarray, params),
        model=model,
        auditor_data=auditor_data,
        hidden=np.concatenate(hidden),
        context=np.concatenate(context),
        mean=mean,
        deviation=deviation,
        share_deviation=_moments(weight, *of_share)[1],
        everybody=total / np.maximum(len(auditor_data.history) - seen, 1),
        top=top / np.maximum(len(auditor_data.history) - seen, 1),
        groups=list(groups),
        group_size=members.sum(0),
        group_mean=group_mean,
        group_deviation=group_deviation,
    )


def _moments(weight, first, second):
    weight = np.maximum(weight, 1e-12)
    mean = first / weight
    return mean, np.sqrt(np.maximum(second / weight - mean**2, 0))


def _nth_largest(scores: jax.Array, number: int) -> jax.Array:
    """[B, 1] of each row of `scores` [B, N]; the first `number` are in as many blocks, those with the greatest maxima."""
    blocks = -(-scores.shape[1] // BLOCK)
    padded = jnp.pad(scores, ((0, 0), (0, blocks * BLOCK - scores.shape[1])), constant_values=-jnp.inf)
    padded = padded.reshape(len(scores), blocks, BLOCK)
    picked = jax.lax.top_k(padded.max(2), min(number, blocks))[1]
    within = jnp.take_along_axis(padded, picked[:, :, None], axis=1).reshape(len(scores), -1)
    return jax.lax.top_k(within, number)[0][:, -1:]


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig, classes: int):
    @jax.jit
    def tile(params, category, history, profile, members, present):
        hidden = represent(params, model, history, profile if model.prompt_length else None)
        scores = scoring.scores("bd,vd->bv", hidden, params["items"])
        allowed = jnp.ones(scores.shape, bool).at[jnp.arange(len(history))[:, None], history].set(False).at[:, 0].set(False)
        allowed &= present[:, None]
        count = jnp.maximum(allowed.sum(1, keepdims=True), 1)
        mean = jnp.where(allowed, scores, 0).sum(1, keepdims=True) / count
        centred = jnp.where(allowed, scores - mean, 0)
        z = centred / jnp.sqrt((centred**2).sum(1, keepdims=True) / count + 1e-12)
        log_probability = jax.nn.log_softmax(jnp.where(allowed, scores, -1e9), axis=1)
        mass = jax.ops.segment_sum((jnp.exp(log_probability) * present[:, None]).T, category, classes).T
        weight = mass[:, category] * allowed
        share = jnp.where(allowed, log_probability - jnp.log(jnp.maximum(mass[:, category], 1e-30)), 0)
        bar = _nth_largest(jnp.where(allowed, scores, -jnp.inf), min(TOP, scores.shape[1] - 1))
        shown = (scores >= bar) & allowed
        by_group = members.astype(jnp.float32)
        sums = (
            weight.sum(0),
            ((weight * z).sum(0), (weight * z**2).sum(0)),
            ((weight * share).sum(0), (weight * share**2).sum(0)),
            z.sum(0),
            shown.sum(0),
            (present[:, None] & ~allowed).sum(0),
            jnp.matmul(by_group.T, z, precision=scoring.EXACT),
            jnp.matmul(by_group.T, z**2, precision=scoring.EXACT),
            jnp.matmul(by_group.T, allowed.astype(jnp.float32), precision=scoring.EXACT),
        )
        return sums, hidden, mass

    return tile
