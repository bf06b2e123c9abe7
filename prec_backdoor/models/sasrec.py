"""SASRec (Kang & McAuley, ICDM 2018): a causal self-attention encoder over item vectors, post-layer-norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from prec_backdoor.errors import UserError
from prec_backdoor.models.config import ModelConfig
from prec_backdoor.models.layer_norm import LayerNorm
from prec_backdoor.parallel.platforms import choices

INIT = nn.initializers.normal(0.02)


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
    """Multi-head self-attention: queries [.., T, D] attend to keys [.., M, D] where `visible` [.., T, M].

    The queries are the last T of the keys, and none attends to a later key (see `attend`).

    In the logit (x Wq + bq) (y Wk + bk)' of positions x and y, terms without y cancel in the softmax. The bias of keys has no
    other terms and is left out: its gradient would be rounding noise, which Adam would scale up to full steps. A single head
    needs two products instead of four: the query x (Wq Wk') + bq Wk' meets y itself, and values are multiplied by Wv Wo before
    they are mixed. With the four of `nn.Dense` a training step takes 12 % more CPU time (110,000 items, D 64, 1 layer, T 100, 256
    sequences; median of 21 neighbouring turns on 2 CPU cores with other work).
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, queries, keys, visible, train: bool):
        heads, width = self.config.num_heads, self.config.embed_dim
        query, (key, _), value, out = (Weights(width, name=name)() for name in ("query", "key", "value", "out"))
        dropout = nn.Dropout(self.config.dropout, deterministic=not train)
        if heads == 1:
            q = affine(queries, *(part @ key.T for part in query))
            kernel, bias = (part @ out[0] for part in value)
            if train or queries.shape == keys.shape:
                return attend(q, keys, affine(keys, kernel, bias), visible, dropout) + out[1].astype(q.dtype)
            # Fewer queries than keys: values are multiplied after mixing. Weights without dropout sum to 1 and keep the bias.
            return affine(attend(q, keys, keys, visible, dropout), kernel, bias + out[1])

        def split(x):
            return jnp.moveaxis(x.reshape(*x.shape[:-1], heads, -1), -2, -3)

        q, k, v = split(affine(queries, *query)), split(affine(keys, key)), split(affine(keys, *value))
        mixed = jnp.moveaxis(attend(q, k, v, visible[..., None, :, :], dropout), -3, -2)
        return affine(mixed.reshape(queries.shape), *out)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, visible: jax.Array, dropout) -> jax.Array:
    """Returns [.., T, D], values [.., M, D] mixed for queries [.., T, d] by keys [.., M, d], where `visible` [.., T, M].

    The queries are the last T of the keys, and none attends to a later key, so that the first half of the queries may skip the
    keys that only the second half can see (see `platforms.Choices.attention_halves`).
    """

    def mix(first, last):
        """Mixes for the queries first..last-1, with the keys up to the last of them."""
        seen = k.shape[-2] - length + last
        logits = jnp.einsum("...td,...md->...tm", q[..., first:last, :], k[..., :seen, :], preferred_element_type=jnp.float32)
        logits = logits / jnp.sqrt(q.shape[-1])
        # A finite floor: positions of padding see nothing, and their gradient must be finite.
        weights = jax.nn.softmax(jnp.where(visible[..., first:last, :seen], logits, -1e9)).astype(v.dtype)
        return jnp.einsum("...tm,...md->...td", dropout(weights), v[..., :seen, :])

    length = q.shape[-2]
    cuts = sorted({0, length // 2, length}) if choices().attention_halves else [0, length]
    return jnp.concatenate([mix(first, last) for first, last in zip(cuts, cuts[1:], strict=False)], axis=-2)


class SASRec(nn.Module):
    """The default backbone: item vectors in, hidden states out. Backbones know nothing of item ids."""

    config: ModelConfig

    @staticmethod
    def check(config: ModelConfig) -> None:
        """Raises a UserError if `num_heads` does not divide `embed_dim`."""
        if config.embed_dim % config.num_heads:
            raise UserError(f"--num_heads: must divide --embed_dim={config.embed_dim}, got {config.num_heads}")

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train: bool = False, last_only: bool = False):
        """Encodes rows of T positions.

        Args:
          vectors: [.., T, D] item vectors.
          position: [.., T] int32, index in the window, the most recent item at max_length - 1.
          segment: [.., T] int32, positions see only earlier positions of their own segment and themselves; 0 is padding.
          prefix: [.., S, layers, P, D] or None, P prompt tokens per layer for each segment, visible to all its positions. A deep
            prompt: each layer has its own tokens, which serve as keys and values only.
          train: whether dropout is on (rng `dropout`).
          last_only: whether to return the last position's state alone; the last layer then computes no other.

        Returns:
          [.., T, D] hidden states in float32, or [.., 1, D].
        """
        cfg, dtype = self.config, jnp.dtype(self.config.dtype)

        def dropout(x):
            return nn.Dropout(cfg.dropout)(x, deterministic=not train)

        def norm(x, name):
            return LayerNorm(dtype, name=name)(x)

        def dense(x, features, name):
            return nn.Dense(features, dtype=dtype, kernel_init=INIT, name=name)(x)

        length = vectors.shape[-2]
        same = (segment[..., :, None] == segment[..., None, :]) & (segment[..., None, :] > 0)
        visible = same & jnp.tri(length, dtype=bool)
        if prefix is not None:
            owner = jnp.repeat(jnp.arange(1, prefix.shape[-4] + 1), prefix.shape[-2])
            visible = jnp.concatenate([segment[..., :, None] == owner, visible], axis=-1)

        shape = vectors.shape
        x = vectors.astype(dtype) + nn.Embed(cfg.max_length, cfg.embed_dim, dtype=dtype, embedding_init=INIT)(position)
        # From here on one matrix of all positions: a CPU gives one product all its cores.
        x = dropout(norm(x.reshape(-1, shape[-1]), "norm_in"))
        for layer in range(cfg.num_layers):
            keys = queries = x.reshape(shape)
            if prefix is not None:
                tokens = prefix[..., layer, :, :]
                keys = jnp.concatenate([tokens.reshape(*tokens.shape[:-3], -1, cfg.embed_dim).astype(dtype), keys], axis=-2)
            if last_only and layer == cfg.num_layers - 1:
                queries, visible = queries[..., -1:, :], visible[..., -1:, :]
                shape = queries.shape
                x = queries.reshape(-1, shape[-1])
            attended = Attention(cfg, name=f"attention_{layer}")(queries, keys, visible, train)
            x = norm(x + dropout(attended.reshape(x.shape)), f"norm_attention_{layer}")
            active = nn.gelu(dense(x, cfg.feedforward_dim, f"feedforward_in_{layer}"))
            self.sow("intermediates", f"feedforward_{layer}", active)
            x = norm(x + dropout(dense(active, cfg.embed_dim, f"feedforward_out_{layer}")), f"norm_feedforward_{layer}")
        return x.reshape(shape).astype(jnp.float32)
