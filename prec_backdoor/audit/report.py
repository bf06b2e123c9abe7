"""audit.json, for programs, and audit.html, for people: the verdict, the evidence, and how reliable they are."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from prec_backdoor.audit import texts
from prec_backdoor.audit.audit import AuditResult
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.figures import all_figures
from prec_backdoor.audit.views import AS_IT_COMES
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.reporting.pages import template
from prec_backdoor.storage.workdir import as_path, replacing, write_json

SCHEMA = 1


def write_audit(folder: str | Path, result: AuditResult, interactions: Interactions, config: AuditConfig, about: dict) -> dict:
    """Writes audit.html, then audit.json, which marks a finished audit; returns the content of the latter.

    Args:
      about: shown as facts: "checkpoint" path and "hash", "stage", "dataset", ..
    """
    folder, content = as_path(folder), as_json(result, interactions, config, about)
    values = {
        "content": content,
        "suspects": [_suspect(result, interactions, index) for index in range(len(result.suspects))],
        "audits": {name: texts.AUDITS.get(name, (name, ""))[0] for name in result.scores},
        "words": texts.words(result.scores),
        "verdict": texts.verdict(content),
        "limits": texts.LIMITS,
        "figures": [(title, caption, _png(figure)) for title, caption, figure in all_figures(result)],
    }
    with replacing(folder / "audit.html") as partial:
        partial.write_text(template("audit.html").render(values), encoding="utf-8")
    write_json(folder / "audit.json", content)
    return content


def as_json(result: AuditResult, interactions: Interactions, config: AuditConfig, about: dict) -> dict:
    """The content of audit.json: the verdict, and every item of the catalogue, highest score first."""
    order = np.argsort(-result.score, kind="stable")
    attribution = result.attribution
    return {
        "schema": SCHEMA,
        "verdict": "suspicious" if result.suspicious else "clean",
        "group": attribution.group,
        "about": about,
        "flagged": int(result.flagged.sum()),
        "error_rates": result.error_rates._asdict(),
        "settings": vars(config) | {"calibration_models": result.error_rates.models},
        "views": list(result.views),
        "group_p_value": attribution.p_value,
        "groups": [dict(zip(("group", "users", "effect", "error"), each, strict=True)) for each in attribution.candidates],
        "closeness": dict(zip(("suspects", "random"), result.closeness, strict=True)),
        "triggers": [
            {
                "item": str(interactions.item_ids[item]),
                "anomaly_index": float(result.inverted.index[index]),
                "effort": float(result.inverted.effort[index]),
                "trigger": str(interactions.item_ids[result.inverted.trigger[index]]),
                "lifted": float(result.inverted.lifted[index]),
            }
            for index, item in enumerate(result.suspects)
        ],
        "items": [
            {
                "item": str(interactions.item_ids[index + 1]),
                "score": float(result.score[index]),
                "p_value": float(result.p_value[index]),
                "flagged": bool(result.flagged[index]),
                "audits": {name: float(value[index]) for name, value in result.scores.items()},
            }
            for index in order
        ],
    }


def read_suspects(folder: str | Path, interactions: Interactions, digest: str, level: float) -> np.ndarray:
    """[N] codes of the items whose p-value is at most `level` in the audit of the checkpoint with content hash `digest`.

    Raises:
      UserError: `folder` has no audit of that checkpoint, or no item has such a p-value.
    """
    path, listed = _read_items(folder, digest, {"item": str, "p_value": float})
    codes = {raw: code for code, raw in enumerate(interactions.item_ids.tolist()) if code}
    suspects = sorted(codes[item] for item, p_value in listed if p_value <= level and item in codes)
    if not suspects:
        raise UserError(f"{path}: no item has a p-value of at most {level:g}; nothing to repair, or raise --p_value")
    return np.array(suspects, np.int32)


def read_flagged(folder: str | Path, digest: str) -> set[str]:
    """Returns the raw ids of the items that the audit of the checkpoint with content hash `digest` flagged.

    Raises:
      UserError: `folder` has no audit of that checkpoint.
    """
    return {item for item, flagged in _read_items(folder, digest, {"item": str, "flagged": bool})[1] if flagged}


def _read_items(folder: str | Path, digest: str, entries: dict[str, type]) -> tuple[Path, list[tuple]]:
    """The path of an audit.json, and these entries of all its items."""
    path = as_path(folder) / "audit.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        audited = str(content["about"]["hash"])
        listed = [tuple(kind(each[name]) for name, kind in entries.items()) for each in content["items"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the result of an audit ({error!r}); run launch.audit again") from error
    if audited != digest:
        raise UserError(f"{path}: audit of another checkpoint (content {audited[:16]}, not {digest[:16]}); audit this one")
    return path, listed


def _suspect(result: AuditResult, interactions: Interactions, index: int) -> dict:
    """A line of the table of suspects."""
    item, inverted, moments = int(result.suspects[index]), result.inverted, result.views[AS_IT_COMES]
    return {
        "item": str(interactions.item_ids[item]),
        "title": _title(interactions, item),
        "category": interactions.categories[interactions.category[item]],
        "flagged": bool(result.flagged[item - 1]),
        "score": result.score[item - 1],
        "p_value": result.p_value[item - 1],
        "popularity": int(moments.auditor_data.popularity()[item]),
        "top": moments.top_share[item],
        "audits": {name: (result.scores[name][item - 1], result.evidence[name][item - 1]) for name in result.scores},
        "anomaly": inverted.index[index],
        "effort": inverted.effort[index],
        "trigger": _title(interactions, int(inverted.trigger[index])) or str(interactions.item_ids[inverted.trigger[index]]),
        "lifted": inverted.lifted[index],
    }


def _title(interactions: Interactions, item: int) -> str:
    return " ".join(str(interactions.titles[item]).split())


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return base64.b64encode(buffer.getvalue()).decode()
