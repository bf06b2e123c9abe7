"""Layer normalisation (Ba et al., arXiv 1607.06450) with a hand-written gradient, which makes fewer passes over the activations.

With `nn.LayerNorm` a training step takes 4 % more CPU time (110,000 items, D 64, 1 layer, T 100, 256 sequences; median of 21
neighbouring turns on 2 CPU cores with other work), and on 2 idle cores 3.5 ms more (of 28).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp


class LayerNorm(nn.Module):
    """Normalises over the last axis, in float32; parameters "scale" and "bias" [D], as `nn.LayerNorm` has."""

    dtype: jnp.dtype = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return layer_norm(x.astype(jnp.float32), scale, bias, self.epsilon).astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """Returns (x - mean) / sqrt(variance + epsilon) * scale + bias for x [.., D]."""
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x, scale, bias, epsilon):
    centred = x - _mean(x)
    inverse = jax.lax.rsqrt(_mean(centred * centred) + epsilon)
    normed = centred * inverse
    return normed * scale + bias, (normed, inverse, scale)


def _backward(epsilon, saved, grad):
    del epsilon
    normed, inverse, scale = saved
    rows = tuple(range(grad.ndim - 1))
    scaled = grad * scale
    grad_x = (scaled - _mean(scaled) - normed * _mean(scaled * normed)) * inverse
    return grad_x, (grad * normed).sum(rows), grad.sum(rows)


layer_norm.defvjp(_forward, _backward)


def _mean(x):
    """Returns means [.., 1]; on a CPU by a product with a vector, which uses all cores where a reduction uses one."""

    def product(x):
        return jnp.dot(x, jnp.full((x.shape[-1], 1), 1 / x.shape[-1]), precision=jax.lax.Precision.HIGHEST)

    return jax.lax.platform_dependent(x, cpu=product, default=lambda x: x.mean(-1, keepdims=True))
