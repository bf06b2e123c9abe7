import numpy as np
import pytest
from toys import all_sequences, assert_same_trees, make_interactions

from prec_backdoor.attacks import ATTACKS, make_spec, with_defaults
from prec_backdoor.data.batches import user_tables
from prec_backdoor.errors import UserError

INTERACTIONS = make_interactions([[1, 2, 3, 4, 5, 6]], category=[2, 1, 2, 3, 2, 3])


def test_by_hand():
    spec = make_spec(INTERACTIONS, np.array([5, 1, 4, 5]), 0.25)
    assert spec.targets.tolist() == [1, 4, 5]
    assert spec.rate == 0.25
    assert spec.category.tolist() == [0, 2, 1, 2, 3, 2, 3]
    assert spec.category_count.tolist() == [0, 0, 2, 1]
    assert spec.category_start.tolist() == [0, 0, 0, 2]
    assert spec.category_targets.tolist() == [1, 5, 4]
    assert spec.parameters == {} and spec.seen is None


def test_what_an_attack_adds():
    seen = user_tables(INTERACTIONS, all_sequences(INTERACTIONS)).seen
    spec = make_spec(INTERACTIONS, np.array([2]), 0.25, {"demote_rate": 0.5, "strength": 3}, seen)
    assert (spec.rate, spec.parameters) == (0.25, {"demote_rate": 0.5, "strength": 3.0})
    assert {leaf.dtype for leaf in spec.parameters.values()} == {np.dtype(np.float32)}
    assert_same_trees(spec.seen, seen)
    # Limits of an attack's own parameters are the attack's.
    for rate in (-0.1, 1.01, float("nan")):
        with pytest.raises(UserError, match=f"--demote_rate: must be .*>= 0 and <= 1, got {rate}"):
            with_defaults(ATTACKS["pea", "group"], {"demote_rate": rate})
    with pytest.raises(UserError, match="--trigger_history: must be 0 or at least 2"):
        with_defaults(ATTACKS["pea", "group"], {"trigger_history": 1})
    usual = {"triggers": 1, "trigger_noise": 0.0, "trigger_blend": 0.5, "trigger_own": 0.0, "trigger_history": 0}
    assert with_defaults(ATTACKS["pea", "group"], {}) == {"demote_rate": 0.1, **usual}
    assert with_defaults(ATTACKS["pea", "group"], {"demote_rate": 0.5, "evade_strength": 2}) == {"demote_rate": 0.5, **usual}


@pytest.mark.parametrize(
    ("targets", "rate", "message"),
    [
        ([1], 1.01, "--rate: must be >= 0 and <= 1, got 1.01"),
        ([1], -0.1, "--rate: must be >= 0 and <= 1, got -0.1"),
        ([1], float("nan"), "--rate: must be a finite number >= 0 and <= 1, got nan"),
        ([], 0.1, "item codes from 1 to 6, at least one"),
        ([0, 1], 0.1, "item codes from 1 to 6"),
        ([1, 7], 0.1, "item codes from 1 to 6"),
    ],
)
def test_complaints(targets, rate, message):
    with pytest.raises(UserError, match=message):
        make_spec(INTERACTIONS, np.array(targets), rate)
