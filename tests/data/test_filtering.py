from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prec_backdoor.data.filtering import k_core
from prec_backdoor.data.tables import to_interactions
from prec_backdoor.errors import UserError


def make(pairs):
    users, items = zip(*pairs, strict=True)
    columns = {"user": users, "item": items, "time": range(len(pairs))}
    return to_interactions("d", pl.DataFrame(columns, schema_overrides={"user": pl.String, "item": pl.String}))


def brute_force(pairs, k):
    while True:
        users, items = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        kept = [(user, item) for user, item in pairs if users[user] >= k and items[item] >= k]
        if len(kept) == len(pairs):
            return kept
        pairs = kept


PAIRS = st.lists(st.tuples(st.sampled_from("123456"), st.sampled_from("abcdef")), min_size=1, max_size=60)


@given(PAIRS, st.integers(1, 4))
def test_equals_brute_force(pairs, k):
    expected = brute_force(pairs, k)
    if not expected:
        with pytest.raises(UserError, match="lower --k_core"):
            k_core(make(pairs), k)
        return
    filtered = k_core(make(pairs), k)
    found = [
        (str(filtered.user_ids[user]), str(filtered.item_ids[item]))
        for user in range(filtered.num_users)
        for item in filtered.sequence(user)
    ]
    assert found == sorted(expected, key=lambda pair: pair[0])


def test_a_chain_that_unravels():
    # Each removal makes the next one fall below two.
    pairs = [("1", "a"), ("1", "b"), ("2", "b"), ("2", "c"), ("3", "c")]
    with pytest.raises(UserError):
        k_core(make(pairs), 2)
