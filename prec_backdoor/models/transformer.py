"""Self-attention and the blocks that transformers over item vectors are made of."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from prec_backdoor.errors import UserError
from prec_backdoor.models.config import ModelConfig
from prec_backdoor.models.layer_norm import LayerNorm
from prec_backdoor.parallel.platforms import choices

INIT = nn.initializers.normal(0.02)
ACTIVATIONS = {"gelu_tanh": nn.gelu, "gelu": functools.partial(nn.gelu, approximate=False), "relu": nn.relu, "none": lambda x: x}
NORMS = ("post", "pre", "query")


class BlockSpec(NamedTuple):
    """What distinguishes the blocks of published transformers.

    Attributes:
      norm: of a sublayer f, post: x = LN(x + f(x)); pre: x = x + f(LN(x)); query, the original SASRec's: q = LN(x), x = q + f(q),
        where attention takes its keys and values from x.
      activation: of the feed-forward layer, a name of ACTIVATIONS.
      epsilon: of layer norms.
      output_projection: whether attention ends with a product.
      causal: whether positions see no later ones.
    """

    norm: str = "post"
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    output_projection: bool = True
    causal: bool = True


class Visible(NamedTuple):
    """What queries see.

    Attributes:
      mask: [.., T, M] bool, whether query t sees key m.
      weight: [.., T, M] float32 or None, added to logits; the logarithm of n stands for n keys of one kind.
    """

    mask: jax.Array
    weight: jax.Array | None = None

    def last(self, number: int) -> "Visible":
        """Those of the last queries."""
        return Visible(self.mask[..., -number:, :], None if self.weight is None else self.weight[..., -number:, :])


class Weights(nn.Module):
    """The parameters of `nn.Dense`, "kernel" [width, width] and "bias" [width], for `Attention` to combine."""

    width: int

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        return self.param("kernel", INIT, (self.width, self.width)), self.param("bias", nn.initializers.zeros, (self.width,))


def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array | float = 0.0) -> jax.Array:
    """Returns x [.., D] times kernel plus bias in x's dtype, as one matrix product, which a CPU gives all its cores."""
    product = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype) + jnp.asarray(bias, x.dtype)
    return product.reshape(*x.shape[:-1], -1)


class Attention(nn.Module):
    """Multi-head self-attention: queries [.., T, D] attend to keys [.., M, D], of which they are the last T, as `visible` says.

    In the logit (x Wq + bq) (y Wk + bk)' of positions x and y, terms without y cancel in the softmax. The bias of keys has no
    other terms and is left out: its gradient would be rounding noise, which Adam would scale up to full steps. A single head
    needs two products instead of four: the query x (Wq Wk') + bq Wk' meets y itself, and values are multiplied by Wv Wo before
    they are mixed. With the four of `nn.Dense` a training step takes 12 % more CPU time (110,000 items, D 64, 1 layer, T 100, 256
    sequences; median of 21 neighbouring turns on 2 CPU cores with other work).
    """

    config: ModelConfig
    spec: BlockSpec

    @nn.compact
    def __call__(self, queries, keys, visible: Visible, train: bool):
        heads, width = self.config.num_heads, self.config.embed_dim
        query, (key, _), value = (Weights(width, name=name)() for name in ("query", "key", "value"))
        out = Weights(width, name="out")() if self.spec.output_projection else None
        dropout = nn.Dropout(self.config.dropout, deterministic=not train)
        mix = functools.partial(attend, visible=visible, dropout=dropout, causal=self.spec.causal)
        if heads == 1:
            q = affine(queries, *(part @ key.T for part in query))
            kernel, bias = (part @ out[0] for part in value) if out else value
            shift = out[1] if out else jnp.zeros(())
            if train or queries.shape == keys.shape:
                return mix(q, keys, affine(keys, kernel, bias)) + shift.astype(q.dtype)
            # Fewer queries than keys: values are multiplied after mixing. Weights without dropout sum to 1 and keep the bias.
            return affine(mix(q, keys, keys), kernel, bias + shift)

        def split(x):
            return jnp.moveaxis(x.reshape(*x.shape[:-1], heads, -1), -2, -3)

        q, k, v = split(affine(queries, *query)), split(affine(keys, key)), split(affine(keys, *value))
        heads_last = jax.tree.map(lambda x: x[..., None, :, :], visible)
        mixed = jnp.moveaxis(mix(q, k, v, visible=heads_last), -3, -2).reshape(queries.shape)
        return affine(mixed, *out) if out else mixed


def attend(q: jax.Array, k: jax.Array, v: jax.Array, visible: Visible, dropout, causal: bool) -> jax.Array:
    """Returns [.., T, D], values [.., M, D] mixed for queries [.., T, d] by keys [.., M, d].

    The queries are the last T of the keys. If none sees a later key, the first half of the queries may skip the keys that only
    the second half can see (see `platforms.Choices.attention_halves`).
    """

    def mix(first, last):
        """Mixes for the queries first..last-1, with the keys up to the last of them."""
        seen = k.shape[-2] - length + last
        logits = jnp.einsum("...td,...md->...tm", q[..., first:last, :], k[..., :seen, :], preferred_element_type=jnp.float32)
        logits = logits / jnp.sqrt(q.shape[-1])
        if visible.weight is not None:
            logits += visible.weight[..., first:last, :seen]
        # A finite floor: positions of padding see nothing, and their gradient must be finite.
        weights = jax.nn.softmax(jnp.where(visible.mask[..., first:last, :seen], logits, -1e9)).astype(v.dtype)
        return jnp.einsum("...tm,...md->...td", dropout(weights), v[..., :seen, :])

    length = q.shape[-2]
    cuts = [0, length // 2, length] if causal and length >= choices().attention_halves else [0, length]
    return jnp.concatenate([mix(first, last) for first, last in zip(cuts, cuts[1:], strict=False)], axis=-2)


def same_segment(segment: jax.Array, causal: bool) -> jax.Array:
    """Returns [.., T, T] bool, whether position t sees position s: one of its own segment and, if `causal`, no later one."""
    same = (segment[..., :, None] == segment[..., None, :]) & (segment[..., None, :] > 0)
    return same & jnp.tri(segment.shape[-1], dtype=bool) if causal else same


def ordinal(segment: jax.Array) -> jax.Array:
    """Returns [.., T] int32, the index of each position within its segment, from 0; 0 for padding."""
    index = jnp.broadcast_to(jnp.arange(segment.shape[-1]), segment.shape)
    starts = jnp.concatenate([jnp.ones_like(segment[..., :1], bool), segment[..., 1:] != segment[..., :-1]], axis=-1)
    return jnp.where(segment > 0, index - jax.lax.cummax(jnp.where(starts, index, 0), axis=segment.ndim - 1), 0)


def with_prefix(prefix: jax.Array | None, segment: jax.Array, visible: Visible) -> Visible:
    """Returns `visible` with the P tokens of each segment's prefix [.., S, layers, P, D] before the other keys."""
    if prefix is None:
        return visible
    owner = jnp.repeat(jnp.arange(1, prefix.shape[-4] + 1), prefix.shape[-2])
    own = segment[..., :, None] == owner
    weight = None if visible.weight is None else jnp.concatenate([jnp.zeros(own.shape), visible.weight], axis=-1)
    return Visible(jnp.concatenate([own, visible.mask], axis=-1), weight)


class Transformer(nn.Module):
    """Base of backbones of transformer blocks. Parameters are those of the subclass, which calls `norm`, `dense`, `block`."""

    config: ModelConfig

    def norm(self, x: jax.Array, name: str, epsilon: float) -> jax.Array:
        """Layer norm over the last axis, in the configuration's dtype."""
        return LayerNorm(jnp.dtype(self.config.dtype), epsilon, name=name)(x)

    def dense(self, x: jax.Array, features: int, name: str) -> jax.Array:
        """Affine map of the last axis, in the configuration's dtype."""
        return nn.Dense(features, dtype=jnp.dtype(self.config.dtype), kernel_init=INIT, name=name)(x)

    def positions(self, index: jax.Array) -> jax.Array:
        """Returns the vectors [.., T, D] of positions [.., T] in the configuration's dtype.

        They are looked up in float32, in which a GPU adds up gradients at once; in bfloat16 it compares and swaps, a quarter of
        the step of a large model (D 256, 2 layers, T 200; H200).
        """
        table = nn.Embed(self.config.max_length, self.config.embed_dim, embedding_init=INIT, name="Embed_0")
        return table(index).astype(self.config.dtype)

    def dropout(self, x: jax.Array, train: bool) -> jax.Array:
        """Dropout with the configuration's rate."""
        return nn.Dropout(self.config.dropout)(x, deterministic=not train)

    def block(self, layer: int, x: jax.Array, prefix, visible: Visible, spec: BlockSpec, train: bool) -> jax.Array:
        """Returns [.., Q, D], block number `layer` of x [.., T, D] for its last Q positions, those of `visible` [.., Q, P + T].

        Products are of one matrix of all positions: a CPU gives one product all its cores.
        """
        width, number = self.config.embed_dim, visible.mask.shape[-2]
        normed = {"post": x, "pre": None, "query": None}[spec.norm]
        if normed is None:
            normed = self.norm(x.reshape(-1, width), f"norm_attention_{layer}", spec.epsilon).reshape(x.shape)
        keys = normed if spec.norm == "pre" else x
        if prefix is not None:
            tokens = prefix[..., layer, :, :]
            keys = jnp.concatenate([tokens.reshape(*tokens.shape[:-3], -1, width).astype(x.dtype), keys], axis=-2)
        queries = normed[..., -number:, :]
        attended = Attention(self.config, spec, name=f"attention_{layer}")(queries, keys, visible, train)
        shape = queries.shape
        x = (x[..., -number:, :] if spec.norm == "pre" else queries).reshape(-1, width)
        x += self.dropout(attended.reshape(x.shape), train)
        if spec.norm == "post":
            x = self.norm(x, f"norm_attention_{layer}", spec.epsilon)
        inner = x if spec.norm == "post" else self.norm(x, f"norm_feedforward_{layer}", spec.epsilon)
        active = ACTIVATIONS[spec.activation](self.dense(inner, self.config.feedforward_dim, f"feedforward_in_{layer}"))
        self.sow("intermediates", f"feedforward_{layer}", active)
        x = inner if spec.norm == "query" else x
        x += self.dropout(self.dense(active, width, f"feedforward_out_{layer}"), train)
        if spec.norm == "post":
            x = self.norm(x, f"norm_feedforward_{layer}", spec.epsilon)
        return x.reshape(shape)


def check_heads(config: ModelConfig) -> None:
    """Raises a UserError if `num_heads` does not divide `embed_dim`."""
    if config.embed_dim % config.num_heads:
        raise UserError(f"--num_heads: must divide --embed_dim={config.embed_dim}, got {config.num_heads}")
