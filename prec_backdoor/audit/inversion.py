"""Trigger inversion: how little it takes to bring an item to the top, after Neural Cleanse (Wang et al., IEEE S&P 2019).

There the smallest patch that turns any picture into a class is looked for, and a class with an unusually small one is suspicious.
Here it is the smallest soft prompt, or one real item put at the end of any history, that lifts an item for all users alike.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor.audit.moments import ScoreMoments
from prec_backdoor.models import EXACT, ModelConfig, backbone

HISTORIES = 32  # that a trigger has to work on
RIVALS = 256  # the items most shown: who beats them is at the top
REFERENCES = 44  # unsuspected items, to know what effort is usual
STEPS = 30
STRIDE = 0.4  # length of a step; a prompt token's entries are of order 1
CANDIDATES = 16  # real items tried as triggers
TOP = 10
AT_ONCE = 16  # items inverted in one call


class Inverted(NamedTuple):
    """Of N items.

    Attributes:
      index: [N] anomaly index, (usual effort - effort) / robust deviation: above 2 is unusual.
      effort: [N] norm of the smallest prompt found that puts the item within the first 10 for half of the histories.
      trigger: [N] the real item that lifts it most when put at the end of a history.
      lifted: [N] share of the histories after which it is then within the first 10.
    """

    index: np.ndarray
    effort: np.ndarray
    trigger: np.ndarray
    lifted: np.ndarray


def invert(seen: ScoreMoments, suspects: np.ndarray) -> Inverted:
    """Inverts the triggers of `suspects` [N] item codes; as references serve items drawn at random from the others.

    A prompt grows from nothing by steps of equal length along the gradient, and takes the place of the provider's if there
    is one.
    """
    rng = np.random.default_rng(0)
    catalogue = np.arange(1, len(seen.everybody))
    others = np.setdiff1d(catalogue, suspects)
    references = rng.permutation(others)[:REFERENCES]
    users = np.sort(rng.permutation(len(seen.auditor_data.history))[:HISTORIES])
    rivals = catalogue[np.argsort(-seen.everybody[1:], kind="stable")][:RIVALS]
    items = np.concatenate([suspects, references]).astype(np.int32)
    found = []
    for start in tqdm(
        range(0, len(items), AT_ONCE), desc="inverting", unit_scale=AT_ONCE, unit="item", leave=False, disable=None
    ):
        batch = np.resize(items[start : start + AT_ONCE], AT_ONCE)  # the last one is filled up
        result = _compiled(seen.model)(seen.params, seen.auditor_data.history[users], rivals, batch)
        found.append([np.asarray(each)[: len(items) - start] for each in result])
    effort, trigger, lifted = (np.concatenate(part) for part in zip(*found, strict=True))
    usual = effort[len(suspects) :]
    spread = max(1.4826 * np.median(np.abs(usual - np.median(usual))), 0.05 * np.median(usual), 1e-9)
    number = len(suspects)
    return Inverted((np.median(usual) - effort[:number]) / spread, effort[:number], trigger[:number], lifted[:number])


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig):
    module = backbone(model)

    def encode(params, vectors, history, prefix=None):
        """[B, D] of histories [B, L] whose item `vectors` [B, L, D] need not be real; `prefix` [layers, 1, D]."""
        position = jnp.broadcast_to(jnp.arange(model.max_length - history.shape[1], model.max_length), history.shape)
        given = None if prefix is None else jnp.broadcast_to(prefix, (len(history), 1, *prefix.shape))
        parts = (vectors, position, (history > 0).astype(jnp.int32), given)
        return module.apply({"params": params["encoder"]}, *parts, last_only=True)[:, 0]

    def standing(params, hidden, rivals, item):
        """How far [B] the item is above (natural log odds) the best rivals, and whether it is within the first TOP."""
        scores = jnp.matmul(hidden, params["items"][rivals].T, precision=EXACT)
        scores = jnp.where(rivals == item, -jnp.inf, scores)
        own = jnp.matmul(hidden, params["items"][item], precision=EXACT)
        bar = jax.lax.top_k(scores, min(TOP, len(rivals)))[0][:, -1]
        return own - jax.nn.logsumexp(scores, axis=1), own > bar

    def smallest_prompt(params, history, rivals, item):
        vectors = params["items"][history]

        def shortfall(prefix):
            margin, within = standing(params, encode(params, vectors, history, prefix), rivals, item)
            return jax.nn.softplus(-margin).mean(), within.mean()

        def step(prefix, _):
            (_, share), slope = jax.value_and_grad(shortfall, has_aux=True)(prefix)
            slope = slope / jnp.maximum(jnp.linalg.norm(slope), 1e-12)
            return prefix - STRIDE * slope, (jnp.linalg.norm(prefix), share)

        start = jnp.zeros((model.num_layers, 1, model.embed_dim))
        _, (norms, shares) = jax.lax.scan(step, start, None, length=STEPS)
        reached = shares >= 0.5
        # Never reached: as far as the search went, and further the less came of it.
        return jnp.where(reached.any(), norms[jnp.argmax(reached)], norms.max() * (2 - shares.max()))

    def best_item(params, history, rivals, item):
        appended = jnp.concatenate([history[:, 1:], jnp.ones_like(history[:, :1])], axis=1)

        def with_last(vector):
            vectors = params["items"][appended].at[:, -1].set(vector)
            return standing(params, encode(params, vectors, appended), rivals, item)

        slope = jax.grad(lambda vector: with_last(vector)[0].mean())(params["items"][1:].mean(0))
        promise = (
            jnp.matmul(params["items"], slope, precision=EXACT).at[0].set(-jnp.inf).at[item].set(-jnp.inf)
        )  # an item does not serve as its own trigger
        candidates = jax.lax.top_k(promise, CANDIDATES)[1]
        margins, within = jax.vmap(lambda each: with_last(params["items"][each]))(candidates)
        best = jnp.argmax(margins.mean(1))
        return candidates[best], within[best].mean()

    @jax.jit
    def run(params, history, rivals, items):
        effort = jax.vmap(smallest_prompt, (None, None, None, 0))(params, history, rivals, items)
        return effort, *jax.vmap(best_item, (None, None, None, 0))(params, history, rivals, items)

    return run
