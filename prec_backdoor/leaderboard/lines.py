"""The tables of single models: a line for each audited model and for each repaired one, with links to the audits' pages."""

from pathlib import Path
from typing import NamedTuple

from prec_backdoor.leaderboard.rows import ACCURACY_AT, EXPOSURE_AT


class Link(NamedTuple):
    """A cell of a table that leads to a page."""

    text: str
    page: str


def model_table(folder: Path, rows: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and lines of text or links: a line for each audited model."""
    header = (*_which(rows), "verdict", "AUC", "targets flagged", "others flagged", "group named")
    header += (f"exposure HR@{EXPOSURE_AT}", "clean", f"HR@{ACCURACY_AT}", "clean ")

    def line(row: dict) -> tuple:
        attacked = "auc" in row
        measured = (
            f"exposure_hr@{EXPOSURE_AT}",
            f"clean_exposure_hr@{EXPOSURE_AT}",
            f"hr@{ACCURACY_AT}",
            f"clean_hr@{ACCURACY_AT}",
        )
        return (
            *(str(row[name]) for name in _which(rows)),
            _verdict(folder, row),
            f"{row['auc']:.3f}" if attacked else "",
            f"{row['flagged_targets']} of {row['targets']}" if attacked else "",
            str(row["flagged"] - row["flagged_targets"]),
            row["group"] or "",
            *(f"{row[name]:.4f}" if attacked else "" for name in measured),
        )

    return header, [line(row) for row in rows]


def repaired_table(folder: Path, rows: list[dict]) -> tuple[tuple, list[tuple]]:
    """Header and lines of text or links: a line for each repaired model."""
    header = (
        *_which(rows),
        "repair",
        "verdict",
        "suspects",
        "exposure before",
        "after",
        "clean",
        f"HR@{ACCURACY_AT}",
        "clean ",
        "DER",
    )
    measured = ("_before", "_after")
    lines = [
        (
            *(str(row[name]) for name in _which(rows)),
            row["repair"],
            _verdict(folder, row),
            str(row["suspects"]),
            *(f"{row[f'exposure_hr@{EXPOSURE_AT}{when}']:.4f}" for when in measured),
            f"{row[f'clean_exposure_hr@{EXPOSURE_AT}']:.4f}",
            f"{row[f'hr@{ACCURACY_AT}']:.3f}",
            f"{row[f'clean_hr@{ACCURACY_AT}']:.3f}",
            f"{row['der']:.3f}",
        )
        for row in rows
    ]
    return header, lines


def _which(rows: list[dict]) -> tuple[str, ...]:
    """Names of the entries that say which model a row is of."""
    return ("attacker", *(("backbone",) if rows and "backbone" in rows[0] else ()), "seed", "draw")


def _verdict(folder: Path, row: dict) -> str | Link:
    """The verdict, with a link if the page is there: runs of earlier versions have none."""
    page = row.get("page")
    return Link(row["verdict"], page) if page and (folder / page).exists() else row["verdict"]
