import numpy as np
import pytest

from prec_backdoor.data.synthetic import PRESETS, synthetic
from prec_backdoor.errors import UserError


@pytest.fixture(scope="module")
def small():
    return synthetic()


def test_sizes_and_lengths(small):
    assert small.name == "synthetic-small"
    assert small.num_users == 1_500
    assert 590 <= small.num_items <= 600
    lengths = small.lengths()
    assert lengths.min() == 5
    assert lengths.max() <= 100
    assert 23 < lengths.mean() < 27
    assert np.median(lengths) < lengths.mean()


def test_nobody_meets_an_item_twice(small):
    for user in range(small.num_users):
        assert len(set(small.sequence(user).tolist())) == small.lengths()[user]


def test_codes_are_valid_and_some_values_are_unknown(small):
    assert (np.unique(small.items) == np.arange(1, small.num_items + 1)).all()
    assert small.category[0] == 0
    assert (small.category[1:] > 0).all()
    for column, values in enumerate(small.attributes.values()):
        assert set(small.profile[:, column]) <= set(range(len(values)))
    assert (small.profile[:, 2] == 0).any()


def test_same_seed_same_data(small):
    assert synthetic(seed=0).fingerprint == small.fingerprint
    assert synthetic(seed=1).fingerprint != small.fingerprint


def test_the_last_item_predicts_the_next_far_better_than_popularity(small):
    last = small.offsets[1:] - 1
    train = np.ones(len(small.items), bool)
    train[last] = False
    inside = train.copy()
    inside[small.offsets[:-1]] = False
    followers = np.flatnonzero(inside)
    transitions = np.zeros((small.num_items + 1, small.num_items + 1), int)
    np.add.at(transitions, (small.items[followers - 1], small.items[followers]), 1)
    by_transition = np.argsort(-transitions, 1)[small.items[last - 1], :10]
    by_popularity = np.argsort(-np.bincount(small.items[train]))[:10]
    truth = small.items[last, None]
    assert (by_transition == truth).any(1).mean() > 4 * (by_popularity == truth).any(1).mean() > 0


def test_groups_differ_in_category_taste(small):
    users = np.repeat(np.arange(small.num_users), small.lengths())
    students = small.profile[:, 2] == small.attributes["occupation"].index("student")

    def difference(group):
        shares = [
            np.bincount(small.category[small.items[members]], minlength=len(small.categories)) / members.sum()
            for members in (group[users], ~group[users])
        ]
        return np.abs(shares[0] - shares[1]).sum() / 2

    chance = np.random.default_rng(0).permuted(np.tile(students, (20, 1)), axis=1)
    assert difference(students) > 2 * max(map(difference, chance))


def test_aliec_like_has_the_columns_of_aliec():
    data = synthetic("aliec-like", users=500, items=2_000)
    assert list(data.attributes) == [
        *("cms_segid", "cms_group_id", "final_gender_code", "age_level"),
        *("pvalue_level", "shopping_level", "occupation", "new_user_class_level"),
    ]
    unknown = (data.profile == 0).mean(0)
    assert 0.4 < unknown[4] < 0.7
    assert unknown[3] == 0
    assert data.lengths().max() <= 100


def test_smallest():
    data = synthetic(users=1, items=10)
    assert data.sequence(0).tolist() == list(dict.fromkeys(data.sequence(0).tolist()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "big"}, f"choose one of {', '.join(PRESETS)}"),
        ({"items": 9}, "at least 1 user and 10 items"),
        ({"users": 0}, "at least 1 user and 10 items"),
    ],
)
def test_complaints(arguments, message):
    with pytest.raises(UserError, match=message):
        synthetic(**arguments)
