"""Writes report.html, report.md and figures/ of a finished run."""

import base64
from pathlib import Path

from tabulate import tabulate

from prec_backdoor.reporting import tables, texts
from prec_backdoor.reporting.cells import Run, load_run
from prec_backdoor.reporting.figures import FIGURES
from prec_backdoor.reporting.findings import caveats, findings, in_short
from prec_backdoor.reporting.names import ACCURACY, EXPOSURE, EXPOSURE_AT, LIFT
from prec_backdoor.reporting.pages import template
from prec_backdoor.storage import workdir as work


def summary_table(folder: Path, results: dict) -> str:
    """Returns a Markdown table, also for a terminal, with a line for each usage, model and segment of users."""
    return _summary(load_run(folder, results))


def write_report(folder: Path, results: dict) -> Path:
    """Writes report.html, which needs no other file, report.md, and the figures/ that apply to the run.

    Returns:
      The path of report.md; report.html is beside it.

    Raises:
      UserError: the ranks of a row are missing.
    """
    run = load_run(folder, results)
    drawn = _draw(run)
    given = {
        "title": texts.TITLE,
        "paper": texts.PAPER,
        "glossary": texts.glossary(),
        "facts": tables.facts(run),
        "settings": tables.settings(run),
        "header": tables.main_header(),
        "tables": tables.main_tables(run),
        "in_short": in_short(run),
        "findings": findings(run),
        "caveats": list(caveats(run)),
        "summary": _summary(run),
        "figures": [(path, FIGURES[path.stem], base64.b64encode(path.read_bytes()).decode()) for path in drawn],
        "files": {name: meaning for name, meaning in texts.FILES.items() if any(folder.glob(name)) or name.startswith("report.")},
    }
    for name in ("report.html", "report.md"):
        with work.replacing(folder / name) as partial:
            partial.write_text(template(name).render(given), encoding="utf-8")
    return folder / "report.md"


def _draw(run: Run) -> list[Path]:
    """Writes the figures that apply to the run; returns their paths."""
    folder, drawn = run.folder / "figures", []
    folder.mkdir(exist_ok=True)
    for name, drawing in FIGURES.items():
        figure = drawing.draw(run)
        if figure is not None:
            with work.replacing(folder / f"{name}.png") as partial:
                figure.savefig(partial, dpi=140)
            drawn.append(folder / f"{name}.png")
    return drawn


def _summary(run: Run) -> str:
    header = ("usage", "model", "users", "HR@10", "95 %", "exposure HR@10", f"HR@{EXPOSURE_AT}", "95 %", LIFT, "in/out")
    lines = [header]
    for cell in run.cells:
        accuracy, exposure, lift = (cell.estimates.get(name) for name in (ACCURACY, EXPOSURE, LIFT))
        lines.append(
            (
                cell.usage,
                run.name(cell.model),
                cell.users,
                f"{accuracy.mean:.3f}",
                f"{accuracy.low:.3f}..{accuracy.high:.3f}",
                f"{cell.estimates['exposure_hr@10'].mean:.3f}",
                f"{exposure.mean:.3f}",
                f"{exposure.low:.3f}..{exposure.high:.3f}",
                f"{lift.mean:.1f}" if lift else "-",
                tables.selectivity(cell).mean.replace(tables.MISSING, "-"),
            )
        )
    return tabulate(lines, headers="firstrow", tablefmt="github", disable_numparse=True)
