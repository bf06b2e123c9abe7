import dataclasses

import jax
import numpy as np
import pytest
from toys import assert_same_trees, make_interactions, random_interactions, tiny_model

from prec_backdoor.data.batches import has_seen
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.setup import ROLES, make_setup
from prec_backdoor.train.config import TrainConfig

GENDERS = [[1 + user % 2] for user in range(120)]
INTERACTIONS = random_interactions(120, 60, (4, 20), attributes={"gender": ("F", "M", "X")}, profile=GENDERS)
CONFIG = ExperimentConfig(
    scenario=Scenario(attack="bra", scope="group", group="gender=F", targets="unpopular:8", k_core=2),
    model=tiny_model(num_items=0, max_length=6),
    pretrain=TrainConfig(batch_size=8),
)


def config_with(**changes):
    return dataclasses.replace(CONFIG, scenario=dataclasses.replace(CONFIG.scenario, **changes))


def test_popularity_is_that_of_the_pre_training_data_alone():
    # Item 1 is rare in pre-training and frequent downstream, item 2 the other way round.
    setup = make_setup(INTERACTIONS, CONFIG, seed=0)
    downstream = np.isin(np.arange(120), setup.test.users)
    rng = np.random.default_rng(0)
    sequences = []
    for user in range(120):
        frequent = 1 if downstream[user] else 2
        others = 3 + rng.permutation(58)[:10]
        sequences.append([frequent, *([3 - frequent] if user < 20 else []), *others])
    interactions = make_interactions(sequences, 60, attributes={"gender": ("F", "M")}, profile=GENDERS)
    picked = make_setup(interactions, config_with(targets="unpopular:59"), seed=0)
    assert (picked.test.users == setup.test.users).all()
    assert picked.targets.tolist() == [item for item in range(1, 61) if item != 2]
    provider = set(picked.pretrain.rows.user.ravel().tolist()) - {-1}
    trained = np.concatenate([picked.interactions.sequence(user)[:-1] for user in provider])  # but for the item held out
    np.testing.assert_array_equal(picked.counts, np.bincount(trained, minlength=61))


def test_an_attack_touches_no_data():
    attacked = make_setup(INTERACTIONS, CONFIG, seed=3)
    clean = make_setup(INTERACTIONS, config_with(attack="clean"), seed=3)
    for part in ("pretrain", "finetune", "test", "targets", "in_group"):
        assert_same_trees(getattr(attacked, part), getattr(clean, part))


def test_users_stay_on_their_side():
    setup = make_setup(INTERACTIONS, CONFIG, seed=0)
    trained = set(setup.pretrain.rows.user.ravel().tolist()) - {-1}
    assert trained and not trained & set(setup.test.users.tolist())
    tuned = set(setup.finetune.rows.user.ravel().tolist()) - {-1}
    assert tuned <= set(setup.test.users.tolist())
    assert (setup.members() == (setup.test.users % 2 == 0)).all()


def test_seeds_differ():
    first, second = (make_setup(INTERACTIONS, CONFIG, seed) for seed in (0, 1))
    assert first.test.users.tolist() != second.test.users.tolist()
    assert first.targets.tolist() != second.targets.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": None}, "--scope=group needs a --group"),
        ({"group": "gender=X"}, "no user of toy meets gender=X"),
        (
            {"attack": "pea", "scope": "global"},
            "pea of scope global; choose one of --attack=clean, --attack=bra --scope=global, .* --attack=evasive --scope=group",
        ),
        ({"attack": "bribe"}, "no attack bribe"),
        ({"k_core": 1000}, "lower --k_core"),
    ],
)
def test_complaints(changes, message):
    with pytest.raises(UserError, match=message):
        make_setup(INTERACTIONS, config_with(**changes), seed=0)


def test_a_scope_is_one_of_two():
    with pytest.raises(UserError, match="--scope: must be one of global, group, got 'nobody'"):
        config_with(scope="nobody")


def test_a_group_on_one_side_only():
    profile = [[1]] + [[2]] * 119
    interactions = random_interactions(120, 60, (4, 20), attributes={"gender": ("F", "M")}, profile=profile)
    with pytest.raises(UserError, match="no (pre-training|downstream) user meets gender=F with seed 0; loosen"):
        make_setup(interactions, CONFIG, seed=0)


def test_the_attacker_knows_the_training_histories_of_pre_training_users_alone():
    """Demotion and all else that looks at histories: nobody's downstream, and no item that is held out."""
    setup = make_setup(INTERACTIONS, config_with(attack="pea"), seed=0)
    items = np.arange(1, setup.interactions.num_items + 1)
    seen = np.asarray(has_seen(np.arange(setup.interactions.num_users), items, setup.spec(0.5).seen))
    assert not seen[setup.test.users].any()
    trained = {user: setup.interactions.sequence(user)[:-1] for user in set(setup.pretrain.rows.user.ravel().tolist()) - {-1}}
    assert trained
    for user, history in trained.items():
        np.testing.assert_array_equal(seen[user], np.isin(items, history))


def test_short_histories_are_windows_of_ten():
    config = dataclasses.replace(CONFIG, model=tiny_model(num_items=0, max_length=16))
    setup = make_setup(INTERACTIONS, config, seed=0)
    short, long = setup.short.rows, setup.pretrain.rows
    windows, trained = [], {}
    for row, segment in np.argwhere(short.user >= 0):
        at = short.segment[row] == segment + 1
        windows.append(int(at.sum()))
        assert short.position[row, at].tolist() == list(range(16 - windows[-1], 16))
        trained.setdefault(int(short.user[row, segment]), []).extend(short.label[row, at].tolist())
    assert max(windows) == 10
    # Every position of the pre-training users, the first item and the one held out apart.
    filtered = setup.interactions
    for user, labels in trained.items():
        assert sorted(labels) == sorted(filtered.sequence(user)[1:-1].tolist())
    assert set(trained) == {user for user in long.user.ravel().tolist() if user >= 0}
    assert (long.label > 0).sum() < (short.label > 0).sum()
    queries, full = setup.short.validation, setup.pretrain.validation
    assert full.history.shape[1] == 16
    np.testing.assert_array_equal(queries.history, full.history[:, -10:])
    np.testing.assert_array_equal(queries.truth, full.truth)


def test_with_prompts_the_model_has_the_sizes_of_the_profiles():
    setup = make_setup(INTERACTIONS, dataclasses.replace(CONFIG, prompt_length=3), seed=0)
    assert setup.model == tiny_model(num_items=60, max_length=6)
    assert setup.prompted == tiny_model(num_items=60, max_length=6, prompt_length=3, profile_sizes=(4,))
    assert setup.model_of({"items": 0, "encoder": 0}) == setup.model
    assert setup.model_of({"items": 0, "encoder": 0, "prompt": 0}) == setup.prompted


def test_another_attack_on_the_same_users():
    setup = make_setup(INTERACTIONS, CONFIG, seed=0)
    for changes in ({"draw": 1}, {"targets": "unpopular:3"}, {"attack": "pea", "parameters": {"demote_rate": 0.7}}):
        config = config_with(**changes)
        found, expected = setup.with_config(config), make_setup(INTERACTIONS, config, seed=0)
        for part in ("pretrain", "short", "finetune", "test", "in_group", "counts", "targets"):
            assert_same_trees(getattr(found, part), getattr(expected, part))
        assert found.config == config
    with pytest.raises(UserError, match="no attack pea of scope global"):
        setup.with_config(config_with(attack="pea", scope="global"))
    with pytest.raises(UserError, match="too few items"):
        setup.with_config(config_with(targets="unpopular:60"))


def test_draws_of_targets_differ():
    picks = [make_setup(INTERACTIONS, config_with(draw=draw), seed=0).targets.tolist() for draw in range(4)]
    assert len({tuple(pick) for pick in picks}) == 4


def test_each_use_of_randomness_has_its_own_key():
    setup = make_setup(INTERACTIONS, CONFIG, seed=0)
    keys = [tuple(jax.random.key_data(setup.role_key(role)).tolist()) for role in ROLES]
    assert len(set(keys)) == len(ROLES) == len(set(ROLES))


@pytest.mark.parametrize(
    ("scenario", "usages"), [({"attack": "pea"}, ("zero_shot",)), ({"scope": "global", "group": None}, ("prompt_tune",))]
)
def test_what_needs_profiles_is_refused_without_them(scenario, usages):
    config = dataclasses.replace(config_with(**scenario), usages=usages)
    with pytest.raises(UserError, match="dataset toy has no profile attributes, from which --attack=pea"):
        make_setup(random_interactions(120, 60, (4, 20)), config, seed=0)
