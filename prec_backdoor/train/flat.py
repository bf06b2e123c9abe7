"""Small parameters as one vector, so that an optimizer is a few kernels of a GPU instead of a few for each parameter."""

import math

import jax
import jax.numpy as jnp

from prec_backdoor.parallel.item_table import TABLES
from prec_backdoor.train.optimizers import AdamState


@jax.tree_util.register_pytree_node_class
class Flat:
    """A tree of arrays as one `vector`; `form` is its structure and the arrays' shapes."""

    def __init__(self, vector: jax.Array, form: tuple):
        self.vector, self.form = vector, form

    def tree_flatten(self):
        return (self.vector,), self.form

    @classmethod
    def tree_unflatten(cls, form, children):
        return cls(*children, form)


def pack(state):
    """Returns a `TrainState` with each trained group but item tables, and its moments, as one vector."""
    adam = _adam(state.opt_state)
    small = [name for name in adam.moments if name not in TABLES]
    params = state.params | {name: _flat(state.params[name]) for name in small}
    moments = adam.moments | {name: _flat_moments(adam.moments[name]) for name in small}
    return state._replace(params=params, opt_state=_with_moments(state.opt_state, moments))


def unpack(state):
    """Undoes `pack`."""
    moments = _adam(state.opt_state).moments
    opened = {
        name: _opened_moments(value, state.params[name]) if isinstance(value, Flat) else value for name, value in moments.items()
    }
    return state._replace(params=open_groups(state.params), opt_state=_with_moments(state.opt_state, opened))


def open_groups(groups: dict) -> dict:
    """Returns the groups with a tree in place of each `Flat`."""
    return {name: _opened(value) if isinstance(value, Flat) else value for name, value in groups.items()}


def close_groups(groups: dict, like: dict) -> dict:
    """Returns the groups with those as a vector that are one in `like`.

    What follows reads the vector: without the barrier, XLA would add up the gradient of each bias twice, for itself and for the
    sum of all gradients.
    """
    return {
        name: jax.lax.optimization_barrier(_flat(value)) if isinstance(like[name], Flat) else value
        for name, value in groups.items()
    }


def _flat(tree) -> Flat:
    leaves, structure = jax.tree.flatten(tree)
    return Flat(jnp.concatenate([leaf.reshape(-1) for leaf in leaves]), (structure, tuple(leaf.shape for leaf in leaves)))


def _opened(flat: Flat):
    structure, shapes = flat.form
    leaves, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        leaves.append(flat.vector[start:stop].reshape(shape))
        start = stop
    return jax.tree.unflatten(structure, leaves)


def _flat_moments(tree) -> Flat:
    """Moments as one vector: all first ones, then all second ones, as `AdamState` has them side by side."""
    halves = [_flat(jax.tree.map(lambda leaf, half=half: jnp.split(leaf, 2, -1)[half], tree)) for half in (0, 1)]
    return Flat(jnp.concatenate([half.vector for half in halves]), halves[0].form)


def _opened_moments(moments: Flat, params: Flat):
    first, second = (_opened(Flat(half, params.form)) for half in jnp.split(moments.vector, 2))
    return jax.tree.map(lambda *halves: jnp.concatenate(halves, -1), first, second)


def _adam(opt_state) -> AdamState:
    return next(part for part in opt_state if isinstance(part, AdamState))


def _with_moments(opt_state, moments):
    return tuple(part._replace(moments=moments) if isinstance(part, AdamState) else part for part in opt_state)
