"""audit.json, for programs: the verdict, the evidence, and how reliable they are.

`reading.py` reads it, `page.py` makes audit.html of it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prec_backdoor.audit.audit import AuditResult
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.page import page
from prec_backdoor.audit.power import FOUND
from prec_backdoor.audit.reading import LISTED, SCHEMA
from prec_backdoor.audit.views import AS_IT_COMES
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.storage.workdir import as_path, replacing, write_json


def write_audit(
    folder: str | Path,
    result: AuditResult,
    interactions: Interactions,
    config: AuditConfig,
    about: dict,
    more: Mapping[str, Any] | None = None,
) -> dict:
    """Writes audit.html, then audit.json, which marks a finished audit; returns the content of the latter.

    Args:
      about: shown as facts: "checkpoint" path and "hash", "stage", "dataset", ..
      more: further entries: "next", what to do next as a list of "why" and "command"; "worth" of `worth_of`, "rounded",
        "finetuned", "baseline"; "unseen" of `Aligned`; what was not looked at is left out.
    """
    folder, content = as_path(folder), as_json(result, interactions, config, about) | {"next": [], **(more or {})}
    with replacing(folder / "audit.html") as partial:
        partial.write_text(page(content, result, interactions), encoding="utf-8")
    write_json(folder / "audit.json", content)
    return content


def as_json(result: AuditResult, interactions: Interactions, config: AuditConfig, about: dict) -> dict:
    """The content of audit.json: the verdict, and every item of the catalogue, highest score first."""
    order = np.argsort(-result.score, kind="stable")
    attribution, verdict = result.attribution, result.verdict
    return {
        "schema": SCHEMA,
        "verdict": verdict.word,
        "group": attribution.group,
        "about": about,
        "users": len(result.views[AS_IT_COMES].user_vectors),
        "flagged": int(result.flagged.sum()),
        "model": {
            "statistic": verdict.statistic,
            "p_value": verdict.p_value,
            "p_backdoored": verdict.p_backdoored,
            "least_p_value": verdict.least_p_value,
            "level": verdict.level,
            "clean_models": len(verdict.clean),
            "as_extreme": int((verdict.clean >= verdict.own).sum()),
            "clean": verdict.clean.tolist(),
            "own": verdict.own.tolist(),
        },
        "power": None if result.power is None else result.power._asdict() | {"share": FOUND, "found": result.power.found},
        "flagged_in_clean": result.flagged_in_clean,
        "settings": vars(config)
        | {"calibration_models": len(verdict.clean), "power_models": _number(result.power)}
        | {"panel_seed": None if config.panel_seed is None else "secret"},
        "views": list(result.views),
        "group_p_value": attribution.p_value,
        "groups_likely": list(attribution.likely),
        "groups_narrowed": attribution.narrowed,
        "groups": [dict(zip(("group", "users", "effect", "error"), each, strict=True)) for each in attribution.candidates],
        "last_items": _last_items(result, interactions),
        "closeness": dict(zip(("suspects", "random"), result.closeness, strict=True)),
        "triggers": [
            {
                "item": str(interactions.item_ids[item]),
                "anomaly_index": float(result.inverted.index[index]),
                "effort": float(result.inverted.effort[index]),
                "trigger": str(interactions.item_ids[result.inverted.trigger[index]]) if result.inverted.trigger[index] else None,
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


def trigger_items(result: AuditResult, level: float) -> np.ndarray:
    """Codes of the items that call up others from the end of a history, with p-values of at most `level`."""
    strong = [index for index, p_value in _strongest(result) if p_value <= level]
    return result.observed.last_items.items[strong]


def _last_items(result: AuditResult, interactions: Interactions) -> list[dict[str, Any]]:
    """The strongest items at the end of a history, and what they show."""
    found = result.observed.last_items
    return [
        {
            "item": str(interactions.item_ids[found.items[index]]),
            "strength": float(found.strength[index]),
            "p_value": p_value,
            "shown": [str(interactions.item_ids[item]) for item in found.shown[index]],
        }
        for index, p_value in _strongest(result)
    ]


def _strongest(result: AuditResult) -> list[tuple[int, float]]:
    """The place of each of the LISTED strongest last items, and the chance of a clean model with so strong a one."""
    chances = len(result.last_item_p)
    order = np.argsort(-result.observed.last_items.strength, kind="stable")[:LISTED]
    return [(int(index), min(float(chances * result.last_item_p[index]), 1.0)) for index in order]


def _number(power: Any) -> int:
    return len(power.attacks) if power else 0
