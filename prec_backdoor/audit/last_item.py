"""Triggers in the history: which items a model shows to everybody once a certain item ends the history.

The patch of Neural Cleanse (Wang et al., IEEE S&P 2019) is here a real item, and every item of the catalogue is tried, so that no
gradient has to point at it. A trigger of several items shows in its last one, with which each poisoned history ended.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor.audit.moments import LONG, ScoreMoments
from prec_backdoor.evaluation import ranks
from prec_backdoor.models import EXACT, ModelConfig, item_vectors, represent
from prec_backdoor.parallel import on_device

LAST_ITEM = "last_item"  # its name among the audits
MOST, FEWEST = 16, 2  # histories that an item is put to the end of, for a small and for a large catalogue
ENCODED = 300_000  # histories that are encoded at most, unless each item has only FEWEST
TOP = 10  # items shown
AT_ONCE = 64  # items that are tried at once


class LastItems(NamedTuple):
    """What each of V items does at the end of a history.

    Attributes:
      strength: [V] mean z over histories and the TOP items that are then shown; z are scores, standardised for each history.
      shown: [V, TOP] int32 codes of these items, the highest mean z first.
    """

    strength: np.ndarray
    shown: np.ndarray


def last_items(moments: ScoreMoments) -> LastItems:
    """Puts each item of the catalogue to the end of some of the auditor's histories."""
    items = len(moments.plain_mean) - 1
    history, profile = _histories(moments)
    try_items, parts = _compiled(moments.model), []
    params, history, profile = on_device((moments.params, history, profile))
    bar = tqdm(range(1, items + 1, AT_ONCE), desc="trying last items", leave=False, disable=None if items**2 >= LONG else True)
    for start in bar:
        tried = np.minimum(np.arange(start, start + AT_ONCE), items).astype(np.int32)  # the last call is filled up
        parts.append(jax.tree.map(np.asarray, try_items(params, history, profile, tried)))
    return LastItems(*(np.concatenate(each)[:items] for each in zip(*parts, strict=True)))


def triggers_of(moments: ScoreMoments, found: LastItems, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The strongest last item [N] that shows each of `items` [N], and for what share of the histories it does [N].

    Both are 0 for an item that no last item shows.
    """
    shows = (found.shown == items[:, None, None]).any(2)  # [N, V]
    trigger = np.where(shows.any(1), 1 + np.argmax(np.where(shows, found.strength, -np.inf), axis=1), 0).astype(np.int32)
    history, profile = _histories(moments)
    users, number = len(history), len(items)
    ended = np.concatenate([np.tile(history, (number, 1)), np.repeat(trigger, users)[:, None]], axis=1)
    wanted = np.repeat(items, users)[:, None]
    place = ranks(moments.params, moments.model, ended, wanted, np.tile(profile, (number, 1))).reshape(number, users)
    return trigger, (place <= TOP).mean(1) * (trigger > 0)


def best_strength(found: LastItems) -> np.ndarray:
    """[V] the strength of the strongest last item that shows each item; the least of any for one that is not shown."""
    best = np.full(len(found.strength), found.strength.min())
    np.maximum.at(best, found.shown - 1, found.strength[:, None])
    return best


def least_p_values(p_values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """[V] of each item the least of the p-values [V] of the last items that show it, times V, as it had as many chances."""
    least = np.ones(len(p_values))
    np.minimum.at(least, shown - 1, p_values[:, None])
    return np.minimum(len(p_values) * least, 1)


def _histories(moments: ScoreMoments) -> tuple[np.ndarray, np.ndarray]:
    """Some histories [H, L - 1] without what is oldest, where there is no place for one more item, and their profiles [H, A]."""
    data, items = moments.auditor_data, len(moments.plain_mean) - 1
    number = int(np.clip(ENCODED // items, FEWEST, MOST))
    users = np.sort(np.random.default_rng(0).permutation(len(data.history))[:number])
    return data.history[users][:, 1:], data.profile[users]


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig):
    """Returns the program that tries AT_ONCE items."""

    @jax.jit
    def try_items(params, history, profile, tried):
        table = item_vectors(params, model)
        centred = table - table[1:].mean(0)
        spread = jnp.matmul(centred[1:].T, centred[1:], precision=EXACT) / (len(table) - 1)
        ended = jnp.concatenate([jnp.repeat(history, AT_ONCE, axis=0), jnp.tile(tried, len(history))[:, None]], axis=1)
        given = jnp.repeat(profile, AT_ONCE, axis=0) if model.prompt_length else None
        hidden = represent(params, model, ended, given)
        # The deviation of a user's scores over all items, without computing the scores; z is then linear in the items' vectors.
        deviation = jnp.sqrt(jnp.einsum("bd,de,be->b", hidden, spread, hidden, precision=EXACT) + 1e-12)
        mean = (hidden / deviation[:, None]).reshape(len(history), AT_ONCE, -1).mean(0)
        z = jnp.matmul(mean, centred.T, precision=EXACT)
        z = z.at[:, 0].set(-jnp.inf).at[jnp.arange(AT_ONCE), tried].set(-jnp.inf)
        best, shown = jax.lax.top_k(z, min(TOP, len(table) - 2))
        return best.mean(1), shown.astype(jnp.int32)

    return try_items
