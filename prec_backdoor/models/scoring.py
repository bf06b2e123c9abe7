"""Scores of items for users: inner products, in float32 on every platform."""

import jax
import jax.numpy as jnp

EXACT = jax.lax.Precision.HIGHEST  # for products that ranks, losses or ties depend on: an accelerator's default rounds inputs


def scores(subscripts: str, hidden: jax.Array, vectors: jax.Array) -> jax.Array:
    """Returns the inner products of user and item vectors, by the subscripts of `jnp.einsum`.

    Products are exact to float32, where a GPU by default rounds the inputs to TF32 and a TPU to bfloat16: close scores would tie.
    """
    return jnp.einsum(subscripts, hidden, vectors, precision=EXACT, preferred_element_type=jnp.float32)
