"""Template: a backbone without attention. A state is made from the mean of the items so far, and the prompt, and the last item.

python -m launch.experiment --plugin=examples/my_backbone.py --backbone=mean --dataset=ml-100k
"""

import flax.linen as nn
import jax.numpy as jnp

from prec_backdoor.extend import check_backbone, register_backbone
from prec_backdoor.models import ModelConfig


class Mean(nn.Module):
    """Shapes and arguments are those of `SASRec.__call__`."""

    config: ModelConfig
    unused = ("num_heads", "num_layers", "dtype")  # fields of ModelConfig that this backbone does not have

    @nn.compact
    def __call__(self, vectors, position, segment, prefix=None, train: bool = False, last_only: bool = False):
        same = (segment[..., :, None] == segment[..., None, :]) & (segment[..., None, :] > 0)
        visible, known = same & jnp.tri(vectors.shape[-2], dtype=bool), vectors
        if prefix is not None:  # tokens of the first layer, each seen by its own segment
            tokens = prefix[..., 0, :, :]
            owner = jnp.repeat(jnp.arange(1, tokens.shape[-3] + 1), tokens.shape[-2])
            visible = jnp.concatenate([segment[..., :, None] == owner, visible], axis=-1)
            known = jnp.concatenate([tokens.reshape(*tokens.shape[:-3], -1, tokens.shape[-1]), vectors], axis=-2)
        share = visible / jnp.maximum(visible.sum(-1, keepdims=True), 1)
        x = jnp.concatenate([share @ known, vectors], axis=-1)
        x = nn.Dropout(self.config.dropout)(x, deterministic=not train)
        hidden = nn.Dense(self.config.embed_dim)(nn.gelu(nn.Dense(self.config.feedforward_dim)(x)))
        return hidden[..., -1:, :] if last_only else hidden


register_backbone("mean", Mean)

if __name__ == "__main__":
    check_backbone(Mean)
