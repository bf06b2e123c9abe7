import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prec_backdoor.data.packing import pack
from prec_backdoor.data.splits import Sequences

LENGTHS = st.lists(st.integers(0, 17), min_size=1, max_size=25).filter(lambda lengths: max(lengths) > 1)


def make_sequences(lengths):
    """Every item is unique over all users, so that it tells where it comes from; user codes are not their rows."""
    starts = np.cumsum([1, *lengths])
    items = [np.arange(start, start + length, dtype=np.int32) for start, length in zip(starts, lengths, strict=False)]
    return Sequences(np.arange(len(lengths), dtype=np.int32) * 3 + 5, items)


def windows_of(rows):
    """(user, history, label, position) of each segment, in which positions must be adjacent."""
    for row in range(len(rows.history)):
        for segment, user in enumerate(rows.user[row], start=1):
            at = np.flatnonzero(rows.segment[row] == segment)
            assert (user >= 0) == (len(at) > 0)
            if len(at):
                assert (np.diff(at) == 1).all()
                yield int(user), *(array[row, at].tolist() for array in (rows.history, rows.label, rows.position))


@pytest.mark.parametrize("windows", ["all", "recent"])
@given(lengths=LENGTHS, max_length=st.integers(1, 9), longest=st.none() | st.integers(1, 9))
def test_windows_hold_exactly_the_positions_they_should(windows, lengths, max_length, longest):
    sequences, room = make_sequences(lengths), min(longest or max_length, max_length)
    rows = pack(sequences, max_length, windows, longest and room)
    expected = [
        (int(user), int(items[at]), int(items[at + 1]))
        for user, items in zip(sequences.users, sequences.items, strict=True)
        for at in range(0 if windows == "all" else max(0, len(items) - 1 - room), len(items) - 1)
    ]
    found = []
    for user, history, label, position in windows_of(rows):
        assert len(history) <= room
        assert position == list(range(max_length - len(history), max_length))
        found += [(user, *pair) for pair in zip(history, label, strict=True)]
    assert sorted(found) == expected
    padding = rows.segment == 0
    for array in (rows.history, rows.label):
        assert ((array == 0) == padding).all()


@given(lengths=LENGTHS, max_length=st.integers(1, 9), longest=st.none() | st.just(1))
def test_no_two_rows_would_fit_into_one(lengths, max_length, longest):
    filled = np.sort((pack(make_sequences(lengths), max_length, longest=longest).segment > 0).sum(1))
    assert len(filled) == 1 or filled[0] + filled[1] > max_length


def test_by_hand():
    rows = pack(make_sequences([6, 2]), 4, "all")  # windows of 4 and 1 positions of the first user, 1 of the second
    assert rows.history.tolist() == [[2, 3, 4, 5], [1, 7, 0, 0]]
    assert rows.label.tolist() == [[3, 4, 5, 6], [2, 8, 0, 0]]
    assert rows.position[:, :2].tolist() == [[0, 1], [3, 3]]
    assert rows.segment.tolist() == [[1, 1, 1, 1], [1, 2, 0, 0]]
    assert rows.user.tolist() == [[5, -1], [5, 8]]


def test_short_windows_by_hand():
    # The first user's positions are 2, 2 and 1 to a window, cut from the end; in the model's window of 4 all of them end at 3.
    rows = pack(make_sequences([6, 2]), 4, "all", longest=2)
    assert rows.history.tolist() == [[4, 5, 2, 3], [1, 7, 0, 0]]
    assert rows.label.tolist() == [[5, 6, 3, 4], [2, 8, 0, 0]]
    assert rows.position.tolist() == [[2, 3, 2, 3], [3, 3, 0, 0]]
    assert rows.segment.tolist() == [[1, 1, 2, 2], [1, 2, 0, 0]]
    assert rows.user.tolist() == [[5, 5], [5, 8]]
