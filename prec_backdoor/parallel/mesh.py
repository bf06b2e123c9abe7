"""The only file that says pmap: one device or many, in one process or several, behind the same calls.

On one device, `pmap_step` is jit, and `replicate` and `shard` only move data there: XLA compiles the mapped program worse on a
CPU. On several devices, `pmap_step` is pmap over the axis `devices`, and arrays have a leading axis over this process's devices.
Every process must call the same functions in the same order, with whole (unsplit) arguments.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from prec_backdoor.errors import UserError

AXIS = "devices"


def num_devices() -> int:
    """Number of devices, over all processes, that share a batch."""
    return jax.device_count()


def primary() -> bool:
    """Whether this process writes files and prints."""
    return jax.process_index() == 0


def pmap_step(step: Callable, donate: tuple[int, ...] = (0,)) -> Callable:
    """Compiles `step(*arrays, axis)` for all devices; the buffers of the arguments in `donate` are reused for the results.

    Args:
      step: pure; `axis` is the name of the device axis, or None on one device (see `all_sum`).
    """
    axis = AXIS if num_devices() > 1 else None

    def on_devices(*args):
        return step(*args, axis=axis)

    on_devices.__name__ = getattr(step, "__name__", "step")  # by which logs and profiles call the program
    if axis is None:
        return jax.jit(on_devices, donate_argnums=donate)
    return jax.pmap(on_devices, axis_name=axis, donate_argnums=donate)


def all_sum(tree, axis: str | None):
    """The sum over all devices; called inside a step."""
    return tree if axis is None else jax.lax.psum(tree, axis)


def all_gather(array: jax.Array, axis: str | None) -> jax.Array:
    """The arrays of all devices, concatenated; called inside a step."""
    return array if axis is None else jax.lax.all_gather(array, axis, tiled=True)


def device_index(axis: str | None):
    """Rank of this device; called inside a step."""
    return 0 if axis is None else jax.lax.axis_index(axis)


def on_device(tree):
    """Puts a copy of each array on the default device; unlike `jnp.array`, this compiles nothing."""
    return jax.device_put(tree, may_alias=False)


def replicate(tree):
    """Puts a copy of each array on every device."""
    if num_devices() == 1:
        return on_device(tree)
    return _copies()(np.arange(jax.local_device_count()), tree)


def unreplicate(tree):
    """The copy of this process's first device."""
    return tree if num_devices() == 1 else jax.tree.map(lambda x: x.addressable_shards[0].data[0], tree)


def shard(tree):
    """Splits the leading axis of each array evenly over the devices.

    Raises:
      UserError: the axis is not divisible by the number of devices.
    """
    count = num_devices()
    for leaf in jax.tree.leaves(tree):
        if len(leaf) % count:
            raise UserError(f"a batch of {len(leaf)} cannot be split evenly over {count} devices; change --batch_size")
    if count == 1:
        return on_device(tree)
    own = [place for place, device in enumerate(jax.devices()) if device.process_index == jax.process_index()]
    return _parts()(jax.tree.map(lambda x: x.reshape(count, len(x) // count, *x.shape[1:])[np.array(own)], tree))


@functools.cache  # a new function object would be compiled at every call
def _copies() -> Callable:
    return jax.pmap(lambda _, x: x, in_axes=(0, None))


@functools.cache
def _parts() -> Callable:
    return jax.pmap(lambda x: x)


def gather(array) -> np.ndarray:
    """Undoes `shard`: the whole array, in every process."""
    if num_devices() == 1:
        return np.asarray(array)
    whole = multihost_utils.process_allgather(array, tiled=True) if jax.process_count() > 1 else np.asarray(array)
    return whole.reshape(-1, *whole.shape[2:])


def agree(values) -> np.ndarray:
    """The minimum over all processes of each of `values`, so that all processes decide alike."""
    if jax.process_count() == 1:
        return np.asarray(values)
    return multihost_utils.process_allgather(np.asarray(values)).min(axis=0)


@contextlib.contextmanager
def primary_first() -> Iterator[None]:
    """Lets the primary process go through first; the others enter once it has left, and find what it wrote."""
    if not primary():
        wait("primary")
    try:
        yield
    finally:
        if primary():
            wait("primary")


def wait(name: str) -> None:
    """Blocks until all processes have called this."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
