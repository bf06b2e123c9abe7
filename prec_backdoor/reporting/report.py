"""Writes report.html, report.md and figures/ of a finished run."""

import base64
from pathlib import Path

from tabulate import tabulate

from prec_backdoor.evaluation.statistics import FEW
from prec_backdoor.reporting import tables, texts
from prec_backdoor.reporting.by_item import exposure_by_item, item_tables, write_by_item
from prec_backdoor.reporting.cells import Run, load_run
from prec_backdoor.reporting.doubts import doubts, in_sentences, reasons
from prec_backdoor.reporting.figures import FIGURES, Drawing
from prec_backdoor.reporting.findings import caveats, findings, in_short
from prec_backdoor.reporting.formats import MISSING
from prec_backdoor.reporting.headline import headlines, share
from prec_backdoor.reporting.names import ACCURACY, ACCURACY_AT, EXPOSURE
from prec_backdoor.reporting.pages import template
from prec_backdoor.storage import workdir as work


def summary_table(folder: str | Path, results: dict) -> str:
    """Returns a Markdown table, also for a terminal, with a line for each usage, model and segment of users; doubts follow it."""
    return summary_of(load_run(work.as_path(folder), results))


def summary_of(run: Run) -> str:
    """`summary_table` of a run whose ranks are read."""
    return "\n".join([_summary(run), *(f"\n(!) {line}" for line in in_sentences(doubts(run)))])


def write_report(folder: str | Path, results: dict) -> Path:
    """Writes report.html, which needs no other file, report.md, exposure_by_item.csv, and the figures/ that apply to the run.

    Returns:
      The path of report.md; report.html is beside it.

    Raises:
      UserError: the ranks of a row are missing.
    """
    return write_report_of(load_run(work.as_path(folder), results))


def write_report_of(run: Run) -> Path:
    """`write_report` of a run whose ranks are read."""
    folder, drawn, by_item = run.folder, _draw(run), exposure_by_item(run)
    write_by_item(run, by_item)
    given = {
        "title": texts.TITLE if run.attacked else texts.TITLE_WITHOUT,
        "paper": texts.PAPER,
        "glossary": texts.glossary(run.cutoffs.last),
        "headlines": headlines(run),
        "by_item": item_tables(run, by_item),
        "share": share,
        "facts": tables.facts(run),
        "settings": tables.settings(run),
        "header": tables.main_header(run),
        "tables": tables.main_tables(run),
        "in_short": in_short(run),
        "findings": findings(run),
        "caveats": [*caveats(run), *in_sentences(doubts(run))],
        "targets": tables.targets(run),
        "k": run.cutoffs.last,
        "few": FEW,
        "summary": _summary(run),
        "figures": [(path, *_described(path, run), base64.b64encode(path.read_bytes()).decode()) for path in drawn],
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


def _described(path: Path, run: Run) -> tuple[Drawing, str]:
    """A figure and its caption."""
    drawing = FIGURES[path.stem]
    return drawing, drawing.caption.format(k=run.cutoffs.last)


def _summary(run: Run) -> str:
    k, found = run.cutoffs.last, doubts(run)
    header = ("usage", "model", "users", f"HR@{ACCURACY_AT}", "95 %", "exposure HR@10", f"HR@{k}", "95 %")
    triggered = [f"exposure_triggered_hr@{each}" for each in (10, k) if run.cutoffs.triggered]
    lines = [
        (*header, "difference", "ratio", "in/out", *(name.removeprefix("exposure_").replace("_hr", " HR") for name in triggered))
    ]
    for cell in (*run.baselines, *run.cells):
        accuracy, exposure = (cell.estimates[name] for name in (ACCURACY, EXPOSURE))
        against = (tables.difference(cell), tables.ratio(cell), tables.selectivity(cell))
        lines.append(
            (
                cell.usage or "-",
                run.name(cell.model) + (" (!)" if reasons(found, cell.usage, cell.model) else ""),
                cell.users,
                f"{accuracy.mean:.3f}",
                f"{accuracy.low:.3f}..{accuracy.high:.3f}",
                f"{cell.estimates['exposure_hr@10'].mean:.3f}",
                f"{exposure.mean:.3f}",
                f"{exposure.low:.3f}..{exposure.high:.3f}",
                *(value.mean.replace(MISSING, "-") for value in against),
                *(f"{cell.estimates[name].mean:.3f}" if name in cell.estimates else "-" for name in triggered),
            )
        )
    return tabulate(lines, headers="firstrow", tablefmt="github", disable_numparse=True)
