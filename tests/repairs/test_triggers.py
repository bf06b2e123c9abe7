"""What a repair's page says of triggers: read from an audit, measured as the experiments measure them."""

import dataclasses
import json

import numpy as np
import pytest
from test_repairs import CONFIG, INTERACTIONS
from toys import lively_params

from prec_backdoor.audit.report import LISTED, Trigger, read_triggers
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.measure import measure, result_rows
from prec_backdoor.experiment.setup import make_setup
from prec_backdoor.repairs import registry
from prec_backdoor.repairs.choice import Choice, choose_suspects, no_suspects
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
    monkeypatch.setattr("prec_backdoor.repairs.outcome.triggered_ranks", lambda own, which: ranks[which])
    (found,) = measure_outcome(setup, "before", "after", choice_of(Trigger(3, np.array([4]))))["triggers"]
    assert found["works"] == works and found["with"]["after"] == pytest.approx(left)  # of 20 users


def test_without_suspects_only_accuracy_is_measured(setup):
    params = lively_params(setup.model)
    found = measure_outcome(setup, params, params, no_suspects(0.01))
    assert found["exposure"] == {} and found["suspects"] == found["triggers"] == []
    assert found["accuracy"]["hr@10"]["difference"] == 0 and found["users"] == len(setup.test.users)


def test_triggers_are_read_within_bounds(tmp_path):
    def read(level=0.01, **content):
        content = {"schema": 2, "about": {"hash": "a"}, "items": [], **content}
        (tmp_path / "audit.json").write_text(json.dumps(content))
        found = read_triggers(tmp_path, INTERACTIONS, "a", level)
        return [(each.item, each.shown.tolist()) for each in found]

    ids = INTERACTIONS.item_ids.tolist()
    strong = {"item": ids[3], "p_value": 0.001, "shown": [ids[4], ids[3], "unknown", ids[6], ids[4]]}
    assert read() == [] and read(last_items=[strong]) == [(3, [4, 6])]
    weak, odd = (
        strong | {"p_value": 0.02},
        [strong | changed for changed in ({"item": "?"}, {"shown": ["?"]}, {"p_value": np.nan})],
    )
    assert read(last_items=[weak, *(strong | each for each in odd)]) == [] and read(0.05, last_items=[weak]) == [(3, [4, 6])]
    many = strong | {"shown": ids[10:40]}
    assert read(last_items=[many] * 99) == [(3, list(range(10, 20)))] * LISTED
    for bad in (5, [5], [{"item": "7"}], [strong | {"p_value": "x"}], [strong | {"shown": 5}], [strong | {"p_value": 10**400}]):
        with pytest.raises(UserError, match="not the result of an audit"):
            read(last_items=bad)


def test_the_item_of_a_trigger_is_a_suspect(tmp_path):
    ids = INTERACTIONS.item_ids.tolist()
    items = [{"item": raw, "p_value": 0.001 if code in (4, 6) else 0.5, "flagged": False} for code, raw in enumerate(ids) if code]
    last = [{"item": ids[code], "p_value": 0.001, "shown": [ids[4]]} for code in (6, 9)]
    content = {"schema": 2, "verdict": "clean", "about": {"hash": "a"}, "items": items, "last_items": last}
    (tmp_path / "audit.json").write_text(json.dumps(content))
    choice = choose_suspects(tmp_path, INTERACTIONS, "a", 0.01)
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
