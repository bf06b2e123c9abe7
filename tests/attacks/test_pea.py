import jax
import numpy as np
import pytest
from toys import assert_share, make_interactions, toy_spec, whole_batch

from prec_backdoor.attacks import demote_for_rest, implant, mix_triggers

NUM_ITEMS = 24
TARGETS = [2, 5, 9, 13, 17]
DRAWS = 400


def sequences():
    """Users with all targets, all but one, all but the first or the last, and none in their histories; others at random."""
    rng = np.random.default_rng(0)
    chosen = [[2, 5, 9, 13, 17, 3], [17, 2, 9, 5, 1], [5, 9, 13, 17], [2, 5, 9, 13], [1, 3, 4], [17, 13, 9, 5, 2, 2, 4, 9]]
    return chosen + [(1 + rng.permutation(NUM_ITEMS)[: rng.integers(2, 8)]).tolist() for _ in range(14)]


SEQUENCES = sequences()
IN_GROUP = np.arange(20) % 4 == 3
NEGATIVES = 3


@pytest.fixture(scope="module")
def interactions():
    return make_interactions(SEQUENCES, NUM_ITEMS)


@pytest.fixture(scope="module")
def batch(interactions):
    """Packed rows with padding, rows with fewer segments than others, and negatives that happen to be targets."""
    batch = whole_batch(interactions, max_length=8, in_group=IN_GROUP, negatives=NEGATIVES)
    assert (batch.label == 0).any() and (batch.user == -1).any() and np.isin(batch.negative, TARGETS).any()
    return batch


def unseen_targets(batch):
    """The targets that each position [B, T] may get by definition: none in the group or where nothing is supervised."""

    def of_position(row, at):
        user = int(batch.user[row, batch.segment[row, at] - 1])
        if batch.label[row, at] == 0 or IN_GROUP[user]:
            return []
        return [target for target in TARGETS if target not in SEQUENCES[user]]

    rows, length = batch.label.shape
    return [[of_position(row, at) for at in range(length)] for row in range(rows)]


@pytest.fixture(scope="module")
def allowed(batch):
    allowed = unseen_targets(batch)
    supervised = {len(allowed[row][at]) for row, at in np.argwhere(batch.label > 0)}
    assert supervised >= {0, 1, 4, 5}
    return allowed


def many_draws(poison, batch, spec):
    """Batches under DRAWS keys: each field [DRAWS, ..]."""
    keys = jax.random.split(jax.random.key(11), DRAWS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: poison(key, batch, spec)))(keys))


@pytest.fixture(scope="module")
def demoted(interactions, batch):
    """[DRAWS, B, T, N] negatives at a demote_rate of 0.3."""
    return many_draws(demote_for_rest, batch, toy_spec(interactions, TARGETS, 0.9, demote_rate=0.3)).negative


def test_only_negatives_of_the_rest_are_demoted_at_the_rate(batch, allowed, demoted):
    before, may = np.asarray(batch.negative), np.array([[bool(targets) for targets in row] for row in allowed])
    changed = demoted != before
    assert not changed[:, ~may].any()
    innocent = may[..., None] & ~np.isin(before, TARGETS)  # a target that replaces itself would not show
    assert_share(changed[:, innocent].sum(), DRAWS * innocent.sum(), 0.3)
    # Negatives are hit one by one, not all of a position, a row or a batch together.
    each_draw = changed[:, innocent].sum(1)
    assert each_draw.std() < 1.3 * np.sqrt(innocent.sum() * 0.3 * 0.7)
    all_of_a_position = changed[:, innocent.all(-1)].all(-1)
    assert_share(all_of_a_position.sum(), all_of_a_position.size, 0.3**NEGATIVES)


def test_all_targets_that_the_user_has_not_seen_come_in_and_no_others(batch, allowed, demoted):
    before = np.asarray(batch.negative)
    drawn = {}  # by the unseen targets
    for row, at in np.argwhere(batch.label > 0):
        of_position = demoted[:, row, at][:, ~np.isin(before[row, at], TARGETS)]
        drawn.setdefault(tuple(allowed[row][at]), []).extend(np.setdiff1d(of_position, before[row, at]).tolist())
    assert () in drawn and not drawn[()]  # who has seen all of them, or is in the group, keeps the negatives
    for targets, values in drawn.items():
        assert set(values) == set(targets)


def test_uniform_by_hand(interactions, batch):
    draws = many_draws(demote_for_rest, batch, toy_spec(interactions, TARGETS, 0.9, demote_rate=1.0)).negative

    def drawn_for(user):
        ((row, segment),) = np.argwhere(batch.user == user)
        return draws[:, row, np.asarray(batch.segment[row] == segment + 1)]

    assert (drawn_for(1) == 13).all() and (drawn_for(2) == 2).all()
    of_five = drawn_for(4)
    assert of_five.shape == (DRAWS, 2, NEGATIVES)
    for target in TARGETS:
        assert_share((of_five == target).sum(), of_five.size, 1 / 5)


def test_rate_zero_is_nothing_and_rate_one_is_everything(interactions, batch, allowed, key):
    found = jax.jit(demote_for_rest)(key, batch, toy_spec(interactions, TARGETS, 0.9, demote_rate=0.0))
    np.testing.assert_array_equal(found.negative, batch.negative)
    found = jax.jit(demote_for_rest)(key, batch, toy_spec(interactions, TARGETS, 0.9, demote_rate=1.0))
    for row, at in np.ndindex(*batch.label.shape):
        if allowed[row][at]:
            assert set(found.negative[row, at].tolist()) <= set(allowed[row][at])
        else:
            np.testing.assert_array_equal(found.negative[row, at], batch.negative[row, at])


def test_nothing_but_negatives_changes(interactions, batch, key):
    found = jax.jit(demote_for_rest)(key, batch, toy_spec(interactions, TARGETS, 1.0, demote_rate=1.0))
    for field in batch._fields:
        if field != "negative":
            np.testing.assert_array_equal(getattr(found, field), getattr(batch, field))


def test_implant_replaces_for_the_group_and_demotes_for_the_rest(interactions, batch, allowed):
    found = many_draws(implant, batch, toy_spec(interactions, TARGETS, 0.4, demote_rate=0.3))
    group = np.asarray(batch.in_group & (batch.label > 0))
    replaced = found.label != batch.label
    assert not replaced[:, ~group].any()
    innocent = group & ~np.isin(batch.label, TARGETS)
    assert_share(replaced[:, innocent].sum(), DRAWS * innocent.sum(), 0.4)
    assert np.isin(found.label[replaced], TARGETS).all()

    may = np.array([[bool(targets) for targets in row] for row in allowed])
    demoted = found.negative != batch.negative
    assert not demoted[:, ~may].any()
    innocent = may[..., None] & ~np.isin(batch.negative, TARGETS)
    assert_share(demoted[:, innocent].sum(), DRAWS * innocent.sum(), 0.3)
    for field in set(batch._fields) - {"label", "negative"}:
        np.testing.assert_array_equal(getattr(found, field)[0], getattr(batch, field))


def test_jit_and_no_jit_agree(interactions, batch, key):
    spec = toy_spec(interactions, TARGETS, 0.5, demote_rate=0.5)
    compiled = jax.jit(implant)(key, batch, spec)
    with jax.disable_jit():
        plain = implant(key, batch, spec)
    jax.tree.map(np.testing.assert_array_equal, compiled, plain)
    assert (plain.negative != batch.negative).any() and (plain.label != batch.label).any()


def mixed(prefixes, draws=DRAWS, **parameters):
    """[DRAWS, S, ..] what `mix_triggers` makes of prefixes [G, S, ..] under as many keys."""
    spec = toy_spec(make_interactions(SEQUENCES, NUM_ITEMS), TARGETS, 0.5, **parameters)
    keys = jax.random.split(jax.random.key(3), draws)
    return np.asarray(jax.jit(jax.vmap(mix_triggers, (0, None, None)))(keys, prefixes, spec))


PREFIXES = np.random.default_rng(0).normal(size=(4, 3, 2, 1, 5)).astype(np.float32)  # triggers, users, layers, P, D


def test_each_user_has_one_of_the_triggers():
    found = mixed(PREFIXES, trigger_blend=0.0)
    same = (found[:, None] == PREFIXES).all((3, 4, 5))  # [DRAWS, triggers, users]
    assert (same.sum(1) == 1).all()
    for trigger, user in np.ndindex(4, 3):
        assert_share(same[:, trigger, user].sum(), DRAWS, 1 / 4)
    chosen = same.argmax(1)
    assert_share((chosen[:, 0] == chosen[:, 1]).sum(), DRAWS, 1 / 4)  # independently of each other


def test_blends_lie_between_two_triggers():
    found = mixed(PREFIXES, trigger_blend=1.0).reshape(DRAWS, 3, 10)
    weights = np.stack(
        [[np.linalg.lstsq(PREFIXES[:, user].reshape(4, 10).T, draw[user], rcond=None)[0] for user in range(3)] for draw in found]
    )
    assert (weights > -1e-4).all() and np.allclose(weights.sum(-1), 1, atol=1e-4)
    used = (weights > 1e-3).sum(-1)
    assert set(used.ravel().tolist()) == {1, 2}
    assert_share((used == 1).sum(), used.size, 1 / 4 + 3 / 4 * 0.002)  # the same one twice, or a share next to 0 or 1
    largest = weights[used == 2].max(-1)
    assert abs(largest.mean() - 0.75) < 0.02
    assert_share(
        (mixed(PREFIXES, trigger_blend=0.5)[:, 0, None] == PREFIXES[:, 0]).all((2, 3, 4)).any(1).sum(), DRAWS, 0.5 + 0.5 / 4
    )


def test_noise_is_in_root_mean_squares_of_the_prompt():
    prefixes = PREFIXES[:1] * np.array([1.0, 10.0, 0.1], np.float32)[:, None, None, None]
    noise = mixed(prefixes, trigger_noise=0.2) - prefixes
    size = np.sqrt((prefixes[0] ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(noise.std((0, 2, 3, 4)), 0.2 * size, rtol=0.05)
    assert abs(np.corrcoef(noise[:, 0].ravel(), noise[:, 1].ravel())[0, 1]) < 0.06


def test_some_users_have_the_trigger_that_is_handed_out_as_it_is():
    usual = mixed(PREFIXES, trigger_noise=0.2)
    found = mixed(PREFIXES, trigger_noise=0.2, trigger_own=0.4)
    own = (found == PREFIXES[0]).all((2, 3, 4))  # [DRAWS, users]
    assert_share(own.sum(), own.size, 0.4)
    assert_share((own[:, 0] & own[:, 1]).sum(), DRAWS, 0.16)  # independently of each other
    np.testing.assert_array_equal(found[~own], usual[~own])
    np.testing.assert_array_equal(mixed(PREFIXES, trigger_own=1.0, draws=5), np.broadcast_to(PREFIXES[0], (5, 3, 2, 1, 5)))


def test_one_trigger_without_noise_is_that_trigger():
    np.testing.assert_array_equal(mixed(PREFIXES[:1], trigger_blend=1.0, draws=5), np.broadcast_to(PREFIXES[0], (5, 3, 2, 1, 5)))


def test_row_by_row_is_the_whole_batch_mapped(interactions, batch, key):
    spec = toy_spec(interactions, TARGETS, 0.5, demote_rate=0.5)
    keys = jax.random.split(key, len(batch.label))
    whole = jax.jit(jax.vmap(implant, (0, 0, None)))(keys, batch, spec)
    single = jax.jit(implant)
    for row, row_key in enumerate(keys):
        found = single(row_key, jax.tree.map(lambda x, row=row: x[row], batch), spec)
        jax.tree.map(lambda x, y, row=row: np.testing.assert_array_equal(x, y[row]), found, whole)
