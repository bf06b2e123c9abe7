import dataclasses

import numpy as np
import pytest
from toys import make_interactions

from prec_backdoor.attacks import select_targets
from prec_backdoor.attacks.targets import check_ids
from prec_backdoor.data.filtering import k_core
from prec_backdoor.errors import UserError

#         item       1   2   3   4   5   6  7  8  9  10
COUNTS = np.array([0, 4, 5, 20, 21, 12, 99, 0, 7, 1, 60])
CATEGORY = [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]


@pytest.fixture
def interactions():
    return make_interactions([list(range(1, 11))], category=CATEGORY)


def drawn(expression, interactions, seeds=60):
    """Every item that any of the seeds selects, and the size of each selection."""
    picks = [select_targets(expression, interactions, COUNTS, seed) for seed in range(seeds)]
    for pick in picks:
        assert (np.diff(pick) > 0).all()
    return set(np.concatenate(picks).tolist()), {len(pick) for pick in picks}


@pytest.mark.parametrize(
    ("number", "items"),
    [
        (2, {2, 3, 5, 8}),  # 5 to 20 interactions, both ends included
        (4, {2, 3, 5, 8}),
        (5, {1, 2, 3, 4, 5, 8}),  # the nearest band that holds five is 4 to 21
        (7, {1, 2, 3, 4, 5, 8, 9}),  # 1 to 24
        (9, {1, 2, 3, 4, 5, 7, 8, 9, 10}),  # 0 to 60
    ],
)
def test_unpopular(number, items, interactions):
    assert drawn(f"unpopular:{number}", interactions) == (items, {number})


def test_per_category(interactions):
    assert drawn("per_category:1", interactions) == ({2, 3, 5, 8, 9}, {3})  # of the third category item 9 is nearest
    assert drawn("per_category:2", interactions) == ({2, 3, 5, 8}, {4})  # of the third category all would be targets
    assert drawn("per_category:3", interactions) == ({1, 2, 3, 4, 5, 7, 8}, {6})  # the third category is too small


@pytest.mark.parametrize(
    ("expression", "items"),
    [
        ("popular:1", {6}),  # from the 90 % quantile on, 63.9 interactions
        ("popular:2", {6, 10}),
        ("middling:2", {5, 8}),  # 7.25 to 11.75 interactions, which 7 and 12 are equally near
        ("middling:3", {2, 5, 8}),
    ],
)
def test_bands_are_quantiles_of_all_items(expression, items, interactions):
    assert drawn(expression, interactions) == (items, {int(expression[-1])})


def test_the_nearest_band_against_sorting():
    rng = np.random.default_rng(0)
    counts = np.append(0, rng.integers(0, 300, 200))
    interactions = make_interactions([list(range(1, 201))])
    distance = np.maximum(0, np.maximum(5 - counts, counts - 20))[1:]
    for number in (1, 2, 20, 37, 150):
        reach = np.sort(distance)[number - 1]
        found = {item for seed in range(200) for item in select_targets(f"unpopular:{number}", interactions, counts, seed)}
        assert found == set((1 + np.flatnonzero(distance <= reach)).tolist())


def test_items_of_unknown_category_are_no_category():
    interactions = make_interactions([[1, 2, 3, 4]], category=[0, 0, 1, 1])
    counts = np.full(5, 10)
    assert set(select_targets("per_category:1", interactions, counts, 0).tolist()) <= {3, 4}


def test_ids_are_raw_ids(interactions):
    assert select_targets("ids:i7, i2,i7", interactions, COUNTS, seed=0).tolist() == [2, 7]


def test_an_item_that_the_filter_leaves_out_is_told_from_one_that_is_not_there():
    data = make_interactions([[1, 2, 3], [1, 2, 4], [1, 2, 3]])
    filtered = k_core(data, 2)
    for expression in ("ids:i1,i3", "ids:i9", "unpopular:2"):
        check_ids(expression, data, filtered, 2)
    with pytest.raises(UserError, match=r"toy has these items, .* --k_core=2; they are left out: i4 \(1\); take items with more"):
        check_ids("ids:i1, i4,i9", data, filtered, 2)
    with pytest.raises(UserError, match="toy has no item with id i9; "):
        select_targets("ids:i1,i9", filtered, COUNTS, seed=0)


def test_raw_ids_may_hold_a_colon(interactions):
    ids = np.array(["", "a:1", *interactions.item_ids[2:]])
    found = select_targets("ids:a:1,i3", dataclasses.replace(interactions, item_ids=ids), COUNTS, seed=0)
    assert found.tolist() == [1, 3] and found.dtype == np.int32


def test_draws_stay_the_same_from_version_to_version(interactions):
    """The first draw of a seed is that of earlier versions, which had no others."""
    picks = [select_targets("per_category:1", interactions, COUNTS, 7, draw) for draw in (0, 1, 2)]
    assert [pick.tolist() for pick in picks] == [[3, 8, 9], [2, 8, 9], [3, 8, 9]]
    assert {pick.dtype for pick in picks} == {np.dtype(np.int32)}


def test_the_seed_decides(interactions):
    picks = [select_targets("unpopular:2", interactions, COUNTS, seed).tolist() for seed in (0, 0, *range(1, 9))]
    assert picks[0] == picks[1]
    assert any(pick != picks[0] for pick in picks)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("best:3", "'best:3' is none of unpopular:N, per_category:N, popular:N, middling:N, ids:A,B"),
        ("unpopular", "is none of"),
        ("unpopular:0", "is none of"),
        ("unpopular:-2", "is none of"),
        ("per_category:two", "is none of"),
        ("unpopular:10", "too few items for unpopular:10"),
        ("per_category:4", "too few items for per_category:4"),
        ("ids:i3,i11,x", "toy has no item with id i11, x"),
        ("ids:", "no item with id"),
    ],
)
def test_complaints(expression, message, interactions):
    with pytest.raises(UserError, match=message):
        select_targets(expression, interactions, COUNTS, seed=0)
