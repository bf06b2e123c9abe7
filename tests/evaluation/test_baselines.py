import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_ranking import brute_force

from prec_backdoor.evaluation import popularity_ranks


def test_by_hand():
    counts = np.array([0, 9, 4, 4, 7, 4, 0])
    wanted = np.array([[1, 4, 2, 6]] * 3)
    histories = np.array([[0, 0], [0, 1], [3, 3]])
    assert popularity_ranks(counts, histories, wanted).tolist() == [[1, 2, 4, 6], [1, 1, 3, 5], [1, 2, 3.5, 5]]


@settings(max_examples=80, deadline=None)
@given(
    counts=arrays(np.int64, 9, elements=st.integers(0, 3)),
    histories=arrays(np.int32, (1030, 4), elements=st.integers(0, 8)),  # more users than are compared at the same time
    wanted=arrays(np.int32, (1030, 2), elements=st.integers(1, 8)),
)
def test_equals_brute_force(counts, histories, wanted):
    found = popularity_ranks(counts, histories, wanted)
    for user in (0, 1, 1022, 1023, 1024, 1029):
        assert found[user].tolist() == brute_force(counts, histories[user], wanted[user])
