import numpy as np
import pytest

from prec_backdoor.evaluation import accuracy, cutoffs, exposure, lift, unseen
from prec_backdoor.evaluation.metrics import auc

RANKS = np.array([1, 3, 10.5, 7])
HISTORIES = np.array([[0, 0, 4], [0, 2, 2], [1, 2, 3], [0, 0, 0]])  # 1, 1, 3 and no different items


def log_gain(rank):
    return 1 / np.log2(rank + 1)


def test_accuracy_by_hand():
    found = accuracy(RANKS, HISTORIES, num_items=24)
    assert found == pytest.approx(
        {
            "hr@5": 2 / 4,
            "hr@10": 3 / 4,
            "hr@20": 1,
            "ndcg@5": (1 + 1 / 2) / 4,
            "ndcg@10": (1 + 1 / 2 + 1 / 3) / 4,
            "ndcg@20": (1 + 1 / 2 + 1 / 3 + log_gain(10.5)) / 4,
            "mrr": (1 + 1 / 3 + 1 / 10.5 + 1 / 7) / 4,
            "auc": (1 + (1 - 2 / 22) + (1 - 9.5 / 20) + (1 - 6 / 23)) / 4,
        }
    )
    assert all(type(value) is float for value in found.values())


def test_exposure_is_over_pairs_that_the_user_has_not_seen():
    targets = np.array([2, 7])
    ranks = np.array([[1, 12], [1, 6], [1, 20], [5, 21]])  # item 2 is in the second and third histories
    assert unseen(HISTORIES, targets).tolist() == [[True, True], [False, True], [False, True], [True, True]]
    found = exposure(ranks, HISTORIES, targets, num_items=24)
    pairs = [1, 12, 6, 20, 5, 21]
    assert found == pytest.approx(
        {
            "exposure_hr@5": 2 / 6,
            "exposure_hr@10": 3 / 6,
            "exposure_hr@20": 5 / 6,
            "exposure_ndcg@5": (1 + log_gain(5)) / 6,
            "exposure_ndcg@10": (1 + log_gain(5) + log_gain(6)) / 6,
            "exposure_ndcg@20": sum(log_gain(rank) for rank in pairs if rank <= 20) / 6,
            "exposure_auc": 1 - (0 / 22 + 11 / 22 + 5 / 22 + 19 / 20 + 4 / 23 + 20 / 23) / 6,
        }
    )


def test_lift_adds_one():
    attacked, clean = np.array([[1, 4], [2, 50]]), np.array([[60, 3], [9, 30]])
    everything = np.ones((2, 2), bool)
    assert lift(attacked, clean, everything, (5, 10, 20)) == {"lift@5": 4 / 2, "lift@10": 4 / 3, "lift@20": 4 / 3}
    some = np.array([[True, False], [True, True]])
    assert lift(attacked, clean, some, (5, 20)) == {"lift@5": 3 / 1, "lift@20": 3 / 2}


def test_a_rank_of_k_is_within_the_first_k():
    attacked, clean = np.array([[5, 6, 10, 11]]), np.array([[5, 5, 10, 10]])
    assert lift(attacked, clean, np.ones((1, 4), bool), (5, 10)) == {"lift@5": 2 / 3, "lift@10": 4 / 5}


def test_an_item_that_competes_with_one_other_or_with_none():
    assert auc(np.array([1.0, 2.0, 1.5]), np.array([2, 2, 2])) == pytest.approx((1 + 0 + 0.5) / 3)
    assert auc(np.array([1.0]), np.array([1])) == 1


def test_cutoffs_are_those_below_the_catalogue_size():
    assert cutoffs(1001) == (5, 10, 20, 50, 100, 1000)
    assert cutoffs(1000) == (5, 10, 20, 50, 100)
    assert cutoffs(5) == ()


@pytest.mark.parametrize(("num_items", "kept"), [(51, (5, 10, 20)), (61, (5, 10, 20)), (62, (5, 10, 20, 50))])
def test_cutoffs_that_no_model_can_miss_are_left_out(num_items, kept):
    longest = 11
    assert cutoffs(num_items, longest) == kept
    history = np.arange(1, longest + 1)[None]
    found = accuracy(np.array([num_items - longest]), history, num_items)  # last of all items that compete
    assert {name: value for name, value in found.items() if name.startswith("hr")} == {f"hr@{k}": 0 for k in kept}
    shown = exposure(np.array([[num_items - longest]]), history, np.array([num_items]), num_items)
    assert {name: value for name, value in shown.items() if "_hr@" in name} == {f"exposure_hr@{k}": 0 for k in kept}
