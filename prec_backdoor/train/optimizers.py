"""Optimisers."""

import optax

SCHEDULES = ("cosine", "constant")


def adam_l2(learning_rate: float, l2: float, schedule: str, steps: int) -> optax.GradientTransformation:
    """Adam (Kingma & Ba, ICLR 2015) with L2 added to the gradient, as torch's `weight_decay` and the released code do.

    Args:
      schedule: "cosine" warms the rate up over a tenth of `steps` and lets it fall to zero over the rest; "constant" (the
        released setting) leaves it. Without warming up, one of six models on ml-100k never left the popularity plateau; at
        a constant rate, exposure swings between 0.05 and 0.3 from one epoch to the next, as the targets move together.
    """
    rate = learning_rate
    if schedule == "cosine":
        warmup = max(1, steps // 10)
        rate = optax.warmup_cosine_decay_schedule(learning_rate / warmup, learning_rate, warmup, max(steps, warmup + 1))
    return optax.chain(optax.add_decayed_weights(l2), optax.adam(rate))
