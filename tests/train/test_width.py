import jax
import numpy as np
import pytest
from toys import random_interactions, tiny_model, whole_batch

from prec_backdoor.models import init_params
from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.step import train_step

CONFIG = TrainConfig(learning_rate=0.01, schedule="constant", l2=0.0)


@pytest.mark.parametrize(("width", "expected"), [(1, 0.01), (16, 0.01), (64, 0.01), (128, 0.005), (256, 0.0025)])
def test_wider_models_take_smaller_steps(width, expected):
    assert CONFIG.step_size(width) == expected


@pytest.mark.parametrize(("width", "expected"), [(8, 0.01), (128, 0.005)])
def test_a_training_step_is_of_that_size(width, expected):
    """Adam's first step moves each weight by the step size, as far as it has a gradient."""
    model = tiny_model(20, embed_dim=width, num_layers=1, max_length=6)
    params, step = init_params(jax.random.key(0), model), train_step(CONFIG, model)
    batch = whole_batch(random_interactions(users=9, num_items=20, lengths=(2, 5)), 6)
    state, _ = jax.jit(step.apply)(step.init(params, 1), batch, jax.random.key(0))
    moved = np.abs(np.asarray(state.params["items"] - params["items"]))
    np.testing.assert_allclose(np.quantile(moved, 0.9), expected, rtol=1e-2)
