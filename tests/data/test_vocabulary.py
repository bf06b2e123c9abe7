import json

import pytest
from toys import random_interactions

from prec_backdoor.data.vocabulary import MAX_TEXT, MAX_VALUES, Vocabulary, parse_vocabulary, vocabulary_of
from prec_backdoor.errors import UserError

FULL = Vocabulary(
    items=("i1", "007", "a,b"),
    titles=("One", "", "Drei ü"),
    category=(1, 0, 1),
    categories=("unknown", "Drama"),
    attributes={"age": ("unknown", "20-29"), "job": ("unknown", "cook", "none")},
)


def content(**changes):
    return json.loads(json.dumps(FULL.as_json())) | changes


@pytest.mark.parametrize("vocabulary", [FULL, Vocabulary(("x",)), FULL._replace(titles=(), category=(), attributes={})])
def test_round_trip(vocabulary):
    found = parse_vocabulary(json.loads(json.dumps(vocabulary.as_json())), len(vocabulary.items))
    assert found == vocabulary
    assert found.hash() == vocabulary.hash()


def test_the_hash_is_of_everything():
    others = [
        FULL._replace(items=("i1", "7", "a,b")),
        FULL._replace(titles=()),
        FULL._replace(category=(1, 1, 1)),
        FULL._replace(categories=("unknown", "War")),
        FULL._replace(attributes={"age": ("unknown", "30-39")}),
    ]
    assert len({vocabulary.hash() for vocabulary in (FULL, *others)}) == len(others) + 1


def test_that_of_a_dataset():
    attributes = {"gender": ("F", "M")}
    data = random_interactions(9, 5, (3, 5), attributes=attributes, profile=[[1]] * 9, category=[1, 2, 1, 2, 2])
    found = vocabulary_of(data)
    assert found == Vocabulary(
        ("i1", "i2", "i3", "i4", "i5"), (), (1, 2, 1, 2, 2), ("unknown", "c1", "c2"), {"gender": ("unknown", "F", "M")}
    )
    assert parse_vocabulary(json.loads(json.dumps(found.as_json())), data.num_items) == found


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (None, "needs the entries items, titles, category, categories, attributes"),
        ([], "needs the entries"),
        (content(extra=1), "needs the entries"),
        ({name: value for name, value in content().items() if name != "titles"}, "needs the entries"),
        (content(items=["a", "b"]), "needs 3 different ids of items, has 2 in 2 rows"),
        (content(items=["a", "b", "a"]), "needs 3 different ids of items, has 2 in 3 rows"),
        (content(items=["a", "b", ""]), "needs 3 different ids"),
        (content(items=["a", "b", "b\0"]), "items are not all texts of at most 1000 characters, without NUL"),
        (content(items=["a", "b", "c" * (MAX_TEXT + 1)]), "items are not all texts"),
        (content(items=["a", "b", 3]), "items are not all texts"),
        (content(items=list("abcd")), "items are no list of at most 3 entries"),
        (content(items={"a": 1}), "items are no list"),
        (content(titles=["One"]), "titles or names of categories are missing"),
        (content(titles="One"), "titles are no list"),
        (content(titles=[None] * 3), "titles are not all texts"),
        (content(categories=[]), "titles or names of categories are missing"),
        (content(categories=["Drama", "unknown"]), "'categories' are not different values after 'unknown'"),
        (content(categories=["unknown", "Drama", "Drama"]), "'categories' are not different values"),
        (content(category=[1, 0]), "needs a category for each of the 3 items, or for none"),
        (content(category="101"), "needs a category for each"),
        (content(category=[1, 0, 2]), "an item has a category without a name"),
        (content(category=[1, 0, -1]), "an item has a category without a name"),
        (content(category=[1, 0, True]), "an item has a category without a name"),
        (content(category=[1, 0, 1.0]), "an item has a category without a name"),
        (content(attributes=[]), "attributes are no mapping of names to values"),
        (content(attributes={str(name): ["unknown"] for name in range(257)}), "attributes are no mapping"),
        (content(attributes={"user_id": ["unknown"]}), "attributes are no mapping"),
        (content(attributes={"": ["unknown"]}), "an attribute has no name"),
        (content(attributes={"a\0": ["unknown"]}), "an attribute has no name, or an odd one"),
        (content(attributes={"a" * (MAX_TEXT + 1): ["unknown"]}), "an attribute has no name"),
        (content(attributes={"age": []}), "'age' are not different values after 'unknown'"),
        (content(attributes={"age": ["20-29"]}), "'age' are not different values after 'unknown'"),
        (content(attributes={"age": ["unknown", "x", "x"]}), "'age' are not different values"),
        (content(attributes={"age": ["unknown", {}]}), "values of 'age' are not all texts"),
        (content(attributes={"age": [""] * (MAX_VALUES + 1)}), "values of 'age' are no list of at most 1000000 entries"),
    ],
)
def test_hostile_contents_are_refused(hostile, message):
    with pytest.raises(UserError, match=f"vocabulary: {message}"):
        parse_vocabulary(hostile, 3)
