"""BERT4Rec (Sun et al., CIKM 2019): a bidirectional transformer that predicts masked items of a history, as RecBole builds it."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from prec_backdoor.models.transformer import (
    BlockSpec,
    Transformer,
    Visible,
    check_heads,
    ordinal,
    same_segment,
    with_prefix,
)
from prec_backdoor.options import check_options, option, probability

EPSILON = 1e-12


@dataclasses.dataclass(frozen=True)
class BERT4RecParameters:
    """How items are masked (`prec_backdoor.train.objectives.cloze`), and which part of a history is ranked by."""

    mask_rate: float = probability(0.2, "model", "BERT4Rec: probability that an item is masked in training.")
    mask_last: float = probability(
        0.5, "model", "BERT4Rec: probability that the last item alone is masked in a training sequence, as it is in ranking."
    )
    drop_oldest: bool = option(
        False, "model", "BERT4Rec: whether ranking leaves out the oldest item of every history, as RecBole's does."
    )

    def __post_init__(self):
        check_options(self)


class BERT4Rec(Transformer):
    """Post-norm blocks with GELU, then a dense layer, GELU and a layer norm. Row 0 of the item table is the mask token."""

    parameters = BERT4RecParameters
    objective = "cloze"
    check = staticmethod(check_heads)

    @staticmethod
    def query(config, history: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns history and segment [B, M], M <= max_length, with a mask (item 0 in segment 1) at the end."""
        present = history > 0
        if BERT4RecParameters(**config.parameters).drop_oldest:
            present &= jnp.cumsum(present, axis=1) > 1
        history = jnp.pad(jnp.where(present, history, 0), ((0, 0), (0, 1)))
        segment = jnp.pad(present, ((0, 0), (0, 1)), constant_values=True).astype(jnp.int32)
        return history[:, -config.max_length :], segment[:, -config.max_length :]

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train: bool = False, last_only: bool = False):
        """See `SASRec.__call__`; positions see all of their own segment."""
        cfg, dtype, shape = self.config, jnp.dtype(self.config.dtype), vectors.shape
        norm = functools.partial(self.norm, epsilon=EPSILON)
        spec = BlockSpec("post", "gelu", EPSILON, causal=False)
        embedded = self.positions(ordinal(segment))
        x = norm((vectors.astype(dtype) + embedded).reshape(-1, cfg.embed_dim), "norm_in")
        x = self.dropout(x, train).reshape(shape)
        visible = with_prefix(prefix, segment, Visible(same_segment(segment, causal=False)))
        for layer in range(cfg.num_layers):
            last = last_only and layer == cfg.num_layers - 1
            x = self.block(layer, x, prefix, visible.last(1) if last else visible, spec, train)
        x, shape = x.reshape(-1, cfg.embed_dim), x.shape
        x = norm(nn.gelu(self.dense(x, cfg.embed_dim, "head"), approximate=False), "norm_head")
        return x.reshape(shape).astype(jnp.float32)
