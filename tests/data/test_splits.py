import numpy as np
import pytest
from toys import make_interactions, random_interactions

from prec_backdoor.data import splits
from prec_backdoor.data.splits import DOWNSTREAM_LENGTH, own_split, split_users, users_beyond
from prec_backdoor.errors import UserError


@pytest.fixture(scope="module")
def interactions():
    return random_interactions(users=50, num_items=60, lengths=(1, 30))


def history_of(queries, row):
    """The query's history without its padding, which is all in front."""
    items = queries.history[row]
    real = np.trim_zeros(items, "f")
    assert (real > 0).all()
    return real.tolist()


def test_no_user_is_on_both_sides_and_nobody_is_lost(interactions):
    split = split_users(interactions, seed=0)
    eligible = np.flatnonzero(interactions.lengths() >= 3)
    assert len(eligible) < interactions.num_users
    both = np.concatenate([split.pretrain.users, split.test.users])
    assert np.sort(both).tolist() == eligible.tolist()
    assert len(split.pretrain.users) == round(0.6 * len(eligible))
    for same in (split.finetune.users, split.finetune_validation.users):
        assert same.tolist() == split.test.users.tolist()
    assert split.pretrain_validation.users.tolist() == split.pretrain.users.tolist()


def test_each_item_has_its_place(interactions):
    split = split_users(interactions, seed=0)
    for row, user in enumerate(split.pretrain.users):
        full = interactions.sequence(user).tolist()
        assert split.pretrain.items[row].tolist() == full[:-1] == history_of(split.pretrain_validation, row)
        assert split.pretrain_validation.truth[row] == full[-1]
    for row, user in enumerate(split.test.users):
        cut = interactions.sequence(user).tolist()[:12]
        assert split.finetune.items[row].tolist() == cut[:-2] == history_of(split.finetune_validation, row)
        assert split.finetune_validation.truth[row] == cut[-2]
        assert history_of(split.test, row) == cut[:-1]
        assert split.test.truth[row] == cut[-1]
    assert max(interactions.lengths()[split.test.users]) > DOWNSTREAM_LENGTH


def test_queries_keep_the_most_recent_items():
    sequence = list(range(1, 11))
    split = split_users(make_interactions([sequence, sequence]), seed=0, pretrain_share=0.5, max_length=4)
    assert split.pretrain_validation.history.tolist() == [[6, 7, 8, 9]]
    assert split.test.history.tolist() == [[5, 6, 7, 8, 9]]  # up to half of the ten items
    assert split.pretrain.items[0].tolist() == sequence[:-1]  # training is not cut here


def test_test_histories_are_whole_within_bounds(monkeypatch):
    data = make_interactions([list(range(1, 8)), [40, 41, 42]])
    assert own_split(data, 4).test.history.tolist() == [[1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 40, 41]]
    assert own_split(data, 4).finetune_validation.history.tolist() == [[2, 3, 4, 5], [0, 0, 0, 40]]
    monkeypatch.setattr(splits, "ENTRIES", 2 * 5)
    assert own_split(data, 4).test.history.tolist() == [[2, 3, 4, 5, 6], [0, 0, 0, 40, 41]]
    assert own_split(data, 6).test.history.shape == (2, 6)
    assert [users_beyond(data, length) for length in (4, 5, 6)] == [1, 1, 0]


def test_items_that_a_user_met_several_times_are_in_a_test_history_once_but_for_the_latest():
    data = make_interactions([[9, 1, 9, 2, 1, 3, 3, 1, 4, 5], [1, 2, 3]], num_items=20)
    assert own_split(data, 4).test.history.tolist() == [[9, 2, 3, 3, 1, 4], [0, 0, 0, 0, 1, 2]]
    assert own_split(data, 2).test.history.tolist() == [[9, 2, 3, 1, 4], [0, 0, 0, 1, 2]]
    assert users_beyond(data, 2) == 0


def test_the_seed_decides_who_is_where(interactions):
    first, again, other = (split_users(interactions, seed).pretrain.users.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_too_few_users():
    with pytest.raises(UserError, match="1 users with 3 interactions are too few"):
        split_users(make_interactions([[1, 2, 3], [1, 2]]), seed=0)
