"""Power: what is planted, and the curve that is fitted to what was found."""

import jax
import numpy as np
import pytest
from toys import lively_params, tiny_model

from prec_backdoor.audit import power
from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.calibration import EVERYBODY, ObservedModel
from prec_backdoor.audit.verdict import judge
from prec_backdoor.models import represent

USERS, ITEMS = 40, 80


def data_of(category, attributes=True):
    rng = np.random.default_rng(0)
    history = rng.integers(1, ITEMS // 2 + 1, (USERS, 4)).astype(np.int32)
    profile = rng.integers(1, 3, (USERS, 1)).astype(np.int32) if attributes else np.zeros((USERS, 0), np.int32)
    return AuditorData(
        history, profile, {"job": ("unknown", "cook", "smith")} if attributes else {}, np.full(ITEMS + 1, category)
    )


def test_attacks_are_of_both_scopes_at_rates_of_all_sizes_on_unpopular_items():
    auditor_data = data_of(1)
    attacks = power.plan_attacks(auditor_data, 12)
    assert [attack.group is None for attack in attacks] == [False, False, True] * 4
    assert {attack.group for attack in attacks} == {"job=cook", "job=smith", None}
    assert min(attack.rate for attack in attacks) < 0.012 and max(attack.rate for attack in attacks) > 0.2
    popularity = auditor_data.popularity()
    assert all(len(set(attack.targets)) == 10 and popularity[attack.targets].max() <= np.median(popularity) for attack in attacks)
    assert power.plan_attacks(auditor_data, 12)[3].targets.tolist() == attacks[3].targets.tolist()


def test_without_groups_or_categories_everybody_is_attacked():
    assert {attack.group for attack in power.plan_attacks(data_of(1, False), 4)} == {None}
    assert {attack.group for attack in power.plan_attacks(data_of(0, False), 4)} == {EVERYBODY}


def test_the_fitted_exposure_is_found_in_95_of_100():
    rng, truth = np.random.default_rng(0), -2.0
    exposure = 10 ** rng.uniform(-4, 0, 400)
    found = rng.random(400) < 1 / (1 + np.exp(-(np.log10(exposure) - truth) / 0.2))
    stated, (low, high) = power.fit(exposure, found)
    at = 10 ** (truth + 0.2 * np.log(0.95 / 0.05))
    assert low < at < high == stated < at * 1.8


def test_few_models_are_cautious_and_none_found_says_nothing():
    exposure = 10 ** np.linspace(-4, 0, 9)
    found = exposure > 0.01
    few, many = power.fit(exposure, found)[0], power.fit(np.repeat(exposure, 20), np.repeat(found, 20))[0]
    assert 0.01 < many < few
    assert power.fit(exposure, np.zeros(9, bool))[0] is None


class Judge:
    """Stands for a Reference: the statistic is the first score."""

    model, models = None, [ObservedModel(9, {}, None, None)] * 3

    def judge(self, observed, level):
        return judge(observed.scores["a"], np.ones(1), 0.5)


def test_a_row_for_each_attack(monkeypatch):
    """Exposure is that of the targets in the group; clean models, of number 9, show them to a tenth of the users."""
    auditor_data = data_of(1)
    attacks = power.plan_attacks(auditor_data, 3)
    asked = []

    def exposure(params, model, auditor_data, targets, members):
        asked.append((params, members))
        return (0.0, 0.5, 0.3)[params] if params < 9 else 0.1

    monkeypatch.setattr(power, "exposure", exposure)
    models = [ObservedModel(number, {"a": np.array([value])}, None, None) for number, value in enumerate((0.0, 2.0, 3.0))]
    found = power.power_of(attacks, models, Judge(), auditor_data, 0.05)
    assert [row["found"] for row in found.attacks] == [False, True, True] and found.found == 2
    assert [row["exposure"] for row in found.attacks] == pytest.approx([0, 0.4, 0.2])
    for params, members in asked:
        if params < 9:
            code = auditor_data.attributes["job"].index((attacks[params].group or "job=").partition("=")[2] or "unknown")
            assert (members == ((auditor_data.profile[:, 0] == code) | (code == 0))).all()
    assert found.attacks[2]["scope"] == "global" and found.attacks[0]["group"] == attacks[0].group
    assert found.exposure is None  # three trials say less than what is assumed
    monkeypatch.setattr(power, "LEAST_TRIED", 3)
    assert power.power_of(attacks, models, Judge(), auditor_data, 0.05).exposure is not None
    assert power.power_of((), (), Judge(), auditor_data, 0.05) is None


@pytest.mark.parametrize("number", [0, 1])
def test_as_many_as_asked_for(number):
    assert len(power.plan_attacks(data_of(1), number)) == number


def test_exposure_is_of_the_targets_that_members_have_not_seen():
    auditor_data, model = data_of(1), tiny_model(ITEMS, num_layers=1)
    params, targets, members = lively_params(model), np.array([50, 60]), np.arange(USERS) < 10
    found = power.exposure(params, model, auditor_data, targets, members)
    scores = np.asarray(jax.jit(represent, static_argnums=1)(params, model, auditor_data.history)) @ np.asarray(params["items"]).T
    hits = []
    for user in range(10):
        scores[user, [0, *auditor_data.history[user]]] = -np.inf
        hits += [(scores[user] > scores[user, target]).sum() < power.TOP for target in targets]
    assert found == pytest.approx(np.mean(hits)) and 0 < found < 1
