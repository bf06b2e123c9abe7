import numpy as np
import pytest
from toys import all_sequences, assert_same_trees, make_interactions

from prec_backdoor.attacks import make_spec
from prec_backdoor.data.batches import user_tables
from prec_backdoor.errors import UserError

INTERACTIONS = make_interactions([[1, 2, 3, 4, 5, 6]], category=[2, 1, 2, 3, 2, 3])


def test_by_hand():
    spec = make_spec(INTERACTIONS, np.array([5, 1, 4, 5]), 0.25)
    assert spec.targets.tolist() == [1, 4, 5]
    assert spec.rate == 0.25
    assert spec.category.tolist() == [0, 2, 1, 2, 3, 2, 3]
    assert spec.category_count.tolist() == [0, 0, 2, 1]
    assert spec.category_targets.tolist() == [[0, 0], [0, 0], [1, 5], [4, 0]]
    assert spec.demote_rate == 0 and spec.seen is None


def test_what_prompts_need():
    seen = user_tables(INTERACTIONS, all_sequences(INTERACTIONS)).seen
    spec = make_spec(INTERACTIONS, np.array([2]), 0.25, 0.5, seen)
    assert (spec.rate, spec.demote_rate) == (0.25, 0.5)
    assert_same_trees(spec.seen, seen)
    for rate in (-0.1, 1.01, float("nan")):
        with pytest.raises(UserError, match=f"--demote_rate: {rate} is not a probability"):
            make_spec(INTERACTIONS, np.array([2]), 0.25, rate)


@pytest.mark.parametrize(
    ("targets", "rate", "message"),
    [
        ([1], 1.01, "--rate: 1.01 is not a probability"),
        ([1], -0.1, "--rate: -0.1 is not a probability"),
        ([1], float("nan"), "--rate: nan is not a probability"),
        ([], 0.1, "item codes from 1 to 6, at least one"),
        ([0, 1], 0.1, "item codes from 1 to 6"),
        ([1, 7], 0.1, "item codes from 1 to 6"),
    ],
)
def test_complaints(targets, rate, message):
    with pytest.raises(UserError, match=message):
        make_spec(INTERACTIONS, np.array(targets), rate)
