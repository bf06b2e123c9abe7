import jax.numpy as jnp
import numpy as np
import pytest

from prec_backdoor.train.config import SCHEDULES
from prec_backdoor.train.optimizers import adam_l2, learning_rate


def step_sizes(schedule, steps, peak=0.01):
    """Under a constant gradient Adam's steps are as long as the learning rate."""
    state, sizes = adam_l2(peak, 0.0).init(jnp.zeros(1)), []
    for step in range(steps + 1):
        optimizer = adam_l2(learning_rate(peak, schedule, jnp.int32(step), jnp.int32(steps)), 0.0)
        update, state = optimizer.update(jnp.ones(1), state, jnp.zeros(1))
        sizes.append(-float(update[0]))
    return np.array(sizes)


def test_the_constant_schedule_is_constant():
    np.testing.assert_allclose(step_sizes("constant", 5), 0.01, rtol=1e-4)


def test_the_cosine_schedule_falls_from_the_rate_to_zero():
    sizes = step_sizes("cosine", 20)
    peak = sizes.argmax()
    assert sizes[peak] == pytest.approx(0.01, rel=0.01)
    assert peak == 2 and (np.diff(sizes[: peak + 1]) > 0).all()
    assert (np.diff(sizes[peak:]) < 0).all()
    assert sizes[-1] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2])
def test_even_the_shortest_stage_learns(schedule, steps):
    assert step_sizes(schedule, steps)[:steps].max() > 0
