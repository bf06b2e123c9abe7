"""SASRec (Kang & McAuley, ICDM 2018): a causal self-attention encoder over item vectors, post-layer-norm."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from prec_backdoor.errors import UserError
from prec_backdoor.models.layer_norm import LayerNorm

DTYPES = ("float32", "bfloat16")  # what the encoder computes in; parameters and scores are float32


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Size of a recommender; the defaults are the released ones, but for a history of 50 and SASRec's own two blocks.

    With a `prompt_length` the model has a prompt generator for users whose profile attributes have `profile_sizes` values.
    """

    num_items: int
    embed_dim: int = 64
    feedforward_dim: int = 64
    num_layers: int = 2
    num_heads: int = 1
    max_length: int = 50
    dropout: float = 0.0
    dtype: str = "float32"
    backbone: str = "sasrec"
    prompt_length: int = 0
    profile_sizes: tuple[int, ...] = ()

    def __post_init__(self):
        for name in ("embed_dim", "feedforward_dim", "num_layers", "num_heads", "max_length"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}: must be at least 1, not {getattr(self, name)}")
        if self.embed_dim % self.num_heads:
            raise UserError(f"--num_heads: {self.num_heads} does not divide --embed_dim={self.embed_dim}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--dropout: must be from 0 to below 1, not {self.dropout}")
        if self.prompt_length < 0:
            raise UserError(f"--prompt_length: must not be negative, as {self.prompt_length} is")
        if self.dtype not in DTYPES:
            raise UserError(f"--dtype: '{self.dtype}' is none of {', '.join(DTYPES)}")


class Attention(nn.Module):
    """Multi-head self-attention; queries [.., T, D] attend to keys [.., M, D] where `visible` [.., T, M].

    The queries are the last T of the keys, and see none that comes later: their first half is not held against the last keys,
    which on 2 CPU cores saves a tenth of a training step.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, queries, keys, visible, train: bool):
        heads, dtype = self.config.num_heads, jnp.dtype(self.config.dtype)

        def project(name, x):
            y = nn.Dense(self.config.embed_dim, dtype=dtype, name=name, kernel_init=nn.initializers.normal(0.02))(x)
            return y.reshape(*x.shape[:-1], heads, -1)

        q, k, v = project("query", queries), project("key", keys), project("value", keys)
        dropout = nn.Dropout(self.config.dropout)

        def mix(first, last):
            """What the queries first..last-1 make of the keys; none of them sees a key after the last."""
            seen = k.shape[-3] - q.shape[-3] + last
            logits = jnp.einsum(
                "...thd,...mhd->...htm", q[..., first:last, :, :], k[..., :seen, :, :], preferred_element_type=jnp.float32
            )
            logits = logits / jnp.sqrt(q.shape[-1])
            # A finite floor: rows of padding see nothing, and must stay finite for the gradient's sake.
            weights = jax.nn.softmax(jnp.where(visible[..., None, first:last, :seen], logits, -1e9)).astype(dtype)
            weights = dropout(weights, deterministic=not train)
            return jnp.einsum("...htm,...mhd->...thd", weights, v[..., :seen, :, :])

        length = q.shape[-3]
        cuts = sorted({0, length // 2, length})
        mixed = jnp.concatenate([mix(first, last) for first, last in zip(cuts, cuts[1:], strict=False)], axis=-3)
        return nn.Dense(self.config.embed_dim, dtype=dtype, name="out", kernel_init=nn.initializers.normal(0.02))(
            mixed.reshape(*queries.shape[:-1], -1)
        )


class SASRec(nn.Module):
    """The backbone behind the common signature: item vectors in, hidden states out; it knows nothing of item ids."""

    config: ModelConfig

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train: bool = False, last_only: bool = False):
        """Encodes rows of T positions.

        Args:
          vectors: [.., T, D] item vectors.
          position: [.., T] int32, index in the window, the most recent item at max_length - 1.
          segment: [.., T] int32, positions see only earlier positions of their own segment; 0 is padding.
          prefix: [.., S, layers, P, D] or None, P prompt tokens a layer for each segment, visible to all its positions.
            At every layer the prefix is that layer's token itself (deep prompt), so it only ever serves as key and value.
          train: whether dropout is on (rng `dropout`).
          last_only: whether the last position's state is all that is wanted: the last layer computes no other.

        Returns:
          [.., T, D] hidden states in float32, or [.., 1, D].
        """
        cfg, dtype = self.config, jnp.dtype(self.config.dtype)
        init = nn.initializers.normal(0.02)

        def dropout(x):
            return nn.Dropout(cfg.dropout)(x, deterministic=not train)

        def norm(x, name):
            return LayerNorm(dtype, name=name)(x)

        length = vectors.shape[-2]
        same = (segment[..., :, None] == segment[..., None, :]) & (segment[..., None, :] > 0)
        visible = same & jnp.tri(length, dtype=bool)
        if prefix is not None:
            owner = jnp.repeat(jnp.arange(1, prefix.shape[-4] + 1), prefix.shape[-2])
            visible = jnp.concatenate([segment[..., :, None] == owner, visible], axis=-1)

        x = vectors.astype(dtype) + nn.Embed(cfg.max_length, cfg.embed_dim, dtype=dtype, embedding_init=init)(position)
        x = dropout(norm(x, "norm_in"))
        for layer in range(cfg.num_layers):
            keys = x
            if prefix is not None:
                tokens = prefix[..., layer, :, :]
                keys = jnp.concatenate([tokens.reshape(*tokens.shape[:-3], -1, cfg.embed_dim).astype(dtype), x], axis=-2)
            if last_only and layer == cfg.num_layers - 1:
                x, visible = x[..., -1:, :], visible[..., -1:, :]
            attended = Attention(cfg, name=f"attention_{layer}")(x, keys, visible, train)
            x = norm(x + dropout(attended), f"norm_attention_{layer}")
            inner = nn.Dense(cfg.feedforward_dim, dtype=dtype, kernel_init=init, name=f"feedforward_in_{layer}")(x)
            outer = nn.Dense(cfg.embed_dim, dtype=dtype, kernel_init=init, name=f"feedforward_out_{layer}")(nn.gelu(inner))
            x = norm(x + dropout(outer), f"norm_feedforward_{layer}")
        return x.astype(jnp.float32)
