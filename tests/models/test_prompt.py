import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import all_sequences, lively_params, make_interactions, random_interactions, tiny_model, whole_batch

from prec_backdoor.data.packing import pack
from prec_backdoor.evaluation import ranks
from prec_backdoor.models import PromptGenerator, backbone, encode, init_params, init_prompt, represent

SIZES = (3, 4)  # values of two attributes, code 0 included
MODEL = tiny_model(num_items=15, max_length=6, prompt_length=2, profile_sizes=SIZES)
EVERY_PROFILE = np.array([[first, second] for first in range(3) for second in range(4)], np.int32)
ENCODE, REPRESENT = (jax.jit(function, static_argnums=1) for function in (encode, represent))


@pytest.fixture(scope="module")
def params():
    return lively_params(MODEL)


@pytest.fixture(scope="module")
def interactions():
    profile = [[user % 3, user % 4] for user in range(9)]
    attributes = {"gender": ("F", "M"), "age": ("1", "2", "3")}
    return random_interactions(9, 15, lengths=(2, 7), attributes=attributes, profile=profile)


@pytest.fixture(scope="module")
def batch(interactions):
    """Packed rows, some with fewer segments than others."""
    batch = whole_batch(interactions, MODEL.max_length)
    assert (batch.user == -1).any() and batch.user.shape[1] > 1
    return batch


def tokens_of(prompt, profile):
    """One user's tokens [layers, P, D], from the definition."""
    prompt = jax.tree.map(np.asarray, prompt)
    embedded = np.concatenate([prompt[f"attribute_{at}"]["embedding"][code] for at, code in enumerate(profile)])
    inner = np.maximum(0, embedded @ prompt["inner"]["kernel"] + prompt["inner"]["bias"])
    outer = inner @ prompt["outer"]["kernel"] + prompt["outer"]["bias"]
    tokens, width = MODEL.num_layers * MODEL.prompt_length, MODEL.embed_dim
    return np.array([outer[at * width : (at + 1) * width] for at in range(tokens)]).reshape(-1, MODEL.prompt_length, width)


def hidden_states(params, batch, profile=None):
    profile = batch.profile if profile is None else profile
    return np.asarray(ENCODE(params, MODEL, batch.history, batch.position, batch.segment, profile))


def test_every_profile_has_the_tokens_of_the_definition(params):
    found = PromptGenerator(MODEL).apply({"params": params["prompt"]}, jnp.array(EVERY_PROFILE).reshape(3, 4, 2))
    assert found.shape == (3, 4, MODEL.num_layers, MODEL.prompt_length, MODEL.embed_dim)
    for tokens, profile in zip(found.reshape(12, *found.shape[2:]), EVERY_PROFILE, strict=True):
        np.testing.assert_allclose(tokens, tokens_of(params["prompt"], profile), rtol=1e-4, atol=1e-5)
    # Users with any two profiles, an unknown value among them or not, get other tokens, and so does each layer and place.
    assert len(np.unique(np.asarray(found).reshape(-1, MODEL.embed_dim).round(5), axis=0)) == 12 * 2 * 2


def test_an_unknown_value_has_an_embedding_of_its_own_that_learns(params):
    def total(prompt, profile):
        return PromptGenerator(MODEL).apply({"params": prompt}, jnp.array([profile])).sum()

    gradient = jax.grad(total)(params["prompt"], [0, 2])
    for at, code in ((0, 0), (1, 2)):
        learns = np.flatnonzero((gradient[f"attribute_{at}"]["embedding"] != 0).any(-1))
        assert learns.tolist() == [code]


def test_initial_parameters(key):
    params = init_params(key, MODEL)
    assert set(params) == {"items", "encoder", "prompt"}
    shapes = {name: {part: x.shape for part, x in of.items()} for name, of in params["prompt"].items()}
    assert shapes == {
        "attribute_0": {"embedding": (3, 8)},
        "attribute_1": {"embedding": (4, 8)},
        "inner": {"kernel": (16, 8), "bias": (8,)},
        "outer": {"kernel": (8, 2 * 2 * 8), "bias": (2 * 2 * 8,)},
    }
    assert jax.tree.structure(params["prompt"]) == jax.tree.structure(init_prompt(key, MODEL))
    # The rest is what a model without prompts starts from.
    bare = init_params(key, tiny_model(num_items=15, max_length=6))
    jax.tree.map(np.testing.assert_array_equal, {name: params[name] for name in bare}, bare)


def test_each_segment_is_encoded_with_its_own_users_tokens(params, batch, interactions):
    prefix = np.zeros((*batch.user.shape, MODEL.num_layers, MODEL.prompt_length, MODEL.embed_dim), np.float32)
    for row, at in np.argwhere(np.asarray(batch.user) >= 0):
        prefix[row, at] = tokens_of(params["prompt"], interactions.profile[batch.user[row, at]])

    @jax.jit
    @jax.vmap
    def row(*of_row):
        return backbone(MODEL).apply({"params": params["encoder"]}, *of_row)

    expected = row(params["items"][batch.history], batch.position, batch.segment, prefix)
    real = batch.segment > 0
    np.testing.assert_allclose(hidden_states(params, batch)[real], expected[real], atol=1e-4)


def test_another_profile_changes_the_own_segment_alone(params, batch):
    before = hidden_states(params, batch)
    for at in range(batch.user.shape[1]):
        for attribute, size in enumerate(SIZES):
            other = batch.profile.at[:, at, attribute].set((batch.profile[:, at, attribute] + 1) % size)
            after = hidden_states(params, batch, other)
            own = batch.segment == at + 1
            real = batch.segment > 0
            np.testing.assert_array_equal(after[~own & real], before[~own & real])
            assert (np.abs(after - before)[own].max(-1) > 1e-4).all()


def test_the_profile_of_a_segment_that_is_not_there_changes_nothing(params, batch):
    padded = batch.user == -1
    before = hidden_states(params, batch)
    real = batch.segment > 0
    for code in (0, 1, 2):
        after = hidden_states(params, batch, jnp.where(padded[..., None], code, batch.profile))
        np.testing.assert_array_equal(after[real], before[real])
    assert np.isfinite(before).all()


def test_a_history_is_represented_by_its_last_packed_position(params, interactions):
    sequences = all_sequences(interactions)
    rows = pack(sequences, MODEL.max_length)
    hidden = hidden_states(params, rows, interactions.profile[rows.user])
    last = (rows.position == MODEL.max_length - 1) & (rows.segment > 0)
    owners = np.take_along_axis(rows.user, np.maximum(rows.segment - 1, 0), 1)[last]
    histories = [sequences.items[user][:-1].tolist() for user in owners]
    padded = np.array([[0] * (6 - len(history)) + history for history in histories])
    found = REPRESENT(params, MODEL, padded, interactions.profile[owners])
    np.testing.assert_allclose(found, hidden[last], atol=1e-5)


def test_ranks_are_those_of_the_users_own_profile(params):
    history = np.tile(np.array([[0, 0, 3, 1, 4, 7]], np.int32), (12, 1))
    items = np.arange(1, 16)
    found = ranks(params, MODEL, history, items, EVERY_PROFILE)
    scores = np.asarray(REPRESENT(params, MODEL, history, EVERY_PROFILE) @ params["items"].T)
    competing = np.setdiff1d(items, history)
    for user in range(12):
        best_first = competing[np.argsort(-scores[user, competing])]
        assert found[user, best_first - 1].tolist() == list(range(1, len(competing) + 1))
    assert len(np.unique(found, axis=0)) > 6
    with pytest.raises(ValueError, match="profiles"):
        ranks(params, MODEL, history, items)


def test_a_model_without_prompts_does_not_look_at_profiles():
    interactions = make_interactions([[1, 2, 3], [4, 5]])
    model = tiny_model(num_items=15, max_length=6)
    params, history = lively_params(model), np.array([[0, 1, 2], [0, 0, 4]], np.int32)
    assert interactions.profile.shape == (2, 0)
    expected = ranks(params, model, history, np.arange(1, 6))
    for profiles in (interactions.profile, EVERY_PROFILE[:2], EVERY_PROFILE[-2:]):
        np.testing.assert_array_equal(ranks(params, model, history, np.arange(1, 6), profiles), expected)
