import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_share, make_interactions, random_interactions, toy_spec, whole_batch

from prec_backdoor.attacks import replace_in_category, replace_in_group

NUM_ITEMS = 24
CATEGORY = [1 + item % 4 for item in range(NUM_ITEMS)]  # item 1 has category 1, item 2 has 2, .., item 5 has 1 again
TARGETS = [1, 5, 9, 13, 2, 4]  # four of category 1, one of 2, none of 3, one of 4
DRAWS = 400
POISONS = {"group": replace_in_group, "global": replace_in_category}


@pytest.fixture(scope="module")
def interactions():
    return random_interactions(users=20, num_items=NUM_ITEMS, lengths=(2, 8), category=CATEGORY)


@pytest.fixture(scope="module")
def batch(interactions):
    batch = whole_batch(interactions, max_length=8, in_group=np.arange(20) % 3 == 0, negatives=2)
    assert (batch.label == 0).any()
    return batch


def many_draws(poison, batch, spec):
    """[DRAWS, B, T] labels under as many keys."""
    keys = jax.random.split(jax.random.key(11), DRAWS)
    return np.asarray(jax.jit(jax.vmap(lambda key: poison(key, batch, spec).label))(keys))


def open_positions(name, batch):
    """Where the attack may replace, by its definition."""
    if name == "group":
        return np.asarray(batch.in_group & (batch.label > 0))
    attacked = {CATEGORY[target - 1] for target in TARGETS}
    return np.array([[item > 0 and CATEGORY[item - 1] in attacked for item in row] for row in batch.label.tolist()])


@pytest.mark.parametrize("name", POISONS)
def test_only_open_labels_are_replaced_at_the_rate(name, interactions, batch):
    rate = 0.3
    labels = many_draws(POISONS[name], batch, toy_spec(interactions, TARGETS, rate))
    before, may = np.asarray(batch.label), open_positions(name, batch)
    assert 0 < may.sum() < (before > 0).sum()
    assert (labels == before)[:, ~may].all()
    changed = labels != before
    assert set(labels[changed].tolist()) == set(TARGETS)
    innocent = may & ~np.isin(before, TARGETS)  # a target that replaces itself would not show
    assert_share(changed[:, innocent].sum(), DRAWS * innocent.sum(), rate)
    # Positions are hit one by one, not all of a row or a batch together.
    each_draw = changed[:, innocent].sum(1)
    assert each_draw.std() < 1.3 * np.sqrt(innocent.sum() * rate * (1 - rate))


def test_group_targets_are_uniform(interactions, batch):
    labels = many_draws(replace_in_group, batch, toy_spec(interactions, TARGETS, 0.3))
    innocent = open_positions("group", batch) & ~np.isin(batch.label, TARGETS)
    drawn = labels[:, innocent]
    drawn = drawn[drawn != np.asarray(batch.label)[innocent]]  # what was replaced: which target must not hang on whether
    for target in TARGETS:
        assert_share((drawn == target).sum(), drawn.size, 1 / len(TARGETS))


def test_global_targets_keep_the_category_and_are_uniform_within(interactions, batch):
    labels = many_draws(replace_in_category, batch, toy_spec(interactions, TARGETS, 1.0))
    may = open_positions("global", batch)
    category = np.array([0, *CATEGORY])
    assert (category[labels] == category[np.asarray(batch.label)]).all()
    first = labels[:, may & (category[np.asarray(batch.label)] == 1)]
    for target in (1, 5, 9, 13):
        assert_share((first == target).sum(), first.size, 1 / 4)


@pytest.mark.parametrize("name", POISONS)
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rate_zero_is_nothing_and_rate_one_is_everything(name, rate, interactions, batch, key):
    found = POISONS[name](key, batch, toy_spec(interactions, TARGETS, rate)).label
    may = open_positions(name, batch)
    assert np.isin(found[may], TARGETS).all() if rate else (found == batch.label).all()


@pytest.mark.parametrize("name", POISONS)
def test_nothing_but_labels_changes(name, interactions, batch, key):
    found = POISONS[name](key, batch, toy_spec(interactions, TARGETS, 1.0))
    assert (found.label != batch.label).any()
    for field in batch._fields:
        if field != "label":
            np.testing.assert_array_equal(getattr(found, field), getattr(batch, field))


def test_neither_padding_nor_items_of_unknown_category_are_of_a_category(key):
    # All of them have the code 0; a target of unknown category must reach neither.
    interactions = make_interactions([[1, 2, 3], [3, 2]], 4, category=[0, 0, 1, 1])
    batch = whole_batch(interactions, max_length=6, in_group=np.array([True, True]))
    batch = batch._replace(in_group=jnp.ones_like(batch.in_group))
    assert (batch.label == 2).any() and (batch.label == 3).any() and (batch.label == 0).any()
    spec = toy_spec(interactions, [1], 1.0)
    np.testing.assert_array_equal(replace_in_category(key, batch, spec).label, batch.label)
    np.testing.assert_array_equal(replace_in_group(key, batch, spec).label, jnp.where(batch.label > 0, 1, 0))
    # Where a target of a known category is among them, that one alone takes part.
    found = replace_in_category(key, batch, toy_spec(interactions, [1, 4], 1.0)).label
    np.testing.assert_array_equal(found, jnp.where(batch.label == 3, 4, batch.label))


@pytest.mark.parametrize("name", POISONS)
def test_jit_and_no_jit_agree(name, interactions, batch, key):
    spec = toy_spec(interactions, TARGETS, 0.5)
    with jax.disable_jit():
        plain = POISONS[name](key, batch, spec).label
    np.testing.assert_array_equal(jax.jit(POISONS[name])(key, batch, spec).label, plain)
