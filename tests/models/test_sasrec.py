import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import lively_params, random_interactions, tiny_model, whole_batch

from prec_backdoor.models import backbone

LENGTH = 8
MODEL = tiny_model(num_items=20, max_length=LENGTH)


@pytest.fixture(scope="module")
def params():
    return lively_params(MODEL)


@pytest.fixture(scope="module")
def batch():
    """Packed rows of several segments each, some with padding."""
    batch = whole_batch(random_interactions(users=25, num_items=20, lengths=(2, 6)), LENGTH)
    assert batch.user.shape[1] > 2 and (batch.segment == 0).any()
    return batch


@pytest.fixture(scope="module")
def prefix(batch):
    shape = (*batch.user.shape, MODEL.num_layers, 2, MODEL.embed_dim)
    return jax.random.normal(jax.random.key(5), shape)


@functools.partial(jax.jit, static_argnums=0)
def encode(model, params, batch, prefix):
    def row(*of_row):
        return backbone(model).apply({"params": params["encoder"]}, *of_row)

    return jax.vmap(row)(params["items"][batch.history], batch.position, batch.segment, prefix)


def hidden_states(params, batch, prefix=None, model=MODEL):
    return np.asarray(encode(model, params, batch, prefix))


def reference_encoder(params, heads, items, position, prefix=None):
    """One window without padding, in numpy: positions in a loop, each attending to what it may see and nothing else."""
    weights = jax.tree.map(np.asarray, params["encoder"])

    def dense(x, name, inside=weights):
        return x @ inside[name]["kernel"] + inside[name]["bias"]

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return scaled * weights[name]["scale"] + weights[name]["bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    head_size = MODEL.embed_dim // heads
    x = norm(np.asarray(params["items"])[items] + weights["Embed_0"]["embedding"][position], "norm_in")
    for layer in range(MODEL.num_layers):
        attention = weights[f"attention_{layer}"]
        tokens = np.zeros((0, MODEL.embed_dim)) if prefix is None else prefix[layer]
        attended = []
        for t in range(len(x)):
            visible = np.concatenate([tokens, x[: t + 1]])
            query, keys, values = (
                dense(y, name, attention).reshape(-1, heads, head_size)
                for y, name in ((x[t], "query"), (visible, "key"), (visible, "value"))
            )
            logits = np.einsum("hd,mhd->hm", query[0], keys) / np.sqrt(head_size)
            shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            attended.append(dense(np.einsum("hm,mhd->hd", shares, values).reshape(-1), "out", attention))
        x = norm(x + np.array(attended), f"norm_attention_{layer}")
        inner = gelu(dense(x, f"feedforward_in_{layer}"))
        x = norm(x + dense(inner, f"feedforward_out_{layer}"), f"norm_feedforward_{layer}")
    return x


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("prompted", [False, True])
def test_every_window_is_encoded_as_if_it_were_alone(params, batch, prefix, prompted, heads):
    found = hidden_states(params, batch, prefix if prompted else None, tiny_model(20, max_length=LENGTH, num_heads=heads))
    for row in range(len(found)):
        for segment in range(1, int(batch.segment[row].max()) + 1):
            at = np.flatnonzero(batch.segment[row] == segment)
            own = np.asarray(prefix[row, segment - 1]) if prompted else None
            expected = reference_encoder(params, heads, batch.history[row, at], batch.position[row, at], own)
            np.testing.assert_allclose(found[row, at], expected, atol=1e-4)


def test_no_output_depends_on_a_later_item(params, batch):
    before = hidden_states(params, batch)
    for at in range(LENGTH):
        other = batch.history.at[:, at].set(batch.history[:, at] % MODEL.num_items + 1)
        after = hidden_states(params, batch._replace(history=other))
        real = batch.segment > 0
        np.testing.assert_array_equal(after[:, :at][real[:, :at]], before[:, :at][real[:, :at]])
        assert (np.abs(after[:, at] - before[:, at])[real[:, at]].max(-1) > 1e-3).all()


def test_a_prefix_is_seen_by_all_of_its_segment_and_by_nobody_else(params, batch, prefix):
    before = hidden_states(params, batch, prefix)
    for segment in range(prefix.shape[1]):
        after = hidden_states(params, batch, prefix.at[:, segment].add(1))
        own = batch.segment == segment + 1
        others = ~own & (batch.segment > 0)
        np.testing.assert_array_equal(after[others], before[others])
        assert (np.abs(after - before)[own].max(-1) > 1e-4).all()


def test_padding_changes_nothing(params, batch):
    padding = batch.segment == 0
    before = hidden_states(params, batch)
    other_padding = {**params, "items": params["items"].at[0].add(100)}
    np.testing.assert_array_equal(hidden_states(other_padding, batch)[~padding], before[~padding])
    under = batch._replace(history=jnp.where(padding, 7, batch.history), position=jnp.where(padding, LENGTH - 1, batch.position))
    np.testing.assert_array_equal(hidden_states(params, under)[~padding], before[~padding])
    assert np.isfinite(before).all()


def test_bfloat16_is_near_float32(params, batch):
    real = batch.segment > 0
    exact = hidden_states(params, batch)[real]
    half = hidden_states(params, batch, model=tiny_model(20, max_length=LENGTH, dtype="bfloat16"))[real]
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).mean() < 0.02
