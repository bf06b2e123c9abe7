"""The only file that says pmap: one device or many behind the same calls.

On one device `pmap_step` is jit and `replicate` and `shard` only move data there, because XLA compiles the mapped program worse
on CPU; on several it is pmap over the axis `devices`, and replicated arrays carry a leading device axis.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from prec_backdoor.errors import UserError

AXIS = "devices"


def num_devices() -> int:
    """How many devices share a batch."""
    return jax.local_device_count()


def pmap_step(step: Callable, donate: tuple[int, ...] = (0,)) -> Callable:
    """Compiles `step(*arrays, axis)` for all devices; arguments in `donate` give their buffers to the results.

    Args:
      step: pure; `axis` is the name of the device axis, or None on one device (see `all_sum`).
    """
    if num_devices() == 1:
        return jax.jit(lambda *args: step(*args, axis=None), donate_argnums=donate)
    return jax.pmap(lambda *args: step(*args, axis=AXIS), axis_name=AXIS, donate_argnums=donate)


def all_sum(tree, axis: str | None):
    """Sums over the devices, inside a step."""
    return tree if axis is None else jax.lax.psum(tree, axis)


def all_gather(array: jax.Array, axis: str | None) -> jax.Array:
    """The arrays of all devices end to end, inside a step."""
    return array if axis is None else jax.lax.all_gather(array, axis, tiled=True)


def device_index(axis: str | None):
    """Rank of this device, inside a step."""
    return 0 if axis is None else jax.lax.axis_index(axis)


def replicate(tree):
    """Puts a copy of each array on every device."""
    tree = jax.tree.map(jnp.array, tree)
    count = num_devices()
    if count == 1:
        return tree
    return jax.pmap(lambda _, x: x, in_axes=(0, None))(jnp.arange(count), tree)


def unreplicate(tree):
    """The first device's copy."""
    return tree if num_devices() == 1 else jax.tree.map(lambda x: x[0], tree)


def shard(tree):
    """Splits the leading axis of each array evenly over the devices.

    Raises:
      UserError: it does not divide.
    """
    count = num_devices()
    for leaf in jax.tree.leaves(tree):
        if len(leaf) % count:
            raise UserError(f"a batch of {len(leaf)} cannot be split evenly over {count} devices; change --batch_size")
    return tree if count == 1 else jax.tree.map(lambda x: x.reshape(count, len(x) // count, *x.shape[1:]), tree)


def gather(array):
    """Undoes `shard`."""
    return array if num_devices() == 1 else array.reshape(-1, *array.shape[2:])
