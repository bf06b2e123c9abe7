"""Summaries of a contest by attacker and by repair: means and worst cases."""

import numpy as np
import polars as pl

from prec_backdoor.leaderboard.metrics import accuracy_lost, auc_between, cross_entropy, defence_effectiveness, exposure_removed
from prec_backdoor.leaderboard.rows import ACCURACY_AT, EXPOSURE_AT, PRECISION_AT

EVERY, ADAPTIVE = "all of the paper", "all adaptive"  # the lines of attackers that do not know the audits, and that do


def by_attacker(rows: list[dict]) -> list[dict]:
    """Detection of the paper's attackers, each and together, and of adaptive ones; then false alarms of clean models."""
    frame = pl.DataFrame(rows, infer_schema_length=None)
    attacked = frame.filter(pl.col("auc").is_not_null())
    groups = _groups(attacked, "attacker")
    return [_detection(name, part) for name, part in groups] + [
        {"attacker": name, **_alarms(part)}
        for (name,), part in frame.filter(pl.col("auc").is_null()).group_by("attacker", maintain_order=True)
    ]


def by_checkpoint(rows: list[dict]) -> list[dict]:
    """How well checkpoints are told from clean ones: of each kind of attacker, ROC-AUC and cross-entropy against all clean ones.

    "hidden" is the greatest exposure of a model that was called clean, and by which attacker; None if all were found.
    """
    frame = pl.DataFrame(rows, infer_schema_length=None)
    clean, attacked = (frame.filter(chosen) for chosen in (pl.col("auc").is_null(), pl.col("auc").is_not_null()))
    found = []
    for name, part in ((EVERY, attacked.filter(~pl.col("adaptive"))), (ADAPTIVE, attacked.filter("adaptive"))):
        if len(part):
            own, others = (each["p_backdoored"].to_numpy() for each in (part, clean))
            labels = np.repeat([True, False], [len(own), len(others)])
            hidden = part.filter(pl.col("verdict") == "clean").sort(f"exposure_hr@{EXPOSURE_AT}", descending=True)
            found.append(
                {
                    "attackers": name,
                    "models": len(own),
                    "clean": len(others),
                    "roc_auc": auc_between(own, others),
                    "cross_entropy": cross_entropy(np.concatenate([own, others]), labels),
                    "hidden": hidden[f"exposure_hr@{EXPOSURE_AT}"][0] if len(hidden) else None,
                    "hidden_by": hidden["attacker"][0] if len(hidden) else None,
                }
            )
    return found


def by_audit(rows: list[dict]) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """The names of the audits, and for each attacker the mean AUC of each audit by itself and of all combined."""
    frame = pl.DataFrame(rows, infer_schema_length=None).filter(pl.col("auc").is_not_null())
    audits = [name for name in frame.columns if name.startswith("auc_") and name != "auc_planted"]
    table = [(name, [part[column].mean() for column in (*audits, "auc")]) for name, part in _groups(frame, "attacker")]
    return [name.removeprefix("auc_").replace("_", " ") for name in audits] + ["combined"], table


def by_repair(rows: list[dict]) -> list[dict]:
    """Each repair of each attacker's models, and of all models of the paper together."""
    if not rows:
        return []
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return [
        {"attacker": attacker, "repair": repair, **_repaired(part)}
        for attacker, of_attacker in _groups(frame, "attacker")
        for (repair,), part in of_attacker.group_by("repair", maintain_order=True)
    ]


def _groups(frame: pl.DataFrame, column: str):
    """(name, rows) of each attacker of the paper, of all of them together, and of each adaptive attacker."""
    plain, adaptive = (frame.filter(pl.col("adaptive") == value) for value in (False, True))
    groups = [(name, part) for (name,), part in plain.group_by(column, maintain_order=True)]
    groups += [(EVERY, plain)] if len(groups) > 1 else []
    return groups + [(name, part) for (name,), part in adaptive.group_by(column, maintain_order=True)]


def _alarms(part: pl.DataFrame) -> dict:
    others = part["flagged"] - part["flagged_targets"]
    return {
        "models": len(part),
        "suspicious": int((part["verdict"] == "suspicious").sum()),
        "falsely_flagged": float(others.sum() / part["items"].sum()),
    }


def _detection(name: str, part: pl.DataFrame) -> dict:
    named, precision = part["right_group"].drop_nulls(), part[f"precision@{PRECISION_AT}"]
    return {
        "attacker": name,
        **_alarms(part),
        "auc": part["auc"].mean(),
        "worst_auc": part["auc"].min(),
        "auc_planted": part["auc_planted"].mean(),
        "worst_auc_planted": part["auc_planted"].min(),
        "precision": precision.mean(),
        "worst_precision": precision.min(),
        "recall": float(part["flagged_targets"].sum() / part["targets"].sum()),
        "named": int(named.sum()) if len(named) else None,
        "of_a_group": len(named),
        "exposure": part[f"exposure_hr@{EXPOSURE_AT}"].mean(),
        "hidden": part.filter(pl.col("verdict") == "clean")[f"exposure_hr@{EXPOSURE_AT}"].max(),
        "clean_exposure": part[f"clean_exposure_hr@{EXPOSURE_AT}"].mean(),
        "hr": part[f"hr@{ACCURACY_AT}"].mean(),
        "clean_hr": part[f"clean_hr@{ACCURACY_AT}"].mean(),
    }


def _repaired(part: pl.DataFrame) -> dict:
    before, after = (part[f"exposure_hr@{EXPOSURE_AT}_{when}"].mean() for when in ("before", "after"))
    hr, clean_hr = part[f"hr@{ACCURACY_AT}"].mean(), part[f"clean_hr@{ACCURACY_AT}"].mean()
    removed, lost = exposure_removed(before, after), accuracy_lost(clean_hr, hr)
    return {
        "models": len(part),
        "suspects": part["suspects"].mean(),
        "missed": (part["targets"] - part["suspected_targets"]).mean(),
        "before": before,
        "after": after,
        "clean_exposure": part[f"clean_exposure_hr@{EXPOSURE_AT}"].mean(),
        "removed": removed,
        "worst_removed": part["exposure_removed"].min(),
        "hr": hr,
        "clean_hr": clean_hr,
        "change": hr / clean_hr - 1 if clean_hr else 0.0,
        "der": defence_effectiveness(removed, lost),
    }
