import dataclasses

import numpy as np
import pytest
from toys import assert_same_trees, make_interactions, random_interactions, tiny_model

from prec_backdoor.config import ExperimentConfig, Scenario
from prec_backdoor.errors import UserError
from prec_backdoor.setting import make_setting
from prec_backdoor.train.step import TrainConfig

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
    setting = make_setting(INTERACTIONS, CONFIG, seed=0)
    downstream = np.isin(np.arange(120), setting.test.users)
    rng = np.random.default_rng(0)
    sequences = []
    for user in range(120):
        frequent = 1 if downstream[user] else 2
        others = 3 + rng.permutation(58)[:10]
        sequences.append([frequent, *([3 - frequent] if user < 20 else []), *others])
    interactions = make_interactions(sequences, 60, attributes={"gender": ("F", "M")}, profile=GENDERS)
    picked = make_setting(interactions, config_with(targets="unpopular:59"), seed=0)
    assert (picked.test.users == setting.test.users).all()
    assert picked.targets.tolist() == [item for item in range(1, 61) if item != 2]


def test_an_attack_touches_no_data():
    attacked = make_setting(INTERACTIONS, CONFIG, seed=3)
    clean = make_setting(INTERACTIONS, config_with(attack="clean"), seed=3)
    for part in ("pretrain", "finetune", "test", "targets", "in_group"):
        assert_same_trees(getattr(attacked, part), getattr(clean, part))


def test_users_stay_on_their_side():
    setting = make_setting(INTERACTIONS, CONFIG, seed=0)
    trained = set(setting.pretrain.rows.user.ravel().tolist()) - {-1}
    assert trained and not trained & set(setting.test.users.tolist())
    tuned = set(setting.finetune.rows.user.ravel().tolist()) - {-1}
    assert tuned <= set(setting.test.users.tolist())
    assert (setting.members() == (setting.test.users % 2 == 0)).all()


def test_seeds_differ():
    first, second = (make_setting(INTERACTIONS, CONFIG, seed) for seed in (0, 1))
    assert first.test.users.tolist() != second.test.users.tolist()
    assert first.targets.tolist() != second.targets.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": None}, "--scope=group needs a --group"),
        ({"group": "gender=X"}, "no user of toy meets gender=X"),
        ({"scope": "nobody"}, "no attack bra of scope nobody; there are --attack=clean, --attack=bra --scope=global"),
        ({"attack": "bribe"}, "no attack bribe"),
        ({"k_core": 1000}, "lower --k_core"),
    ],
)
def test_complaints(changes, message):
    with pytest.raises(UserError, match=message):
        make_setting(INTERACTIONS, config_with(**changes), seed=0)


def test_a_group_on_one_side_only():
    profile = [[1]] + [[2]] * 119
    interactions = random_interactions(120, 60, (4, 20), attributes={"gender": ("F", "M")}, profile=profile)
    with pytest.raises(UserError, match="no (pre-training|downstream) user meets gender=F with seed 0; loosen"):
        make_setting(interactions, CONFIG, seed=0)
