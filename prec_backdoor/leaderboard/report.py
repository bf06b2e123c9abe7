"""The files of a contest: results.json, detection.csv, repairs.csv, report.html and figures/."""

import base64
from pathlib import Path

import polars as pl
from tabulate import tabulate

from prec_backdoor.leaderboard import figures
from prec_backdoor.leaderboard.lines import model_table, repaired_table
from prec_backdoor.leaderboard.rows import ACCURACY_AT, EXPOSURE_AT, PRECISION_AT
from prec_backdoor.leaderboard.summary import ADAPTIVE, EVERY, by_attacker, by_audit, by_checkpoint, by_repair
from prec_backdoor.reporting.pages import template
from prec_backdoor.storage import workdir as work

SCHEMA = 1
EVADES = 0.95  # an attacker evades the audit with a lower mean AUC, or if more than half of its models are called clean
DETECTION = (
    "Position of the targets in the ranking of all items by combined score: AUC and precision, as mean (worst model). Planted "
    "targets are those for which the attack is expected to replace at least one label per epoch; the other targets were "
    "hardly attacked. A model is called suspicious if it is, as a whole, more unusual than the clean models for comparison. "
    "Undetected is the greatest exposure of a model that was called clean."
)
CHECKPOINTS = (
    "Whether a checkpoint is backdoored at all, as TrojAI scores detectors: ROC-AUC and cross-entropy (a coin has 0.693) over "
    "attacked and clean checkpoints, with 95 % intervals, and the greatest exposure of an attacked one that was called clean."
)
AUDITS = "Mean AUC of each audit by itself."
REPAIRS = (
    f"Exposure is HR@{EXPOSURE_AT} of the targets among the users whom the attack is aimed at, before and after alike with its "
    "trigger in place of the last items of histories, if it has one there (repairs.csv has the same without it). Accuracy is "
    f"HR@{ACCURACY_AT} of real items, compared with the clean model of the same seed after the same fine-tuning. DER = (exposure "
    "removed - accuracy lost + 1) / 2; doing nothing has 0.5. Missed targets are those that are not among the suspects."
)
MODELS = "Each audited model by itself; the verdict leads to the page of its audit."
REPAIRED = "Each repair of each model by itself; the model's verdict leads to the page of its audit."
KINDS = {EVERY: "attacks of the paper", ADAPTIVE: "attackers who know the audits"}
CAPTIONS = {
    "detection": ("Detection of targets", "Each point is a model. The AUC of a random ranking is 0.5."),
    "repairs": (
        "Benefit and cost of repairs",
        "Each point is an attacker. Dashed lines: 95 % of exposure removed, 2 % of accuracy lost.",
    ),
}


def write_leaderboard(folder: str | Path, description: dict, rows: dict) -> None:
    """Writes results.json, last, and all other files of a contest.

    Args:
      description: "config" and "dataset", as in config.json.
      rows: of `run_contest`.
    """
    folder = work.as_path(folder)
    for name, each in rows.items():
        with work.replacing(folder / f"{name}.csv") as partial:
            pl.DataFrame(each, infer_schema_length=None).write_csv(partial)
    summaries = {
        "checkpoints": by_checkpoint(rows["detection"]),
        "attackers": by_attacker(rows["detection"]),
        "repairs": by_repair(rows["repairs"]),
    }
    dataset, config = description["dataset"], description["config"]
    values = {
        "in_short": in_short(summaries),
        "facts": {
            "dataset": f"{dataset['name']}, {dataset['users']:,} users, {dataset['items']:,} items",
            "group": config["group"],
            "seeds": ", ".join(map(str, config["seeds"])),
            "backbones": ", ".join(config.get("backbones") or [config["backbone"]]),
            **{name.replace("_", " "): config[name] for name in ("draws", "adaptive_draws", "clean_models", "p_value")},
        },
        "tables": [
            ("Checkpoints", CHECKPOINTS, *checkpoint_table(summaries["checkpoints"])),
            ("Detection", DETECTION, *detection_table(summaries["attackers"])),
            ("Single audits", AUDITS, *audit_table(rows["detection"])),
            ("Repairs", REPAIRS, *repair_table(summaries["repairs"])),
            ("Every model", MODELS, *model_table(folder, rows["detection"])),
            ("Every repair", REPAIRED, *repaired_table(folder, rows["repairs"])),
        ],
        "figures": _write_figures(folder / "figures", rows, summaries),
    }
    with work.replacing(folder / "report.html") as partial:
        partial.write_text(template("leaderboard.html").render(values), encoding="utf-8")
    work.write_json(folder / "results.json", {"schema": SCHEMA, **description, **rows, "leaderboard": summaries})


def _write_figures(folder: Path, rows: dict, summaries: dict) -> list[tuple[str, str, str]]:
    """Writes the figures as PNG and returns (title, caption, the file in base64) of each."""
    drawn = {"detection": figures.detection(rows["detection"])}
    if summaries["repairs"]:
        drawn["repairs"] = figures.repairs([each for each in summaries["repairs"] if each["attacker"] != EVERY])
    folder.mkdir(exist_ok=True)
    encoded = []
    for name, figure in drawn.items():
        path = folder / f"{name}.png"
        with work.replacing(path) as partial:
            figure.savefig(partial, dpi=140)
        encoded.append((*CAPTIONS[name], base64.b64encode(path.read_bytes()).decode()))
    return encoded


def leaderboard(rows: dict) -> str:
    """The tables of detection and repair as text, for a terminal or Markdown."""
    tables = (
        checkpoint_table(by_checkpoint(rows["detection"])),
        detection_table(by_attacker(rows["detection"])),
        repair_table(by_repair(rows["repairs"])),
    )
    return "\n\n".join(tabulate(lines, headers=header, tablefmt="github", disable_numparse=True) for header, lines in tables)


def in_short(summaries: dict) -> list[str]:
    """The result of a contest in sentences."""
    hidden = [
        ("none" if each["hidden"] is None else f"at most {each['hidden']:.3f} ({each['hidden_by']})")
        + f" by {KINDS[each['attackers']]}"
        for each in summaries["checkpoints"]
    ]
    sentences = [f"Exposure kept while undetected: {'; '.join(hidden)}."]
    attacked = {each["attacker"]: each for each in summaries["attackers"] if "auc" in each}
    if paper := attacked.get(EVERY) or next(iter(attacked.values()), None):
        kind = "Attacks of the paper" if EVERY in attacked else f"Attack {paper['attacker']}"
        sentences.append(
            f"{kind}: AUC {paper['auc']:.3f} (worst {paper['worst_auc']:.3f}), for planted targets {paper['auc_planted']:.3f} "
            f"(worst {paper['worst_auc_planted']:.3f}); {paper['suspicious']} of {paper['models']} models called suspicious."
        )
    clean = [each for each in summaries["attackers"] if "auc" not in each]
    alarms, models = (sum(each[what] for each in clean) for what in ("suspicious", "models"))
    sentences.append(f"False alarms: {alarms} of {models} clean models.")
    evading = [name for name, each in attacked.items() if name != EVERY and _evades(each)]
    if attacked:
        sentences.append(f"Attackers that evade the audit: {', '.join(evading) or 'none'}.")
    repaired = [each for each in summaries["repairs"] if each["attacker"] == EVERY] or summaries["repairs"]
    if repaired:
        best = max(repaired, key=lambda each: each["der"])
        attacker = "" if best["attacker"] == EVERY else f" of {best['attacker']}"
        sentences.append(
            f"Best repair{attacker}: {best['repair']}, {100 * best['removed']:.1f} % of the exposure removed, HR@{ACCURACY_AT} "
            f"changed by {100 * best['change']:+.1f} %."
        )
    return sentences


def _evades(summary: dict) -> bool:
    return summary["auc_planted"] < EVADES or 2 * summary["suspicious"] < summary["models"]


def checkpoint_table(summaries: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and lines of text."""
    lines = [
        (
            each["attackers"],
            f"{each['models']}, {each['clean']}",
            *("{:.3f} ({:.3f} to {:.3f})".format(*each[name]) for name in ("roc_auc", "cross_entropy")),
            "none" if each["hidden"] is None else f"{each['hidden']:.3f} ({each['hidden_by']})",
        )
        for each in summaries
    ]
    return ("attackers", "models, clean", "ROC-AUC", "cross-entropy", "undetected exposure"), lines


def detection_table(summaries: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and lines of text."""
    header = ("attacker", "models", "AUC", "AUC planted", f"precision@{PRECISION_AT}", "suspicious", "targets flagged")
    header += ("others flagged", "group named", "exposure, clean", "undetected", f"HR@{ACCURACY_AT}, clean")

    def line(each: dict) -> tuple:
        alarms = (f"{each['suspicious']} of {each['models']}",)
        others = (f"{100 * each['falsely_flagged']:.3f} %",)
        if "auc" not in each:
            return (each["attacker"], str(each["models"]), *[""] * 3, *alarms, "", *others, *[""] * 4)
        return (
            each["attacker"],
            str(each["models"]),
            f"{each['auc']:.3f} ({each['worst_auc']:.3f})",
            f"{each['auc_planted']:.3f} ({each['worst_auc_planted']:.3f})",
            f"{each['precision']:.2f} ({each['worst_precision']:.1f})",
            *alarms,
            f"{100 * each['recall']:.0f} %",
            *others,
            "" if each["named"] is None else f"{each['named']} of {each['of_a_group']}",
            f"{each['exposure']:.3f}, {each['clean_exposure']:.4f}",
            "-" if each["hidden"] is None else f"{each['hidden']:.3f}",
            f"{each['hr']:.3f}, {each['clean_hr']:.3f}",
        )

    return header, [line(each) for each in summaries]


def audit_table(rows: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and lines of text."""
    audits, table = by_audit(rows)
    return ("attacker", *audits), [(name, *(f"{value:.3f}" for value in values)) for name, values in table]


def repair_table(summaries: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and lines of text."""
    header = ("attacker", "repair", "models", "suspects", "missed", "exposure before", "after", "clean", "removed (worst)")
    header += (f"HR@{ACCURACY_AT}", "clean", "change", "DER")
    lines = [
        (
            each["attacker"],
            each["repair"],
            str(each["models"]),
            f"{each['suspects']:.0f}",
            f"{each['missed']:.1f}",
            f"{each['before']:.3f}",
            f"{each['after']:.4f}",
            f"{each['clean_exposure']:.4f}",
            f"{100 * each['removed']:.1f} % ({100 * each['worst_removed']:.1f})",
            f"{each['hr']:.3f}",
            f"{each['clean_hr']:.3f}",
            f"{100 * each['change']:+.1f} %",
            f"{each['der']:.3f}",
        )
        for each in summaries
    ]
    return header, lines
