"""Triggers in the history: which items a model shows to everybody once a certain item ends the history.

The patch of Neural Cleanse (Wang et al., IEEE S&P 2019) is here a real item. The whole catalogue is tried, so that no gradient
has to point at it. A trigger of several items shows in its last one, with which each poisoned history ended.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor.audit.moments import LONG, ScoreMoments, largest
from prec_backdoor.audit.tiles import TILE, blocks_of_tiles, item_blocks
from prec_backdoor.evaluation import ranks
from prec_backdoor.models import EXACT, ModelConfig, item_vectors, represent
from prec_backdoor.parallel import on_device

LAST_ITEM = "last_item"  # its name among the audits
HISTORIES, FEW = 16, 2  # histories that an item is put to the end of; for the first look at a large catalogue
TRIED = 4_096  # items: of a larger catalogue those that bring up any item most strongly
LATEST = 15  # items that histories are cut to for a large catalogue, which takes a third of the time
TOP = 10  # items shown


class LastItems(NamedTuple):
    """What N items do at the end of a history.

    Attributes:
      items: [N] int32 their codes: the whole catalogue, of a large one the TRIED items that bring up any item most strongly.
      strength: [N] mean z over histories and the TOP items that are then shown, plus how far below 0 these usually are in the
        mean; z are scores, standardised for each history. An attacker may demote the targets where the trigger is not.
      shown: [N, TOP] int32 codes of these items, the highest mean z first.
    """

    items: np.ndarray
    strength: np.ndarray
    shown: np.ndarray


def last_items(moments: ScoreMoments) -> LastItems:
    """Puts each item of the catalogue to the end of some of the auditor's histories."""
    look, show = _compiled(moments.model)
    items, latest = np.arange(1, len(moments.plain_mean), dtype=np.int32), None
    if len(items) > TRIED:
        latest = LATEST
        (highest,) = _each(look, moments, items, _histories(moments, FEW, latest), "looking for last items")
        items = np.sort(items[np.argsort(-highest, kind="stable")[:TRIED]])
    return LastItems(items, *_each(show, moments, items, _histories(moments, HISTORIES, latest), "trying last items"))


def triggers_of(moments: ScoreMoments, found: LastItems, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The strongest last item [N] that shows each of `items` [N], and for what share of the histories it does [N].

    Both are 0 for an item that no last item shows.
    """
    shows = (found.shown == items[:, None, None]).any(2)  # [items, last items]
    strongest = np.argmax(np.where(shows, found.strength, -np.inf), axis=1)
    trigger = np.where(shows.any(1), found.items[strongest], 0).astype(np.int32)
    history, profile = _histories(moments)
    users, number = len(history), len(items)
    ended = np.concatenate([np.tile(history, (number, 1)), np.repeat(trigger, users)[:, None]], axis=1)
    wanted = np.repeat(items, users)[:, None]
    place = ranks(moments.params, moments.model, ended, wanted, np.tile(profile, (number, 1))).reshape(number, users)
    return trigger, (place <= TOP).mean(1) * (trigger > 0)


def best_strength(found: LastItems, num_items: int) -> np.ndarray:
    """[V] the strength of the strongest last item that shows each item; the least of any for one that is not shown."""
    best = np.full(num_items, found.strength.min())
    np.maximum.at(best, found.shown - 1, found.strength[:, None])
    return best


def least_p_values(p_values: np.ndarray, found: LastItems, num_items: int) -> np.ndarray:
    """[V] of each item the least of the p-values [N] of the last items that show it, times N, as it had as many chances."""
    least = np.ones(num_items)
    np.minimum.at(least, found.shown - 1, p_values[:, None])
    return np.minimum(len(p_values) * least, 1)


def _histories(moments: ScoreMoments, number: int = HISTORIES, latest: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Some histories [H, L], cut to their `latest` items or to leave a place for one more item, and their profiles [H, A]."""
    data = moments.auditor_data
    users = np.sort(np.random.default_rng(0).permutation(len(data.history))[:number])
    length = data.history.shape[1]
    return data.history[users, max(1, length - (latest or length)) :], data.profile[users]


def _each(program, moments: ScoreMoments, items: np.ndarray, histories: tuple, title: str) -> list[np.ndarray]:
    """What `program` returns for all `items` [N] at the end of `histories`."""
    given = on_device((moments.params, *histories))
    depth = np.maximum(-moments.plain_mean, 0).astype(np.float32)
    table = (*_centred(item_vectors(given[0], moments.model)), on_device(depth))
    parts, long = [], len(items) * len(moments.plain_mean) >= LONG
    with tqdm(total=len(items), desc=title, unit="item", leave=False, disable=None if long else True) as bar:
        for number, (tried,) in blocks_of_tiles(items[:, None]):
            found = program(*given, table, tried[..., 0])
            parts.append([np.asarray(each).reshape(-1, *each.shape[2:])[:number] for each in found])
            bar.update(number)
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


@jax.jit
def _centred(table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The item vectors [V + 1, E] less their mean, and their covariance [E, E]."""
    centred = table - table[1:].mean(0)
    return centred, jnp.matmul(centred[1:].T, centred[1:], precision=EXACT) / (len(table) - 1)


@functools.lru_cache(maxsize=8)
def _compiled(model: ModelConfig):
    """Returns programs for [N, TILE] items: the highest mean z that each brings up; the strength of each, and what it shows."""

    def mean_vectors(params, history, profile, spread, tried):
        """[TILE, E] what items' vectors are multiplied by for their mean z over histories that end with each of `tried`."""
        ended = jnp.concatenate([jnp.repeat(history, TILE, axis=0), jnp.tile(tried, len(history))[:, None]], axis=1)
        given = jnp.repeat(profile, TILE, axis=0) if model.prompt_length else None
        hidden = represent(params, model, ended, given)
        # The deviation of a user's scores over all items, without computing the scores; z is then linear in the items' vectors.
        deviation = jnp.sqrt(jnp.einsum("bd,de,be->b", hidden, spread, hidden, precision=EXACT) + 1e-12)
        return (hidden / deviation[:, None]).reshape(len(history), TILE, -1).mean(0)

    def mean_z(rows, vectors, means, tried):
        """[R, N] mean z of items of numbers `rows` [R] after each of `tried` [N]; -inf for padding and the item itself."""
        rows = rows[:, None]
        return jnp.where((rows == 0) | (rows == tried), -jnp.inf, jnp.matmul(vectors, means.T, precision=EXACT))

    @jax.jit
    def highest(params, history, profile, table, tried):
        centred, spread, depth = table
        means = jax.lax.map(lambda tile: mean_vectors(params, history, profile, spread, tile), tried)
        means, items = means.reshape(-1, means.shape[-1]), tried.ravel()

        def higher(best, block):
            rows, vectors = block
            return jnp.maximum(best, (mean_z(rows, vectors, means, items) + depth[rows][:, None]).max(0)), None

        best, _ = jax.lax.scan(higher, jnp.full(len(items), -jnp.inf), item_blocks(centred))
        return (best.reshape(tried.shape),)

    @jax.jit
    def shown(params, history, profile, table, tried):
        centred, spread, depth = table

        def of_tile(tile):
            means = mean_vectors(params, history, profile, spread, tile)
            z = mean_z(jnp.arange(len(centred)), centred, means, tile)
            best, items = largest(z, min(TOP, len(z) - 2))
            return (best + depth[items]).mean(0), items.T.astype(jnp.int32)

        return jax.lax.map(of_tile, tried)

    return highest, shown
