import jax
import jax.numpy as jnp
import numpy as np
from toys import lively_params, tiny_model

from prec_backdoor.train.config import TrainConfig
from prec_backdoor.train.flat import Flat, close_groups, open_groups, pack, unpack
from prec_backdoor.train.step import train_step

MODEL = tiny_model(num_items=15, num_layers=1, prompt_length=1, profile_sizes=(3,))


def state_of(trainable):
    state = train_step(TrainConfig(), MODEL, trainable=trainable).init(lively_params(MODEL), steps=3)
    leaves, structure = jax.tree.flatten(state.opt_state)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [jax.random.normal(key, leaf.shape).astype(leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return state._replace(opt_state=jax.tree.unflatten(structure, drawn))


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_state_is_the_same_after_packing_and_unpacking():
    for trainable in (("items", "encoder"), ("prompt",), ("items", "encoder", "prompt")):
        state = state_of(trainable)
        packed = pack(state)
        vectors = {name for name, group in packed.params.items() if isinstance(group, Flat)}
        assert vectors == set(trainable) - {"items"}
        equal(unpack(packed), state)


def test_moments_lie_side_by_side_in_the_vector_as_in_each_parameter():
    packed = pack(state_of(("encoder",)))
    params, moments = packed.params["encoder"].vector, packed.opt_state[1].moments["encoder"].vector
    first = Flat(jnp.split(moments, 2)[0], packed.params["encoder"].form)
    expected = jax.tree.map(lambda leaf: jnp.split(leaf, 2, -1)[0], unpack(packed).opt_state[1].moments["encoder"])
    assert moments.shape == (2 * len(params),)
    equal(open_groups({"encoder": first})["encoder"], expected)


def test_gradients_become_a_vector_where_the_parameters_are_one():
    packed = pack(state_of(("encoder",)))
    opened = open_groups(packed.params)
    closed = close_groups(opened, packed.params)
    assert closed["items"] is opened["items"]
    np.testing.assert_array_equal(closed["encoder"].vector, packed.params["encoder"].vector)
