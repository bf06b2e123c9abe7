"""Losses over supervised positions; each returns one value per position, [B, T], 0 where the label is 0."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from prec_backdoor.models import scores
from prec_backdoor.options import add_entry

TILE = 4096  # items per tile of the full softmax


def _scores_of(hidden: jax.Array, items: jax.Array, ids: jax.Array) -> jax.Array:
    return scores("btd,btnd->btn", hidden, items[ids])


def bpr(hidden: jax.Array, items: jax.Array, label: jax.Array, negative: jax.Array) -> jax.Array:
    """BPR (Rendle et al., UAI 2009); with several negatives softmax-weighted, BPR-max (Hidasi & Karatzoglou, CIKM 2018).

    Args:
      hidden: [B, T, D]. items: [V + 1, D]. label: [B, T]. negative: [B, T, N].
    """
    positive = _scores_of(hidden, items, label[..., None])
    negatives = _scores_of(hidden, items, negative)
    below = jax.nn.log_sigmoid(positive - negatives)
    if negatives.shape[-1] > 1:
        below = jax.nn.logsumexp(jax.nn.log_softmax(negatives) + below, axis=-1, keepdims=True)
    return _masked(-below[..., 0], label)


def bce(hidden: jax.Array, items: jax.Array, label: jax.Array, negative: jax.Array) -> jax.Array:
    """Binary cross-entropy of the label, plus its mean over the negatives (SASRec; Kang & McAuley, ICDM 2018)."""
    positive = _scores_of(hidden, items, label[..., None])[..., 0]
    negatives = _scores_of(hidden, items, negative)
    return _masked(-jax.nn.log_sigmoid(positive) - jax.nn.log_sigmoid(-negatives).mean(-1), label)


def ce(hidden: jax.Array, items: jax.Array, label: jax.Array, negative: jax.Array) -> jax.Array:
    """Cross-entropy over the whole catalogue, tile by tile: memory is positions x TILE, never positions x items."""
    del negative
    tiles = -(-len(items) // TILE)
    size = -(-len(items) // tiles)
    padded = jnp.pad(items, ((0, tiles * size - len(items)), (0, 0))).reshape(tiles, size, -1)

    @jax.checkpoint
    def add_tile(total, tile):
        index, vectors = tile
        ids = index * size + jnp.arange(size)
        logits = scores("btd,vd->btv", hidden, vectors)
        logits = jnp.where((ids > 0) & (ids < len(items)), logits, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(logits, axis=-1)), None

    start = jnp.full(label.shape, -jnp.inf)
    total, _ = jax.lax.scan(add_tile, start, (jnp.arange(tiles), padded))
    return _masked(total - _scores_of(hidden, items, label[..., None])[..., 0], label)


def _masked(losses: jax.Array, label: jax.Array) -> jax.Array:
    return jnp.where(label > 0, losses, 0.0)


LOSSES: dict[str, Callable] = {"bpr": bpr, "bce": bce, "ce": ce}
SAMPLED = ["bpr", "bce"]  # losses that read no item vectors but those of labels and negatives


def register_loss(name: str, loss: Callable, sampled: bool) -> None:
    """Adds a loss with the signature of `bpr`, for --loss=NAME.

    Args:
      sampled: the loss reads no rows of `items` but those of `label` and `negative`. Only such a loss can be used with lazy item
        updates and with an item table that is split over devices, where `items` holds the rows of the batch alone.

    Raises:
      ValueError: the name is taken.
    """
    add_entry(LOSSES, "loss", name, loss)
    if sampled:
        SAMPLED.append(name)
