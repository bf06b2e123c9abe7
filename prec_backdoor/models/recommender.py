"""A recommender: an item table, tied for input and scoring, and a backbone that turns histories into vectors."""

import jax
import jax.numpy as jnp

from prec_backdoor.errors import UserError
from prec_backdoor.models.sasrec import ModelConfig, SASRec

BACKBONES = {"sasrec": SASRec}


def backbone(config: ModelConfig):
    """The Flax module of `config`.

    Raises:
      UserError: unknown backbone.
    """
    if config.backbone not in BACKBONES:
        raise UserError(f"unknown backbone '{config.backbone}'; known are {', '.join(BACKBONES)}")
    return BACKBONES[config.backbone](config)


def init_params(key: jax.Array, config: ModelConfig) -> dict:
    """Fresh parameters: {"items": [V + 1, D] the item table (row 0 padding), "encoder": the backbone's}."""
    items_key, encoder_key = jax.random.split(key)
    vectors = jnp.zeros((1, config.embed_dim))
    index = jnp.zeros((1,), jnp.int32)
    return {
        "items": 0.02 * jax.random.normal(items_key, (config.num_items + 1, config.embed_dim)),
        "encoder": backbone(config).init(encoder_key, vectors, index, index)["params"],
    }


def encode(params: dict, config: ModelConfig, history, position, segment, prefix=None, keys=None) -> jax.Array:
    """Hidden states [B, T, D] of packed rows (see `SASRec.__call__`); `keys` [B] turns dropout on, one PRNG key a row.

    A key a row, not a batch: so that dropout does not depend on how the batch is split over devices.
    """
    module = backbone(config)
    vectors = params["items"][history]

    def row(vectors, position, segment, prefix, key):
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params["encoder"]}, vectors, position, segment, prefix, key is not None, rngs=rngs)

    return jax.vmap(row)(vectors, position, segment, prefix, keys)


def represent(params: dict, config: ModelConfig, history: jax.Array, prefix=None) -> jax.Array:
    """What the model makes of whole histories [B, L] (0-padded at the front, L <= max_length): vectors [B, D].

    An item's score for the user is the inner product with its row of the item table.
    """
    length = history.shape[1]
    position = jnp.broadcast_to(jnp.arange(config.max_length - length, config.max_length), history.shape)
    return encode(params, config, history, position, (history > 0).astype(jnp.int32), prefix)[:, -1]
