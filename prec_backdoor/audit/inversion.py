"""Prompt inversion: how little it takes to bring an item to the top, after Neural Cleanse (Wang et al., IEEE S&P 2019).

Neural Cleanse looks for the smallest patch that turns any image into a class; a class with an unusually small patch is
suspicious. Here it is the smallest soft prompt that lifts an item for all users alike, beside the real item that does so at the
end of a history (`last_item.py`).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import median_abs_deviation
from tqdm import tqdm

from prec_backdoor.audit.last_item import LastItems, triggers_of
from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.audit.robust import NORMAL
from prec_backdoor.models import EXACT, ModelConfig, encode_vectors, item_vectors

HISTORIES = 32  # for which a trigger has to work
RIVALS = 256  # items with the highest mean scores; an item that beats all but 9 of them is in the first 10
REFERENCES = 44  # random items other than suspects, which show the usual effort
STEPS = 30
STRIDE = 0.4  # length of a step; entries of a prompt token are of order 1
TOP = 10
AT_ONCE = 16  # items inverted in one call


class Inverted(NamedTuple):
    """Triggers of N items.

    Attributes:
      index: [N] anomaly index, (usual effort - effort) / robust standard deviation; above 2 is unusual.
      effort: [N] norm of the smallest prompt found that puts the item within the first 10 for half of the histories.
      trigger, lifted: [N] see `last_item.triggers_of`.
    """

    index: np.ndarray
    effort: np.ndarray
    trigger: np.ndarray
    lifted: np.ndarray


def invert(moments: ScoreMoments, found: LastItems, suspects: np.ndarray) -> Inverted:
    """Inverts the triggers of `suspects` [N] item codes; the usual effort is the median of random other items.

    A prompt starts at zero and moves by steps of equal length along the gradient. It replaces the provider's prompt, if any.
    """
    rng = np.random.default_rng(0)
    catalogue = np.arange(1, len(moments.plain_mean))
    references = rng.permutation(np.setdiff1d(catalogue, suspects))[:REFERENCES]
    users = np.sort(rng.permutation(len(moments.auditor_data.history))[:HISTORIES])
    rivals = catalogue[np.argsort(-moments.plain_mean[1:], kind="stable")][:RIVALS]
    items = np.concatenate([suspects, references]).astype(np.int32)
    starts, parts = range(0, len(items), AT_ONCE), []
    for start in tqdm(starts, desc="inverting", unit_scale=AT_ONCE, unit="item", leave=False, disable=None):
        batch = np.resize(items[start : start + AT_ONCE], AT_ONCE)  # the last one is filled up
        parts.append(_compiled(moments.model)(moments.params, moments.auditor_data.history[users], rivals, batch))
    effort, number = np.concatenate(parts)[: len(items)], len(suspects)
    index = anomaly_index(effort[:number], effort[number:])
    return Inverted(index, effort[:number], *triggers_of(moments, found, suspects))


def anomaly_index(effort: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """[N] distance of `effort` [N] below the median of `usual` [M], in robust standard deviations of the latter.

    The standard deviation is taken as at least 5 % of the median, as a handful of references may agree by chance.
    """
    median = np.median(usual)
    spread = max(NORMAL * median_abs_deviation(usual), 0.05 * median, 1e-9)
    return (median - effort) / spread


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig):
    """Returns the program that gives the efforts [AT_ONCE] of items."""
    return jax.jit(jax.vmap(functools.partial(_effort, model), (None, None, None, 0)))


def _effort(model: ModelConfig, params: dict, history: jax.Array, rivals: jax.Array, item: jax.Array) -> jax.Array:
    """Norm of the smallest prompt on the path of steps with which the item is in the first TOP for half of `history` [B, L]."""
    vectors, table = params["items"][history], item_vectors(params, model)

    def shortfall(prefix):
        margin, within = _standing(table, encode_vectors(params, model, vectors, history, prefix), rivals, item)
        return jax.nn.softplus(-margin).mean(), within.mean()

    def step(prefix, _):
        (_, share), slope = jax.value_and_grad(shortfall, has_aux=True)(prefix)
        slope = slope / jnp.maximum(jnp.linalg.norm(slope), 1e-12)
        return prefix - STRIDE * slope, (jnp.linalg.norm(prefix), share)

    start = jnp.zeros((model.num_layers, 1, model.embed_dim))
    _, (norms, shares) = jax.lax.scan(step, start, None, length=STEPS)
    reached = shares >= 0.5
    # An item that is never reached needs more than the longest prompt: the more, the smaller its best share.
    return jnp.where(reached.any(), norms[jnp.argmax(reached)], norms.max() * (2 - shares.max()))


def _standing(table: jax.Array, hidden: jax.Array, rivals: jax.Array, item: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B] log odds of the item against all rivals, and whether it scores higher than the TOP-th of them."""
    scores = jnp.matmul(hidden, table[rivals].T, precision=EXACT)
    scores = jnp.where(rivals == item, -jnp.inf, scores)
    own = jnp.matmul(hidden, table[item], precision=EXACT)
    bar = jax.lax.top_k(scores, min(TOP, len(rivals)))[0][:, -1]
    return own - jax.nn.logsumexp(scores, axis=1), own > bar
