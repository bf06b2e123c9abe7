"""Scores of items for users: inner products of user and item vectors, in float32 on every platform."""

import jax
import jax.numpy as jnp

from prec_backdoor.models.config import ModelConfig

SHORTEST = 1e-16  # square of the length below which a vector is not scaled up
EXACT = jax.lax.Precision.HIGHEST  # for products that ranks, losses or ties depend on: an accelerator's default rounds inputs


def scores(subscripts: str, hidden: jax.Array, vectors: jax.Array, precision=EXACT) -> jax.Array:
    """Returns the inner products of user and item vectors, by the subscripts of `jnp.einsum`.

    Products are exact to float32, where a GPU by default rounds the inputs to TF32 and a TPU to bfloat16: close scores would tie.

    Args:
      precision: another way to float32 products.
    """
    return jnp.einsum(subscripts, hidden, vectors, precision=precision, preferred_element_type=jnp.float32)


def item_vectors(params: dict, config: ModelConfig) -> jax.Array:
    """Returns [V + 1, E] the vectors that items are scored with, those of the rows that `params` has; row 0 is padding.

    A bias is a further entry of the vector, E = D + 1; for the cosine, vectors have length 1.
    """
    table = _directed(params["output_items" if config.output_items else "items"], config)
    return jnp.concatenate([table, params["output_bias"]], axis=-1) if config.output_bias else table


def user_vectors(hidden: jax.Array, config: ModelConfig) -> jax.Array:
    """Returns [.., E] the vectors of users with hidden states [.., D]; see `item_vectors`."""
    hidden = _directed(hidden, config)
    return jnp.concatenate([hidden, jnp.ones_like(hidden[..., :1])], axis=-1) if config.output_bias else hidden


def _directed(vectors: jax.Array, config: ModelConfig) -> jax.Array:
    if config.scoring == "dot":
        return vectors
    return vectors * jax.lax.rsqrt(jnp.maximum((vectors * vectors).sum(-1, keepdims=True), SHORTEST))
