"""What is said beside the verdict: worth, rounded weights, versions; and the answer in words."""

import json

import numpy as np
import pytest

from prec_backdoor.audit import answer, variants, worth
from prec_backdoor.audit.calibration import ObservedModel
from prec_backdoor.audit.reading import read_audit
from prec_backdoor.audit.versions import compare_versions
from prec_backdoor.errors import UserError

ITEMS = 40


def test_rounding_keeps_what_the_format_keeps():
    values = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
    half = variants.in_bfloat16(values)
    assert half.dtype == np.float32 and 0 < np.abs(half / values - 1).max() <= 2**-8
    whole = variants.in_int8(values)
    step = np.abs(values).max(1, keepdims=True) / 127
    assert np.abs(whole - values).max() <= step.max() / 2 * 1.001 and len(np.unique(np.round(whole[0] / step[0]))) <= 255
    np.testing.assert_array_equal(variants.in_int8(values[0]), values[0])  # vectors stay
    np.testing.assert_array_equal(variants.in_int8(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_skew_is_the_share_of_the_most_shown_hundredth():
    shown = np.r_[9.0, np.full(200, 0.1)]  # the first is padding
    assert worth.skew(shown) == pytest.approx(2 / 200)
    shown[5], shown[9] = 10.0, 5.0
    assert worth.skew(shown) == pytest.approx(15 / (15 + 19.8))


@pytest.mark.parametrize("progress", [None, {}, {"best_score": "good"}, {"best_score": 7.0}])
def test_a_claim_that_cannot_be_is_none(progress):
    assert worth.claimed({"progress": progress}) == {}
    assert worth.claimed({"progress": {"best_score": 0.2}}) == {"ndcg@10": 0.2}


def model_of(seed, items=ITEMS, raised=None, lowered=None):
    rng = np.random.default_rng(seed)
    scores, shown = rng.normal(size=items), rng.random(items + 1)
    if raised is not None:
        scores[raised - 1] += 20
    if lowered is not None:
        scores[lowered - 1] -= 20
    return ObservedModel({}, {"exposure": scores}, None, shown)


def test_what_moved_is_matched_by_raw_id_and_held_against_retraining():
    ids = np.array(["", *map(str, range(ITEMS))])
    fewer = np.array(["", *map(str, range(ITEMS - 1, 4, -1)), "another"])  # other order, five less, one more
    new, old = model_of(0, raised=30, lowered=20), model_of(1, len(fewer) - 1)
    found = compare_versions(new, old, (ids, fewer), [model_of(2), model_of(3), model_of(4)])
    assert (found["items"], found["only_new"], found["only_old"]) == (ITEMS - 5, 5, 1)
    assert found["moved_up"][0]["item"] == "29" and found["beyond_retraining"] == 1
    expected = new.scores["exposure"][29] - old.scores["exposure"][fewer.tolist().index("29") - 1]
    assert found["moved_up"][0]["moved"] == pytest.approx(expected)
    assert len(found["lists_changed_by_retraining"]) == 1 and 0 < found["lists_changed"] < 1
    same = compare_versions(new, new, (ids, ids), [model_of(2)])  # a single clean model shows nothing of retraining
    assert same["lists_changed"] == 0 and same["beyond_retraining"] is None and same["moved_up"] == []
    with pytest.raises(UserError, match="--baseline: no item"):
        compare_versions(new, old, (ids, np.array(["", "x"])), [])


def content(verdict, models=19, extreme=0, flagged=3, level=0.05, **more):
    least = 1 / (models + 1)
    model = {
        "clean_models": models,
        "as_extreme": extreme,
        "level": level,
        "least_p_value": least,
        "p_value": (1 + extreme) * least,
    }
    given = {"verdict": verdict, "model": model, "flagged": flagged, "items": [{}] * 1500, "users": 377, "power": None}
    given |= {"last_items": [{"p_value": 0.3}], "group": None, "groups_narrowed": True}
    return given | {"groups": [{}], "groups_likely": [], "group_p_value": 0.5} | more


def test_the_verdict_in_a_sentence_and_what_it_rests_on():
    suspicious = answer.answer(content("suspicious"))
    assert suspicious.headline == "Suspicious" and "3 items of 1,500 stand out by themselves." in suspicious.verdict
    assert "none of them is as unusual" in suspicious.basis and "at most 5 of 100" in suspicious.basis
    assert "no item stands out" in answer.answer(content("suspicious", flagged=0)).verdict
    assert "trigger" not in suspicious.verdict
    assert "There is a trigger: " in answer.answer(content("suspicious", last_items=[{"p_value": 1e-5}])).verdict
    assert answer.answer(content("suspicious", unseen="3 of 9 unseen.")).basis == f"{suspicious.basis} 3 of 9 unseen."
    clean = answer.answer(content("clean", extreme=6))
    assert clean.headline == "Clean so far" and "6 of them are" in clean.basis and "about 35 of 100" in clean.basis
    unsure = answer.answer(content("cannot say", models=2))
    assert unsure.headline == "Cannot say" and "in up to 33.3 of 100 cases" in unsure.basis
    assert "flagged" not in " ".join((*suspicious, *clean, *unsure))


def test_power_in_a_sentence():
    attacks = [{"found": True}] * 10 + [{"found": False}] * 2
    power = {"attacks": attacks, "found": 10, "exposure": 1 / 40, "interval": [1 / 900, 1 / 40]}
    said = answer.answer(content("clean", power=power)).power
    assert "With your 377 users" in said and "one user in 40 " in said and "one user in 900" in said and "found 10" in said
    assert "cannot be said" in answer.answer(content("clean", power=power | {"exposure": None})).power
    assert "--power_models" in answer.answer(content("clean")).power
    assert "That says little" not in answer.answer(content("clean", power=power)).verdict
    blind = answer.answer(content("clean", models=2, power=power | {"found": 0}))
    assert "That says little" in blind.verdict and "found none." in blind.power


def test_a_group_is_named_only_if_it_is_the_only_one():
    likely = ["a=b", "c=d"]
    given = ({"group": "a=b"}, {"groups_likely": likely}, {"groups_likely": likely, "groups_narrowed": False}, {})
    said = [answer.group(content("suspicious", **{"groups_likely": ["a=b"]} | each)) for each in given]
    assert (
        "shown to a=b more" in said[0]
        and "one of 2 with 90 % confidence: a=b, c=d" in said[1]
        and "cannot be narrowed" in said[2]
        and "it is a=b with 90 % confidence; that any is may be chance" in said[3]
    )
    assert "No group was looked for" in answer.group(content("suspicious", groups=[]))


def test_a_repair_takes_the_most_unusual_items_where_none_is_unusual_by_itself():
    """The command of the repair is printed, and without a suspect it would end in an error."""
    assert answer.repair_level(np.array([0.5, 0.01, 0.9])) == 0.01
    few = np.array([0.9, 0.021, 0.5, 0.03, 0.0471, 0.06, 0.0699])
    assert answer.repair_level(few) == 0.07 and answer.repair_level(few[:2]) == 0.901
    assert answer.repair_level(np.append(few, 0.0412)) == 0.061  # it is above 0.06 for certain, whatever is rounded
    assert answer.repair_level(np.ones(9)) == 1


def test_ranges_that_are_one_number():
    own = {"hr@10": 0.1, "popularity": 0.1, "own_models": 0.1, "users": 9, "gain": {"mean": 0.0, "error": 0.1}, "claimed": None}
    said = [
        answer.worth({"worth": own | {"skew": {"checkpoint": 0.02, "own_models": each}}})[-1] for each in ([0.02], [0.021, 0.02])
    ]
    assert said[0].endswith("in your own model 2 %.") and said[1].endswith("in your own models 2 %.")
    assert answer.worth({"worth": own | {"skew": {"checkpoint": 0.02, "own_models": [0.04, 0.02]}}})[-1].endswith(
        "models 2 to 4 %."
    )
    versions = {"lists_changed": 0.1, "beyond_retraining": 1}
    said = [answer.moved({"baseline": versions | {"lists_changed_by_retraining": each}}) for each in ([], [0.2], [0.3, 0.2])]
    assert said[0].endswith("to other items.") and "alone changes 20 %. 1 item moved" in said[1] and "20 to 30 %" in said[2]


def test_a_chance_as_a_share():
    assert [answer.one_in(chance) for chance in (0.5, 1 / 1200, 1e-9)] == ["1 in 2", "1 in 1,200", "fewer than 1 in a million"]


@pytest.mark.parametrize("schema", [1, 2])
def test_files_of_both_schemas_are_read(schema, tmp_path):
    items = [{"item": "a", "p_value": 0.1, "flagged": True}, {"item": "b", "p_value": 1 + 1e-15, "flagged": False}]
    (tmp_path / "audit.json").write_text(json.dumps({"schema": schema, "about": {"hash": "h"}, "items": items}))
    found = read_audit(tmp_path, "h")
    assert found.flagged == {"a"} and found.p_value == {"a": 0.1, "b": 1} and found.last_items == () and found.verdict == ""


def test_files_of_other_schemas_are_refused(tmp_path):
    (tmp_path / "audit.json").write_text(json.dumps({"schema": 3, "about": {"hash": "h"}, "items": []}))
    with pytest.raises(UserError, match="schema 3, this program reads 1 and 2"):
        read_audit(tmp_path, "h")
