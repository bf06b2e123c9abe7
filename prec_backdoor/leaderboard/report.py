"""results.json, detection.csv, repairs.csv, report.html and figures/ of a contest."""

import base64
from pathlib import Path

import polars as pl
from tabulate import tabulate

from prec_backdoor.leaderboard import figures
from prec_backdoor.leaderboard.rows import ACCURACY_AT, EXPOSURE_AT, PRECISION_AT
from prec_backdoor.leaderboard.summary import EVERY, by_attacker, by_audit, by_repair
from prec_backdoor.reporting.pages import template
from prec_backdoor.storage import workdir as work

SCHEMA = 1
LOSES = 0.95  # mean AUC, or half of the models called clean, below which an attacker counts as having won
DETECTION = (
    "A target's place in the audit's ranking of all items: AUC and precision, mean (worst). Planted are targets that at least "
    "one label is expected to be replaced by in an epoch; the others were not attacked at all. A model is called suspicious "
    "when any item is flagged at the audit's false discovery rate."
)
AUDITS = "AUC of each audit by itself, means: what one sees and others do not."
REPAIRS = (
    f"Exposure is HR@{EXPOSURE_AT} of the targets with those that they are for, accuracy HR@{ACCURACY_AT} of real items, "
    "compared with the clean model of the same seed after the same fine-tuning. DER = (exposure removed - accuracy lost + 1) / "
    "2: 0.5 is what doing nothing earns. Missed are targets that are not among the suspects."
)
CAPTIONS = {
    "detection": ("How well targets are found", "A point a model; the audit ranks all items, 0.5 is chance."),
    "repairs": ("What repairs give and cost", "A point an attacker. The dashed lines are 95 % removed and 2 % lost."),
}


def write_leaderboard(folder: Path, description: dict, rows: dict) -> None:
    """Writes everything, results.json last."""
    for name, each in rows.items():
        with work.replacing(folder / f"{name}.csv") as partial:
            pl.DataFrame(each, infer_schema_length=None).write_csv(partial)
    summaries = {
        name: of(rows[part]) for name, part, of in (("attackers", "detection", by_attacker), ("repairs", "repairs", by_repair))
    }
    drawn = {"detection": figures.detection(rows["detection"])}
    drawn |= (
        {"repairs": figures.repairs([each for each in summaries["repairs"] if each["attacker"] != EVERY])}
        if summaries["repairs"]
        else {}
    )
    encoded = []
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in drawn.items():
        path = folder / "figures" / f"{name}.png"
        with work.replacing(path) as partial:
            figure.savefig(partial, dpi=140)
        encoded.append((*CAPTIONS[name], base64.b64encode(path.read_bytes()).decode()))
    dataset, config = description["dataset"], description["config"]
    given = {
        "in_short": " ".join(in_short(summaries)),
        "facts": {
            "dataset": f"{dataset['name']}, {dataset['users']:,} users, {dataset['items']:,} items",
            "group": config["group"],
            "seeds": ", ".join(map(str, config["seeds"])),
            **{name.replace("_", " "): config[name] for name in ("draws", "adaptive_draws", "clean_models", "p_value")},
        },
        "tables": [
            ("Detection", DETECTION, *detection_table(summaries["attackers"])),
            ("Audits by themselves", AUDITS, *audit_table(rows["detection"])),
            ("Repairs", REPAIRS, *repair_table(summaries["repairs"])),
        ],
        "figures": encoded,
    }
    with work.replacing(folder / "report.html") as partial:
        partial.write_text(template("leaderboard.html").render(given), encoding="utf-8")
    work.write_json(folder / "results.json", {"schema": SCHEMA, **description, **rows, "leaderboard": summaries})


def leaderboard(rows: dict) -> str:
    """The tables of detection and repair as text, for a terminal or Markdown."""
    tables = (detection_table(by_attacker(rows["detection"])), repair_table(by_repair(rows["repairs"])))
    return "\n\n".join(tabulate(lines, headers=header, tablefmt="github", disable_numparse=True) for header, lines in tables)


def in_short(summaries: dict) -> list[str]:
    """What the contest says, in sentences."""
    said, attackers = [], {each["attacker"]: each for each in summaries["attackers"]}
    attacked = {name: each for name, each in attackers.items() if "auc" in each}
    paper = attacked.get(EVERY) or next(iter(attacked.values()), None)
    if paper:
        said.append(
            f"Attacks of the paper: AUC {paper['auc']:.3f} (worst {paper['worst_auc']:.3f}), of planted targets alone "
            f"{paper['auc_planted']:.3f} (worst {paper['worst_auc_planted']:.3f}); {paper['suspicious']} of {paper['models']} "
            "models called suspicious."
        )
    clean = [each for each in summaries["attackers"] if "auc" not in each]
    alarms, models = (sum(each[what] for each in clean) for what in ("suspicious", "models"))
    said.append(f"False alarms: {alarms} of {models} clean models.")
    lost = [
        name
        for name, each in attacked.items()
        if name != EVERY and (each["auc_planted"] < LOSES or 2 * each["suspicious"] < each["models"])
    ]
    said.append(f"The audit loses to: {', '.join(lost)}." if lost else "No attacker here escapes it.")
    together = [each for each in summaries["repairs"] if each["attacker"] == EVERY] or summaries["repairs"]
    if together:
        best = max(together, key=lambda each: each["der"])
        said.append(
            f"Best repair: {best['repair']}, {100 * best['removed']:.1f} % of the exposure removed, HR@{ACCURACY_AT} "
            f"{100 * best['change']:+.1f} %."
        )
    return said


def detection_table(summaries: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and rows of text."""
    header = (
        "attacker",
        "models",
        "AUC",
        "AUC planted",
        f"precision@{PRECISION_AT}",
        "suspicious",
        "targets flagged",
        "others flagged",
    )
    header += ("group named", "exposure, clean", "HR@10, clean")

    def line(each: dict) -> tuple:
        alarms = (f"{each['suspicious']} of {each['models']}",)
        others = (f"{100 * each['falsely_flagged']:.3f} %",)
        if "auc" not in each:
            return (each["attacker"], str(each["models"]), *[""] * 3, *alarms, "", *others, *[""] * 3)
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
            f"{each['hr']:.3f}, {each['clean_hr']:.3f}",
        )

    return header, [line(each) for each in summaries]


def audit_table(rows: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and rows of text."""
    audits, table = by_audit(rows)
    return ("attacker", *audits), [(name, *(f"{value:.3f}" for value in values)) for name, values in table]


def repair_table(summaries: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and rows of text."""
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
