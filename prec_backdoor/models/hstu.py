"""HSTU (Zhai et al., ICML 2024, section 3): layers of pointwise attention without a softmax, as far as it is published."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from prec_backdoor.models.transformer import INIT, Transformer, Visible, check_heads, same_segment, with_prefix
from prec_backdoor.options import check_options, option

EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class HSTUParameters:
    """Sizes of HSTU."""

    relative_positions: bool = option(True, "model", "HSTU: whether attention has a bias for each distance between two items.")

    def __post_init__(self):
        check_options(self)


class HSTU(Transformer):
    """A causal backbone. With y = LN(x) and U, V, Q, K = SiLU(y W), a layer is x + (LN(SiLU(Q K' + bias) V / max_length) * U) Wo.

    The bias depends on the distance of two items alone; the published one also has a part by time, which our data need not have.
    """

    parameters = HSTUParameters
    unused = ("feedforward_dim",)
    check = staticmethod(check_heads)

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train: bool = False, last_only: bool = False):
        """See `SASRec.__call__`."""
        cfg, dtype = self.config, jnp.dtype(self.config.dtype)
        embedded = self.positions(position)
        x = self.dropout(vectors.astype(dtype) * jnp.sqrt(cfg.embed_dim).astype(dtype) + embedded, train)
        visible = with_prefix(prefix, segment, Visible(same_segment(segment, causal=True)))
        for layer in range(cfg.num_layers):
            last = last_only and layer == cfg.num_layers - 1
            x = self.layer(layer, x, prefix, visible.last(1) if last else visible, train)
        return self.norm(x, "norm_final", EPSILON).astype(jnp.float32)

    def layer(self, layer: int, x: jax.Array, prefix, visible: Visible, train: bool) -> jax.Array:
        """Returns [.., Q, D], a layer of x [.., T, D] for its last Q positions, those of `visible` [.., Q, P + T]."""
        width, heads, number = self.config.embed_dim, self.config.num_heads, visible.mask.shape[-2]
        keys, tokens = self.norm(x, f"norm_in_{layer}", EPSILON), 0
        if prefix is not None:
            own = prefix[..., layer, :, :]
            own = own.reshape(*own.shape[:-3], -1, width).astype(x.dtype)
            keys, tokens = jnp.concatenate([own, keys], axis=-2), own.shape[-2]
        gate, value, query, key = jnp.split(nn.silu(self.dense(keys, 4 * width, f"in_{layer}")), 4, axis=-1)

        def split(x):
            return jnp.moveaxis(x.reshape(*x.shape[:-1], heads, -1), -2, -3)

        logits = jnp.einsum("...td,...md->...tm", split(query[..., -number:, :]), split(key))
        if HSTUParameters(**self.config.parameters).relative_positions:
            logits += _distance_bias(self, layer, number, x.shape[-2], tokens).astype(logits.dtype)
        weights = jnp.where(visible.mask[..., None, :, :], nn.silu(logits) / self.config.max_length, 0)
        mixed = jnp.einsum("...tm,...md->...td", self.dropout(weights.astype(x.dtype), train), split(value))
        mixed = jnp.moveaxis(mixed, -3, -2).reshape(*mixed.shape[:-3], number, width)
        gated = self.norm(mixed, f"norm_out_{layer}", EPSILON) * gate[..., -number:, :]
        return x[..., -number:, :] + self.dense(self.dropout(gated, train), width, f"out_{layer}")


def _distance_bias(module: HSTU, layer: int, queries: int, length: int, tokens: int) -> jax.Array:
    """Returns [queries, tokens + length] the bias of the last queries for each key: by distance, 0 for tokens of a prefix."""
    longest = module.config.max_length
    table = module.param(f"distances_{layer}", INIT, (longest,))
    distance = (length - queries + jnp.arange(queries))[:, None] - jnp.arange(length)
    return jnp.pad(table[jnp.clip(distance, 0, longest - 1)], ((0, 0), (tokens, 0)))
