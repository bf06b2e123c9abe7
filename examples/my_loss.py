"""Template: a loss. A hinge: the label's score is to exceed that of each sampled negative by 1.

python -m launch.experiment --plugin=examples/my_loss.py --loss=hinge --negatives=4 --dataset=ml-100k
"""

import jax
import jax.numpy as jnp

from prec_backdoor.extend import register_loss


def hinge(hidden: jax.Array, items: jax.Array, label: jax.Array, negative: jax.Array) -> jax.Array:
    """[B, T] mean over the negatives, 0 where there is no label.

    Args:
      hidden: [B, T, D]. items: [V + 1, D]. label: [B, T]. negative: [B, T, N].
    """
    positive = jnp.einsum("btd,btd->bt", hidden, items[label])
    negatives = jnp.einsum("btd,btnd->btn", hidden, items[negative])
    return jnp.where(label > 0, jax.nn.relu(1 - positive[..., None] + negatives).mean(-1), 0.0)


register_loss("hinge", hinge, sampled=True)  # it reads no rows of `items` but those of labels and negatives
