"""GRU4Rec (Hidasi et al., ICLR 2016), in the form of Tan et al. (DLRS 2016) that RecBole has: GRU layers, then a dense one."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from prec_backdoor.models.config import ModelConfig
from prec_backdoor.models.transformer import ordinal
from prec_backdoor.options import check_options, option


@dataclasses.dataclass(frozen=True)
class GRU4RecParameters:
    """The width of the recurrent layers; default as in RecBole."""

    hidden_dim: int = option(128, "model", "GRU4Rec: width of the recurrent layers.", minimum=1)

    def __post_init__(self):
        check_options(self)


class Weights(nn.Module):
    """The kernels [in, 3 H] of a GRU layer's three gates (reset, update, new, in this order), for input and state; no biases."""

    width: int

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        kernel = nn.initializers.xavier_uniform()
        shape = (self.width, 3 * self.width)
        return self.param("input", kernel, (inputs, shape[1])), self.param("hidden", nn.initializers.orthogonal(), shape)


class GRU4Rec(nn.Module):
    """A recurrent backbone. Segments of a row do not see each other: each starts from a state of its own."""

    config: ModelConfig

    parameters = GRU4RecParameters
    unused = ("num_heads", "feedforward_dim")

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train: bool = False, last_only: bool = False):
        """See `SASRec.__call__`; `position` has no effect. A segment's prefix is read before its first item, layer by layer."""
        del position
        cfg, dtype = self.config, jnp.dtype(self.config.dtype)
        width = GRU4RecParameters(**cfg.parameters).hidden_dim
        layers = []
        for layer in range(cfg.num_layers):
            inputs = width if layer else cfg.embed_dim
            layers.append(jax.tree.map(lambda kernel: kernel.astype(dtype), Weights(width, name=f"layer_{layer}")(inputs)))
        dropout = nn.Dropout(cfg.dropout, deterministic=not train)
        x = dropout(vectors.astype(dtype))
        starts = _states_after(layers, prefix, x)
        first = (ordinal(segment) == 0)[..., None]
        owner = jnp.maximum(segment - 1, 0)
        for (into, within), start in zip(layers, starts, strict=True):
            own_start = start if prefix is None else jnp.take_along_axis(start, owner[..., None], axis=-2)
            x = _run(within, x @ into, first, own_start)
        x = x[..., -1:, :] if last_only else x
        return nn.Dense(cfg.embed_dim, dtype=dtype, name="dense")(x).astype(jnp.float32)


def _states_after(layers, prefix: jax.Array | None, x: jax.Array) -> list[jax.Array]:
    """The state [.., S, H] of each layer after the tokens of each segment's prefix; 0 [H] without a prefix."""
    if prefix is None:
        return [jnp.zeros(within.shape[0], x.dtype) for _, within in layers]
    *lead, count, tokens, width = prefix.shape  # [.., S, layers, P, D]: one sequence of layers * P tokens
    tokens, states = prefix.reshape(*lead, count * tokens, width).astype(x.dtype), []
    first = (jnp.arange(tokens.shape[-2]) == 0)[:, None]
    for into, within in layers:
        tokens = _run(within, tokens @ into, first, jnp.zeros(within.shape[0], x.dtype))
        states.append(tokens[..., -1, :])
    return states


def _run(within: jax.Array, inputs: jax.Array, first: jax.Array, start: jax.Array) -> jax.Array:
    """Returns states [.., T, H] of a layer for the products `inputs` [.., T, 3 H]; at `first` [.., T, 1] it goes on from `start`.

    Args:
      start: [.., T, H], the state before the first item of each position's segment.
    """
    width = within.shape[0]
    lead = jnp.broadcast_shapes(inputs.shape[:-1], first.shape[:-1])

    def step(state, given):
        inputs, first, start = given
        state = jnp.where(first, start, state)
        of_input, of_state = jnp.split(inputs, 3, axis=-1), jnp.split(state @ within, 3, axis=-1)
        reset, update = (nn.sigmoid(of_input[gate] + of_state[gate]) for gate in range(2))
        new = jnp.tanh(of_input[2] + reset * of_state[2])
        state = (1 - update) * new + update * state
        return state, state

    def by_time(x, size):
        return jnp.moveaxis(jnp.broadcast_to(x, (*lead, size)), -2, 0)

    given = by_time(inputs, 3 * width), by_time(first, 1), by_time(start, width)
    _, states = jax.lax.scan(step, jnp.zeros((*lead[:-1], width), inputs.dtype), given)
    return jnp.moveaxis(states, 0, -2)
