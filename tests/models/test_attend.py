import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prec_backdoor.models import transformer
from prec_backdoor.models.transformer import Visible, attend, same_segment, with_prefix
from prec_backdoor.parallel.platforms import CPU

LONG = CPU.attention_halves  # queries that are cut in two
WIDTH, TOKENS = 4, 3


@pytest.fixture(autouse=True)
def as_on_a_cpu(monkeypatch):
    monkeypatch.setattr(transformer, "choices", lambda: CPU)


def inputs(length, tokens):
    """Queries [2, T, D], keys and values [2, M, D] of two rows with two segments each, behind a prefix of some tokens."""
    rng = np.random.default_rng(length)
    segment = jnp.array([[1] * (length // 3) + [2] * (length - length // 3), [0] * 5 + [1] * (length - 5)])
    prefix = jnp.zeros((2, 2, 1, tokens, WIDTH)) if tokens else None
    visible = with_prefix(prefix, segment, Visible(same_segment(segment, causal=True)))
    queries, keys, values = (rng.normal(size=(2, number, WIDTH)) for number in (length, *[length + 2 * tokens] * 2))
    return (*(jnp.asarray(each, jnp.float32) for each in (queries, keys, values)), visible, segment > 0)


def attended(queries, keys, values, visible, causal=True):
    return attend(queries, keys, values, visible, lambda weights: weights, causal)


@pytest.mark.parametrize("tokens", [0, TOKENS])
@pytest.mark.parametrize("length", [LONG - 1, LONG, LONG + 1])
def test_it_is_a_softmax_over_what_a_query_sees(length, tokens):
    queries, keys, values, visible, real = inputs(length, tokens)
    logits = np.where(visible.mask, np.einsum("btd,bmd->btm", queries, keys) / np.sqrt(WIDTH), -np.inf)
    with np.errstate(invalid="ignore"):  # padding sees nothing
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        expected = np.einsum("btm,bmd->btd", weights / weights.sum(-1, keepdims=True), values)
    found = attended(queries, keys, values, visible)
    np.testing.assert_allclose(found[real], expected[real], atol=1e-5)


@pytest.mark.parametrize(("length", "causal", "products"), [(LONG - 1, True, 2), (LONG, True, 4), (LONG, False, 2)])
def test_long_causal_rows_are_cut_in_two(length, causal, products):
    queries, keys, values, visible, _ = inputs(length, 0)
    jaxpr = jax.make_jaxpr(lambda *parts: attended(*parts, causal))(queries, keys, values, visible)
    assert str(jaxpr).count("dot_general[") == products


def test_the_halves_have_the_gradients_of_the_whole(monkeypatch):
    *parts, visible, real = inputs(LONG + 1, TOKENS)
    weight = np.random.default_rng(0).normal(size=parts[0].shape) * real[..., None]
    slopes = jax.grad(lambda *parts: (attended(*parts, visible) * weight).sum(), argnums=(0, 1, 2))
    halves = slopes(*parts)
    monkeypatch.setattr(transformer, "choices", lambda: CPU._replace(attention_halves=math.inf))
    for half, whole in zip(halves, slopes(*parts), strict=True):
        assert np.abs(whole).max() > 0.1
        np.testing.assert_allclose(half, whole, atol=1e-5)
