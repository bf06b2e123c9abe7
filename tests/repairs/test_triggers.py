"""What a repair's page says of triggers: read from an audit, measured as the experiments measure them."""

import dataclasses
import json

import numpy as np
import pytest
from test_repairs import CONFIG, INTERACTIONS
from toys import lively_params

from prec_backdoor.audit.reading import LISTED
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.measure import measure, result_rows
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.repairs import registry
from prec_backdoor.repairs.choice import Choice, Trigger, choose_suspects, no_suspects
from prec_backdoor.repairs.outcome import measure_outcome
from prec_backdoor.repairs.registry import REPAIRS, WITHOUT_SUSPECTS, register_repair


@pytest.fixture(scope="module")
def setup():
    scenario = dataclasses.replace(CONFIG.scenario, attack="trigger", scope="global", parameters={"trigger_length": 1})
    return make_setup(INTERACTIONS, dataclasses.replace(CONFIG, scenario=scenario), 0)


def choice_of(*triggers):
    return Choice(np.array([5, 17]), np.ones(2, bool), np.zeros(2), 0.01, 60, "suspicious", triggers)


def test_a_trigger_is_measured_as_in_an_experiment(setup):
    before, after = (lively_params(setup.model, seed) for seed in (0, 1))
    (found,) = measure_outcome(setup, before, after, choice_of(Trigger(int(setup.trigger[0]), setup.targets)))["triggers"]
    assert found["item"] == str(INTERACTIONS.item_ids[setup.trigger[0]])
    assert [each["item"] for each in found["shown"]] == INTERACTIONS.item_ids[setup.targets].tolist()
    for when, params in (("before", before), ("after", after)):
        row = next(result_rows(setup, {}, measure(setup, params), None))
        assert found["with"][when] == pytest.approx(row["exposure_triggered_hr@10"])
        assert found["without"][when] == pytest.approx(row["exposure_hr@10"])
    assert found["with"]["difference"] == pytest.approx(found["with"]["after"] - found["with"]["before"])


@pytest.mark.parametrize(("left", "works"), [(0.0, False), (0.05, False), (0.1, True), (1.0, True)])
def test_a_trigger_works_while_more_than_a_twentieth_of_its_effect_is_left(setup, monkeypatch, left, works):
    users, ranks = len(setup.test.users), {"before": np.full((len(setup.test.users), 1), 1.0)}
    monkeypatch.setattr("prec_backdoor.repairs.outcome.unseen", lambda history, items: np.ones((users, len(items)), bool))
    plain = measure(setup, lively_params(setup.model))
    monkeypatch.setattr(
        "prec_backdoor.repairs.outcome.measure", lambda own, _: plain._replace(targets=np.full((users, len(own.targets)), 50.0))
    )
    ranks["after"] = np.where(np.arange(users) < round(left * users), 1.0, 50.0)[:, None]
    monkeypatch.setattr(
        "prec_backdoor.repairs.outcome.target_ranks",
        lambda own, which: ranks[which] if (own.test.history[:, -1] == 3).all() else np.full((users, 1), 50.0),
    )
    (found,) = measure_outcome(setup, "before", "after", choice_of(Trigger(3, np.array([4]))))["triggers"]
    assert found["works"] == works and found["with"]["after"] == pytest.approx(left)  # of 20 users


def test_without_suspects_only_accuracy_is_measured(setup):
    params = lively_params(setup.model)
    found = measure_outcome(setup, params, params, no_suspects(0.01))
    assert found["exposure"] == {} and found["suspects"] == found["triggers"] == []
    assert found["accuracy"]["hr@10"]["difference"] == 0 and found["users"] == len(setup.test.users)


IDS = INTERACTIONS.item_ids.tolist()
ITEMS = [{"item": raw, "p_value": 0.001 if code in (4, 6) else 0.5, "flagged": False} for code, raw in enumerate(IDS) if code]


def chosen(folder, level=0.01, text=None, **content):
    content = {"schema": 2, "about": {"hash": "a"}, "items": ITEMS, **content}
    (folder / "audit.json").write_text(json.dumps(content) if text is None else text)
    return choose_suspects(folder, INTERACTIONS, "a", level)


def test_triggers_are_read_within_bounds(tmp_path):
    def read(*last_items, level=0.01):
        found = chosen(tmp_path, level, last_items=last_items).triggers
        return [(each.item, each.shown.tolist()) for each in found]

    strong = {"item": IDS[3], "p_value": 0.001, "shown": [IDS[4], IDS[3], "unknown", IDS[6], IDS[4]]}
    assert read() == [] and read(strong) == [(3, [4, 6])] and chosen(tmp_path).triggers == ()
    weak, odd = strong | {"p_value": 0.02}, [strong | changed for changed in ({"item": "?"}, {"shown": ["?"]})]
    assert read(weak, *odd) == [] and read(weak, level=0.05) == [(3, [4, 6])]
    many = strong | {"shown": IDS[10:40]}
    assert read(*[many] * 99) == [(3, list(range(10, 20)))]  # each item counts once
    assert read(*[many | {"item": raw} for raw in IDS[40:]]) == [(code, list(range(10, 20))) for code in range(40, 40 + LISTED)]


def test_suspects_leave_some_items_to_trust(tmp_path):
    with pytest.raises(UserError, match="all 60 items are suspects, which leaves none to trust; lower --p_value"):
        chosen(tmp_path, 1.0)


STRONG = {"item": "3", "p_value": 0.001, "shown": ["4"]}
BAD = [{"last_items": bad} for bad in (5, None, [5], [{"item": "7"}])]
BAD += [{"last_items": [STRONG | bad]} for bad in ({"p_value": "x"}, {"p_value": np.nan}, {"p_value": 10**400}, {"shown": 5})]
BAD += [{"items": [ITEMS[0] | bad]} for bad in ({"p_value": None}, {"p_value": np.nan}, {"p_value": -1}, {"p_value": [1]})]
BAD += [{"items": bad} for bad in (None, [3], [{"item": "3"}])]
BAD += [{"about": None}, {"text": "[" * 100_000}, {"text": '{"a":' * 100_000}, {"text": "[]"}, {"text": "{"}, {"text": ""}]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad)[:60])
def test_what_is_no_audit_is_refused_in_one_line(tmp_path, bad):
    with pytest.raises(UserError, match=r"audit.json: not the result of an audit \(.*\); run launch.audit again$"):
        chosen(tmp_path, **bad)


@pytest.mark.parametrize("odd", [{"item": [1]}, {"item": {}}, {"item": None}, {"flagged": "true"}, {"verdict": {}}], ids=repr)
def test_ids_may_be_numbers_and_what_is_no_id_is_no_item(tmp_path, odd):
    numbers = [each | {"item": place} for place, each in enumerate(ITEMS, 1)]
    interactions = dataclasses.replace(INTERACTIONS, item_ids=np.array([str(place) for place in range(len(IDS))]))
    (tmp_path / "audit.json").write_text(json.dumps({"schema": 1, "about": {"hash": "a"}, "items": [ITEMS[0] | odd, *numbers]}))
    choice = choose_suspects(tmp_path, interactions, "a", 0.01)
    assert choice.suspects.tolist() == [4, 6] and not choice.flagged.any()


def test_the_item_of_a_trigger_is_a_suspect(tmp_path):
    last = [{"item": IDS[code], "p_value": 0.001, "shown": [IDS[4]]} for code in (6, 9)]
    choice = chosen(tmp_path, verdict="clean", last_items=last)
    assert choice.suspects.tolist() == [4, 6, 9] and [each.item for each in choice.triggers] == [6, 9]
    said = choice.reason()
    assert "The 2 most unusual items" in said and said.endswith(
        "as a precaution. Beside them, one more item calls up others from the end of a history."
    )


def test_whether_a_repair_needs_suspects_is_registered(monkeypatch):
    monkeypatch.setattr(registry, "REPAIRS", dict(REPAIRS))
    monkeypatch.setattr(registry, "WITHOUT_SUSPECTS", set(WITHOUT_SUSPECTS))
    register_repair("with", REPAIRS["finetune"])
    register_repair("without", REPAIRS["finetune"], needs_suspects=False)
    assert set(REPAIRS) > WITHOUT_SUSPECTS and registry.WITHOUT_SUSPECTS.difference(WITHOUT_SUSPECTS) == {"without"}
