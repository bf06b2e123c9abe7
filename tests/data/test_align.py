import dataclasses
from collections import Counter

import numpy as np
import pytest
from toys import make_interactions

from prec_backdoor.data.align import align
from prec_backdoor.data.interactions import UNKNOWN
from prec_backdoor.data.vocabulary import Vocabulary
from prec_backdoor.errors import UserError

VALUES = {"gender": ("F", "M"), "age": ("10-19", "20-29"), "city": ("A", "B")}


def random_pair(seed):
    """A company's interactions, with unused items, and a vocabulary that shares some items, attributes and values with it."""
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.permutation(40)]
    own, theirs = names[:20], rng.permutation(names[8:36]).tolist()
    attributes = {name: VALUES[name] for name in rng.permutation(list(VALUES))[: rng.integers(0, 4)]}
    profile = rng.integers(0, 3, (15, len(attributes))).tolist()
    data = make_interactions(
        [rng.integers(1, 19, rng.integers(1, 6)) for _ in range(15)],
        20,
        attributes=attributes,
        profile=profile if attributes else None,
        category=rng.integers(0, 3, 20).tolist(),
    )
    titles = np.array(["", *(f"own {name}" for name in own)])
    data = dataclasses.replace(data, item_ids=np.array(["", *own]), titles=titles)
    values = {"age": (UNKNOWN, "20-29", "30-39", "10-19"), "gender": (UNKNOWN, "M", "F", "X")}
    rich = bool(rng.integers(2))
    vocabulary = Vocabulary(
        items=tuple(theirs),
        titles=tuple(f"own {name}" if rng.integers(4) else "" for name in theirs) if rng.integers(2) else (),
        category=tuple(rng.integers(0, 2, len(theirs)).tolist()) if rich else (),
        categories=(UNKNOWN, "theirs") if rich else (UNKNOWN,),
        attributes=values if rng.integers(2) else {},
    )
    return data, vocabulary


def named(data, user):
    """A user's sequence and profile by name."""
    profile = {
        name: values[code] for (name, values), code in zip(data.attributes.items(), data.profile[user].tolist(), strict=True)
    }
    return data.item_ids[data.sequence(user)].tolist(), profile


@pytest.mark.parametrize("seed", range(25))
def test_against_a_loop_over_names(seed):
    data, vocabulary = random_pair(seed)
    found = align(data, vocabulary, least_known=0.0)
    aligned, expected, lost = found.interactions, {}, Counter()
    for user in range(data.num_users):
        items, profile = named(data, user)
        known = [item for item in items if item in vocabulary.items]
        wanted = {
            name: profile[name] if profile.get(name) in values else UNKNOWN for name, values in vocabulary.attributes.items()
        }
        if known:
            expected[data.user_ids[user]] = known, wanted
            lost.update(name for name in wanted if wanted[name] == UNKNOWN != profile.get(name, UNKNOWN))
    assert {aligned.user_ids[user]: named(aligned, user) for user in range(aligned.num_users)} == expected
    assert aligned.item_ids.tolist() == ["", *vocabulary.items]
    assert dict(aligned.attributes) == vocabulary.attributes
    own = {raw: code for code, raw in enumerate(data.item_ids.tolist()) if code}
    for code, raw in enumerate(vocabulary.items, 1):
        mine = own.get(raw, 0)
        assert aligned.titles[code] == (vocabulary.titles[code - 1] if vocabulary.titles else data.titles[mine])
        theirs = "theirs" if vocabulary.category and vocabulary.category[code - 1] else UNKNOWN
        wanted = theirs if vocabulary.category else data.categories[data.category[mine] if mine else 0]
        assert aligned.categories[aligned.category[code]] == wanted
    used = {item for user in range(data.num_users) for item in named(data, user)[0]}
    assert (found.items, found.known_items) == (len(used), len(used & set(vocabulary.items)))
    assert (found.rows, found.known_rows) == (len(data.items), len(aligned.items))
    assert set(found.attributes) == set(vocabulary.attributes) & set(data.attributes)
    assert found.lost == lost and all(f"{name}: {lost[name]} users have a value" in found.describe() for name in lost)


def test_users_without_known_items_are_left_out_and_said():
    data = make_interactions([[1, 2, 3], [3, 4], [4]], 4)
    found = align(data, Vocabulary(("i3", "i1"), attributes={"job": (UNKNOWN, "cook")}), least_known=0.5)
    assert found.interactions.user_ids.tolist() == ["u0", "u1"]
    assert [found.interactions.sequence(user).tolist() for user in (0, 1)] == [[2, 1], [1]]
    assert found.interactions.profile.tolist() == [[0], [0]]
    text = found.describe()
    assert "2 of 4 items (50%), 3 of 6 interactions; 3 are left out" in text and "job: your users have no such attribute" in text


def test_a_given_split_goes_along():
    data = dataclasses.replace(make_interactions([[1, 2, 3]], 3), split=np.array([2, 3, 4], np.int8))
    assert align(data, Vocabulary(("i3", "i1"))).interactions.split.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("known", "least", "passes"), [(1, 0.5, True), (1, 0.51, False), (2, 0.75, True), (2, 0.76, False), (0, 0.0, False)]
)
def test_least_known_is_a_share_of_the_interactions(known, least, passes):
    data = make_interactions([[1, 2], [1, 3]], 3)
    vocabulary, known = Vocabulary(("x", *(f"i{item}" for item in range(1, known + 1)))), (0, 2, 3)[known]
    if passes:
        assert align(data, vocabulary, least).known_rows == known
        return
    with pytest.raises(UserError, match=f"--least_known: the model knows {known} of 4 interactions") as error:
        align(data, vocabulary, least)
    unknown = {0: "i1", 2: "i2", 3: "i3"}[known]
    assert f"its ids are like 'x', yours like '{unknown}'" in str(error.value)


def test_equal_ids_of_another_catalogue():
    data = make_interactions([[1, 2, 3]], 3)
    data = dataclasses.replace(data, titles=np.array(["", "Alien", "Brazil", ""]))
    assert align(data, Vocabulary(("i1", "i2", "i3"), ("ALIEN ", "Heat", "x"))).known_rows == 3
    with pytest.raises(UserError, match="2 of 2 titles differ, such as 'Alien', which the checkpoint calls 'Heat'"):
        align(data, Vocabulary(("i1", "i2", "i3"), ("Heat", "Ran", "x")))


@pytest.mark.parametrize(
    ("own", "theirs", "alike"),
    [
        ("Toy Story (1995)", "Toy Story", True),
        ("Godfather, The (1972)", "The Godfather", True),
        ("The Matrix", "The Godfather", False),
        ("Heat (1995)", "Casino (1995)", False),
        ("千と千尋", "千と千尋", True),
        ("!!!", "!!! ", True),
        ("Shirt size 10 blue", "Shirt size 60 blue", False),
        ("Widget (10)", "Widget (60)", False),
        ("It", "It Happened One Night", False),
        ("!!!", "???", False),
    ],
)
def test_titles_of_one_item_may_be_written_in_several_ways(own, theirs, alike):
    data = dataclasses.replace(make_interactions([[1, 1, 1]], 1), titles=np.array(["", own]))
    if alike:
        assert align(data, Vocabulary(("i1",), (theirs,))).known_rows == 3
    else:
        with pytest.raises(UserError, match="a catalogue without titles"):
            align(data, Vocabulary(("i1",), (theirs,)))
