import dataclasses

import numpy as np
from toys import make_interactions, random_interactions

from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of, pair_groups, single_groups, translated
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.experiment.setup import make_setup

ATTRIBUTES = {"gender": ("unknown", "F", "M"), "job": ("unknown", "cook", "smith")}


def auditor_data(history, profile):
    profile = np.array(profile, np.int32)
    return AuditorData(np.array(history, np.int32), profile, ATTRIBUTES, np.zeros(6, np.int32))


def test_popularity_counts_a_history_once():
    assert auditor_data([[0, 3, 3], [3, 1, 5]], [[0, 0]] * 2).popularity().tolist() == [0, 1, 0, 2, 0, 1]


def test_groups():
    profile = [[1, 1], [1, 1], [1, 2], [2, 1], [2, 1], [0, 2], [2, 0]]
    mine = auditor_data([[1]] * 7, profile)
    singles = single_groups(mine, minimum=2)
    assert list(singles) == ["gender=F", "gender=M", "job=cook", "job=smith"]
    assert singles["job=smith"].tolist() == [False, False, True, False, False, True, False]
    pairs = pair_groups(mine, minimum=2)
    assert {name: members.sum() for name, members in pairs.items()} == {"gender=F,job=cook": 2, "gender=M,job=cook": 2}
    assert list(single_groups(mine, minimum=4)) == []  # of seven users nobody has four on both sides


def test_the_same_users_in_the_codes_of_another_vocabulary():
    """Which has other items in another order, and other values of one of the two attributes."""
    history = np.array([[0, 1, 2, 3], [4, 4, 2, 1], [0, 0, 0, 4]], np.int32)
    profile = np.array([[1, 2], [2, 1], [0, 2]], np.int32)
    ours = AuditorData(history, profile, {"job": ("unknown", "cook", "smith"), "age": ("unknown", "old", "young")}, np.zeros(5))
    other = make_interactions([[1, 2, 3]], 3, {"age": ("young", "ancient"), "town": ("x",)})
    other = dataclasses.replace(other, item_ids=np.array(["", "c", "new", "a"]))
    found = translated(ours, np.array(["", "a", "b", "c", "d"]), other)
    np.testing.assert_array_equal(found.history, [[0, 0, 3, 1], [0, 0, 0, 3], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.profile, [[1, 0], [0, 0], [1, 0]])
    assert found.attributes == other.attributes and len(found.category) == 4


def test_the_auditor_knows_downstream_users_and_not_their_test_items():
    interactions = random_interactions(80, 60, (6, 20))
    setup = make_setup(interactions, ExperimentConfig(Scenario(attack="clean", scope="global", k_core=1)), seed=3)
    whole, some = auditor_data_of(setup), auditor_data_of(setup, 10)
    assert len(whole.history) == len(setup.test.users) and len(some.history) == 10
    assert not (whole.history == setup.test.truth[:, None]).any()
    rows = {tuple(row) for row in whole.history.tolist()}
    assert all(tuple(row) in rows for row in some.history.tolist())
