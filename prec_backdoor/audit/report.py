"""audit.json, for programs, and audit.html, for people: what an audit found and how far it is to be trusted."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from prec_backdoor.audit import texts
from prec_backdoor.audit.audit import AuditConfig, AuditResult
from prec_backdoor.audit.exposure import log_popularity, mean_over_std
from prec_backdoor.audit.views import AS_IT_COMES
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.reporting.figures import style
from prec_backdoor.reporting.pages import template
from prec_backdoor.storage.workdir import replacing, write_json

SCHEMA = 1
SUSPECT, OTHER = style.COLOURS[1], "#8a8a8a"


def write_audit(folder: Path, finding: AuditResult, interactions: Interactions, config: AuditConfig, about: dict) -> dict:
    """Writes audit.html and then, as the mark of a finished audit, audit.json; returns the latter's content.

    Args:
      about: what was audited: "checkpoint" path and "hash", "stage", "dataset", .., told as it is.
    """
    content = as_json(finding, interactions, config, about)
    figures = [(title, caption, _png(figure)) for title, caption, figure in _figures(finding)]
    given = {
        "content": content,
        "suspects": [_suspect(finding, interactions, index) for index in range(len(finding.suspects))],
        "audits": {name: texts.AUDITS.get(name, (name, ""))[0] for name in finding.scores},
        "words": texts.words(finding.scores),
        "verdict": texts.verdict(content),
        "limits": texts.LIMITS,
        "figures": figures,
    }
    with replacing(folder / "audit.html") as partial:
        partial.write_text(template("audit.html").render(given), encoding="utf-8")
    write_json(folder / "audit.json", content)
    return content


def as_json(finding: AuditResult, interactions: Interactions, config: AuditConfig, about: dict) -> dict:
    """The content of audit.json: the verdict, and every item of the catalogue, highest score first."""
    order = np.argsort(-finding.score, kind="stable")
    named = finding.named
    return {
        "schema": SCHEMA,
        "verdict": "suspicious" if finding.suspicious else "clean",
        "group": named.group,
        "about": about,
        "flagged": int(finding.flagged.sum()),
        "error_rates": finding.error_rates._asdict(),
        "settings": vars(config) | {"calibration_models": finding.error_rates.models},
        "views": list(finding.views),
        "group_p_value": named.p_value,
        "groups": [dict(zip(("group", "users", "effect", "error"), each, strict=True)) for each in named.candidates],
        "closeness": dict(zip(("suspects", "random"), finding.closeness, strict=True)),
        "triggers": [
            {
                "item": str(interactions.item_ids[item]),
                "anomaly_index": float(finding.inverted.index[index]),
                "effort": float(finding.inverted.effort[index]),
                "trigger": str(interactions.item_ids[finding.inverted.trigger[index]]),
                "lifted": float(finding.inverted.lifted[index]),
            }
            for index, item in enumerate(finding.suspects)
        ],
        "items": [
            {
                "item": str(interactions.item_ids[index + 1]),
                "score": float(finding.score[index]),
                "p_value": float(finding.p_value[index]),
                "flagged": bool(finding.flagged[index]),
                "audits": {name: float(value[index]) for name, value in finding.scores.items()},
            }
            for index in order
        ],
    }


def read_suspects(folder: Path, interactions: Interactions, digest: str, level: float) -> np.ndarray:
    """[N] codes of the items whose p-value is at most `level` in the audit of the checkpoint with content hash `digest`.

    Raises:
      UserError: `folder` has no audit of that checkpoint, or one that names no such item.
    """
    path = folder / "audit.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        audited = str(content["about"]["hash"])
        listed = [(str(each["item"]), float(each["p_value"])) for each in content["items"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the result of an audit ({error!r}); run launch.audit again") from error
    if audited != digest:
        raise UserError(f"{path}: audit of another checkpoint (content {audited[:16]}, not {digest[:16]}); audit this one")
    codes = {raw: code for code, raw in enumerate(interactions.item_ids.tolist()) if code}
    suspects = sorted(codes[item] for item, p_value in listed if p_value <= level and item in codes)
    if not suspects:
        raise UserError(f"{path}: no item has a p-value of at most {level:g}; nothing to repair, or raise --p_value")
    return np.array(suspects, np.int32)


def _suspect(finding: AuditResult, interactions: Interactions, index: int) -> dict:
    item, inverted = int(finding.suspects[index]), finding.inverted
    seen = finding.views[AS_IT_COMES]
    return {
        "item": str(interactions.item_ids[item]),
        "title": " ".join(str(interactions.titles[item]).split()),
        "category": interactions.categories[interactions.category[item]],
        "flagged": bool(finding.flagged[item - 1]),
        "score": finding.score[item - 1],
        "p_value": finding.p_value[item - 1],
        "popularity": int(seen.auditor_data.popularity()[item]),
        "top": seen.top[item],
        "evidence": {name: (finding.scores[name][item - 1], finding.evidences[name][item - 1]) for name in finding.scores},
        "anomaly": inverted.index[index],
        "effort": inverted.effort[index],
        "trigger": _name(interactions, int(inverted.trigger[index])),
        "lifted": inverted.lifted[index],
    }


def _name(interactions: Interactions, item: int) -> str:
    title = " ".join(str(interactions.titles[item]).split())
    return title or str(interactions.item_ids[item])


def _figures(finding: AuditResult):
    """(title, caption, figure) of each that makes sense."""
    yield "Exposure against popularity", texts.EXPOSURE_FIGURE, _exposure_figure(finding)
    yield "Score of every item", texts.SCORE_FIGURE, _score_figure(finding)
    if finding.named.candidates:
        yield "Who is shown the suspects", texts.GROUP_FIGURE, _group_figure(finding)


def _exposure_figure(finding: AuditResult) -> Figure:
    seen = finding.views[AS_IT_COMES]
    figure, axes = style.panels(1, width=6.5)
    x, y = log_popularity(seen), mean_over_std(seen.mean, seen.deviation)
    x = x + np.random.default_rng(0).uniform(-0.12, 0.12, len(x))  # counts are few: points would cover each other
    axes = axes[0, 0]
    _scatter(axes, x, y, finding.flagged)
    axes.set_xlabel("log(1 + own histories with the item), spread a little")
    axes.set_ylabel("mean_over_std of exposure")
    style.legend_below(figure)
    return figure


def _score_figure(finding: AuditResult) -> Figure:
    figure, axes = style.panels(1, width=6.5)
    axes = axes[0, 0]
    order = np.argsort(-finding.score, kind="stable")
    _scatter(axes, np.arange(1, len(order) + 1), finding.score[order], finding.flagged[order])
    axes.set_xscale("log")
    axes.set_xlabel("place (log scale)")
    axes.set_ylabel("combined score")
    style.legend_below(figure)
    return figure


def _scatter(axes, x, y, flagged) -> None:
    axes.plot(x[~flagged], y[~flagged], ".", color=OTHER, markersize=4, label="not flagged", rasterized=True)
    if flagged.any():
        axes.plot(x[flagged], y[flagged], "o", color=SUSPECT, markersize=6, label="flagged")


def _group_figure(finding: AuditResult) -> Figure:
    candidates = finding.named.candidates[::-1]
    figure, axes = style.panels(1, width=6.5, height=0.32 * len(candidates) + 0.6)
    axes = axes[0, 0]
    for place, (group, users, effect, error) in enumerate(candidates):
        colour = SUSPECT if group == finding.named.group else OTHER
        axes.errorbar(effect, place, xerr=1.96 * error, fmt="o", color=colour, capsize=3)
        candidates[place] = (f"{style.plain(group)} (n={users})", users, effect, error)
    axes.set_yticks(range(len(candidates)), [label for label, *_ in candidates])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("exposure of the suspects beyond other users, in standard deviations")
    return figure


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return base64.b64encode(buffer.getvalue()).decode()
