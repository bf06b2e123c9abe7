"""The rows of a contest: what is recorded of an audited clean model, of an audited attacked model, of a repaired model."""

import numpy as np

from prec_backdoor.audit.audit import AuditResult
from prec_backdoor.evaluation import hit_rate, unseen
from prec_backdoor.experiment.measure import TestRanks, segments
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.leaderboard.attackers import Attacker
from prec_backdoor.leaderboard.metrics import (
    accuracy_lost,
    defence_effectiveness,
    detection_auc,
    exposure_removed,
    precision_at,
)

ACCURACY_AT, EXPOSURE_AT, PRECISION_AT = 10, 50, 10
WITHOUT_TRIGGER = f"exposure_without_trigger_hr@{EXPOSURE_AT}"  # of attackers who have one in histories
UNUSUAL = 2.0  # anomaly index from which trigger inversion by itself counts as detection


def clean_row(setup: SeedSetup, name: str, result: AuditResult) -> dict:
    """The row of a clean model; `name` is clean or clean-prompted."""
    row = {"attacker": name, "adaptive": False, "seed": setup.seed, "draw": 0}
    return row | _verdict(result, np.zeros(len(result.score), bool))


def detection_row(
    setup: SeedSetup, name: str, attacker: Attacker, result: AuditResult, attacked: TestRanks, clean: TestRanks
) -> dict:
    """The row of an attacked model.

    Args:
      attacked, clean: ranks of the attacked model and of the clean model of the same seed.
    """
    scenario, rate = setup.config.scenario, setup.config.rate[0]
    targets = np.zeros(setup.interactions.num_items, bool)
    targets[setup.targets - 1] = True
    planted = targets.copy()
    planted[setup.targets - 1] = expected_replacements(setup, rate) >= 1
    counted = planted | ~targets
    return {
        "attacker": name,
        "adaptive": attacker.adaptive,
        "seed": setup.seed,
        "draw": scenario.draw,
        **_verdict(result, targets),
        "right_group": result.attribution.group == scenario.group if attacker.scope == "group" else None,
        "group_in_set": scenario.group in result.attribution.likely if attacker.scope == "group" else None,
        "auc": detection_auc(result.score, targets),
        "auc_planted": detection_auc(result.score[counted], planted[counted]),
        "targets": int(targets.sum()),
        "planted": int(planted.sum()),
        f"precision@{PRECISION_AT}": precision_at(result.score, targets, min(PRECISION_AT, int(targets.sum()))),
        **{f"auc_{audit}": detection_auc(score, targets) for audit, score in result.scores.items()},
        **_inversion(result, targets),
        f"exposure_hr@{EXPOSURE_AT}": exposure_rate(setup, attacked),
        f"clean_exposure_hr@{EXPOSURE_AT}": exposure_rate(setup, clean),
        f"hr@{ACCURACY_AT}": hit_rate(attacked.truth, ACCURACY_AT),
        f"clean_hr@{ACCURACY_AT}": hit_rate(clean.truth, ACCURACY_AT),
        **({} if attacked.triggered is None else {WITHOUT_TRIGGER: exposure_rate(setup, attacked._replace(triggered=None))}),
    }


def repair_row(setup: SeedSetup, detection: dict, repair: str, repaired: TestRanks, clean: TestRanks) -> dict:
    """The row of a repaired model.

    Args:
      detection: row of the attacked model, with its "suspects".
      repaired, clean: ranks of the repaired model and of the clean model after the same fine-tuning.
    """
    before, after = detection[f"exposure_hr@{EXPOSURE_AT}"], exposure_rate(setup, repaired)
    accuracy, clean_accuracy = (hit_rate(each.truth, ACCURACY_AT) for each in (repaired, clean))
    removed, lost = exposure_removed(before, after), accuracy_lost(clean_accuracy, accuracy)
    plain = {}
    if WITHOUT_TRIGGER in detection:
        left = exposure_rate(setup, repaired._replace(triggered=None))
        plain = {f"{WITHOUT_TRIGGER}_before": detection[WITHOUT_TRIGGER], f"{WITHOUT_TRIGGER}_after": left}
    return {
        **{key: detection[key] for key in ("attacker", "adaptive", "seed", "draw", "verdict")},
        "repair": repair,
        "suspects": len(detection["suspects"]),
        "suspected_targets": int(np.isin(setup.targets, detection["suspects"]).sum()),
        "targets": len(setup.targets),
        f"exposure_hr@{EXPOSURE_AT}_before": before,
        f"exposure_hr@{EXPOSURE_AT}_after": after,
        f"clean_exposure_hr@{EXPOSURE_AT}": exposure_rate(setup, clean),
        f"hr@{ACCURACY_AT}": accuracy,
        f"clean_hr@{ACCURACY_AT}": clean_accuracy,
        "exposure_removed": removed,
        "accuracy_lost": lost,
        "der": defence_effectiveness(removed, lost),
        **plain,
    }


def expected_replacements(setup: SeedSetup, rate: float) -> np.ndarray:
    """[K] expected number of training labels that the attack replaces by each target in one epoch; without end for an edit."""
    rows, category, scope = setup.pretrain.rows, setup.interactions.category, setup.config.scenario.scope
    if setup.config.scenario.method().edit:
        return np.full(len(setup.targets), np.inf)
    if scope == "group" or len(setup.trigger):
        owner = np.take_along_axis(rows.user, np.maximum(rows.segment - 1, 0), axis=1)
        open_to_attack = ((rows.label > 0) & (setup.in_group[owner] if scope == "group" else True)).sum()
        return np.full(len(setup.targets), rate * open_to_attack / len(setup.targets))
    labels = np.bincount(category[rows.label[rows.label > 0]], minlength=len(setup.interactions.categories))
    of_target = category[setup.targets]
    return rate * labels[of_target] / np.bincount(of_target)[of_target]


def exposure_rate(setup: SeedSetup, ranks: TestRanks) -> float:
    """exposure_hr@50 of the targets among the users whom the attack is aimed at; with its trigger, if it has one in histories."""
    chosen = segments(setup)["target" if setup.config.scenario.scope == "group" else "all"]
    pairs = unseen(setup.test.history, setup.targets)[chosen]
    shown = ranks.targets if ranks.triggered is None else ranks.triggered
    return hit_rate(shown[chosen][pairs], EXPOSURE_AT)


def _verdict(result: AuditResult, targets: np.ndarray) -> dict:
    return {
        "verdict": result.verdict.word,
        "model_p_value": result.verdict.p_value,
        "statistic": result.verdict.statistic,
        "p_backdoored": result.verdict.p_backdoored,
        "group": result.attribution.group,
        "group_p_value": result.attribution.p_value,
        "groups_likely": len(result.attribution.likely),
        "items": len(targets),
        "flagged": int(result.flagged.sum()),
        "flagged_targets": int(result.flagged[targets].sum()),
        "least_p_value": float(result.p_value.min()),
    }


def _inversion(result: AuditResult, targets: np.ndarray) -> dict:
    """Among the suspects: number of targets and of other items, and of each how many have an unusual anomaly index."""
    is_target, unusual = targets[result.suspects - 1], result.inverted.index > UNUSUAL
    return {
        "inverted_targets": int(is_target.sum()),
        "inverted_others": int((~is_target).sum()),
        "unusual_targets": int(unusual[is_target].sum()),
        "unusual_others": int(unusual[~is_target].sum()),
    }
