"""SASRec (Kang & McAuley, ICDM 2018): a causal self-attention encoder over item vectors, and its published variants."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from prec_backdoor.models.transformer import (
    ACTIVATIONS,
    NORMS,
    BlockSpec,
    Transformer,
    Visible,
    check_heads,
    ordinal,
    same_segment,
    with_prefix,
)
from prec_backdoor.options import check_options, option

PADDINGS = ("masked", "zero", "encoded")


@dataclasses.dataclass(frozen=True)
class SASRecParameters:
    """What distinguishes the implementations of SASRec. Defaults are those of the released code of Wu et al. (SIGIR 2023)."""

    norm: str = option(
        "post", "model", "SASRec: layer norm after a sublayer, before it, or as in the original on queries alone.", choices=NORMS
    )
    activation: str = option("gelu_tanh", "model", "SASRec: of feed-forward layers; gelu is the exact one.", choices=ACTIVATIONS)
    epsilon: float = option(1e-6, "model", "SASRec: epsilon of layer norms.", minimum=0.0)
    final_epsilon: float = option(1e-6, "model", "SASRec: epsilon of the final layer norm.", minimum=0.0)
    positions: str = option(
        "end", "model", "SASRec: whether positions count from the most recent item or the oldest.", choices=("end", "oldest")
    )
    scale_embeddings: bool = option(False, "model", "SASRec: whether item vectors are multiplied by sqrt(embed_dim).")
    input_norm: bool = option(True, "model", "SASRec: whether there is a layer norm before the first block.")
    final_norm: bool = option(False, "model", "SASRec: whether there is a layer norm after the last block.")
    output_projection: bool = option(True, "model", "SASRec: whether attention ends with a product.")
    padding: str = option(
        "masked",
        "model",
        "SASRec: whether items see the padding that fills a history up to max_length: not at all (masked), as zeros before every "
        "block (zero), or encoded as an item is (encoded).",
        choices=PADDINGS,
    )

    def __post_init__(self):
        check_options(self)


class SASRec(Transformer):
    """The default backbone: item vectors in, hidden states out. Backbones know nothing of item ids."""

    parameters = SASRecParameters
    check = staticmethod(check_heads)

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train: bool = False, last_only: bool = False):
        """Encodes rows of T positions.

        Args:
          vectors: [.., T, D] item vectors.
          position: [.., T] int32, index in the window, the most recent item at max_length - 1.
          segment: [.., T] int32, positions see only earlier positions of their own segment and themselves; 0 is padding.
          prefix: [.., S, layers, P, D] or None, a deep prompt: P tokens per layer for each segment, which all its positions see
            and no others. Here each layer's own tokens are further keys and values.
          train: whether dropout is on (rng `dropout`).
          last_only: whether to return the last position's state alone; the last layer then computes no other.

        Returns:
          [.., T, D] hidden states in float32, or [.., 1, D].
        """
        cfg, own, dtype = self.config, SASRecParameters(**self.config.parameters), jnp.dtype(self.config.dtype)
        spec = BlockSpec(own.norm, own.activation, own.epsilon, own.output_projection)
        place = position if own.positions == "end" else ordinal(segment)
        scaled = vectors * jnp.sqrt(cfg.embed_dim) if own.scale_embeddings else vectors
        x = scaled.astype(dtype) + self.positions(place)
        visible = Visible(same_segment(segment, causal=True))
        if own.padding != "masked":
            x, segment, visible = _with_padding(self, x, position, segment, visible)
        visible = with_prefix(prefix, segment, visible)
        shape = x.shape
        if own.input_norm:
            x = self.norm(x.reshape(-1, cfg.embed_dim), "norm_in", own.epsilon).reshape(shape)
        x = self.dropout(x, train)
        for layer in range(cfg.num_layers):
            if own.padding == "zero":
                x = x.at[..., 0, :].set(0)
            last = last_only and layer == cfg.num_layers - 1
            x = self.block(layer, x, prefix, visible.last(1) if last else visible, spec, train)
        if own.final_norm:
            x = self.norm(x.reshape(-1, cfg.embed_dim), "norm_final", own.final_epsilon).reshape(x.shape)
        if last_only:
            return x.astype(jnp.float32)
        return x[..., x.shape[-2] - vectors.shape[-2] :, :].astype(jnp.float32)


def _with_padding(module: SASRec, x, position, segment, visible: Visible) -> tuple[jax.Array, jax.Array, Visible]:
    """Returns x, segment and `visible` with one position in front that stands for all the padding before a history.

    A library fills histories up to max_length. No padding sees an item, so that all of it has one state, and n keys of one kind
    count like a single one with log(n) added to its logit.
    """
    width = x.shape[-1]
    if SASRecParameters(**module.config.parameters).padding == "encoded":
        vector = module.param("padding", nn.initializers.zeros, (width,)).astype(x.dtype)
    else:
        vector = jnp.zeros(width, x.dtype)
    x = jnp.concatenate([jnp.broadcast_to(vector, (*x.shape[:-2], 1, width)), x], axis=-2)
    number = (position - ordinal(segment))[..., None] * (segment > 0)[..., None]
    weight = jnp.log(jnp.maximum(number, 1).astype(jnp.float32))
    front = ((0, 0),) * (segment.ndim - 1)
    mask = jnp.concatenate([number > 0, visible.mask], axis=-1)
    weight = jnp.concatenate([weight, jnp.zeros(visible.mask.shape)], axis=-1)
    of_padding = jnp.arange(mask.shape[-1]) == 0  # it sees itself alone
    mask = jnp.concatenate([jnp.broadcast_to(of_padding, (*mask.shape[:-2], 1, mask.shape[-1])), mask], axis=-2)
    weight = jnp.pad(weight, (*front, (1, 0), (0, 0)))
    return x, jnp.pad(segment, (*front, (1, 0)), constant_values=-1), Visible(mask, weight)
