"""audit.json, for programs: the verdict, the evidence, and how reliable they are; `page.py` makes audit.html of it."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prec_backdoor.audit.audit import AuditResult
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.last_item import TOP
from prec_backdoor.audit.page import page
from prec_backdoor.audit.power import FOUND
from prec_backdoor.audit.views import AS_IT_COMES
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.storage.workdir import as_path, replacing, write_json

SCHEMA = 2  # files of schema 1 are read too: their items are the same
SCHEMAS = (1, SCHEMA)
LISTED = 5  # last items


class Trigger(NamedTuple):
    """An item that an audit found to call up others from the end of a history: its code, and theirs [N]."""

    item: int
    shown: np.ndarray


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


def read_triggers(folder: str | Path, interactions: Interactions, digest: str, level: float) -> list[Trigger]:
    """The last items whose p-value is at most `level` in the same audit, LISTED at most, the strongest first.

    Items that are not in the catalogue are left out. Audits of earlier versions have none.

    Raises:
      UserError: `folder` has no audit of that checkpoint.
    """
    path, content = _read(folder, digest)
    with _complaints(path):
        listed = content.get("last_items", [])[:LISTED]
        strong = [(str(each["item"]), map(str, each["shown"][:TOP])) for each in listed if float(each["p_value"]) <= level]
    codes, found = {raw: code for code, raw in enumerate(interactions.item_ids.tolist()) if code}, []
    for item, shown in strong:
        known = [codes[each] for each in dict.fromkeys(shown) if each in codes and each != item]
        found += [Trigger(codes[item], np.array(known, np.int32))] if known and item in codes else []
    return found


def read_flagged(folder: str | Path, digest: str) -> set[str]:
    """Returns the raw ids of the items that the audit of the checkpoint with content hash `digest` flagged.

    Raises:
      UserError: `folder` has no audit of that checkpoint.
    """
    return {item for item, flagged in _read_items(folder, digest, {"item": str, "flagged": bool})[1] if flagged}


def trigger_items(result: AuditResult, level: float) -> np.ndarray:
    """Codes of the items of what `read_triggers` reads of the same audit."""
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


def _read_items(folder: str | Path, digest: str, entries: dict[str, type]) -> tuple[Path, list[tuple]]:
    """The path of an audit.json, and these entries of all its items."""
    path, content = _read(folder, digest)
    with _complaints(path):
        return path, [tuple(kind(each[name]) for name, kind in entries.items()) for each in content["items"]]


def _read(folder: str | Path, digest: str) -> tuple[Path, dict]:
    """The path and the content of an audit.json."""
    path = as_path(folder) / "audit.json"
    with _complaints(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        schema, audited = content.get("schema"), str(content["about"]["hash"])
    if schema not in SCHEMAS:
        raise UserError(f"{path}: schema {schema}, this program reads 1 and 2; run launch.audit again")
    if audited != digest:
        raise UserError(f"{path}: audit of another checkpoint (content {audited[:16]}, not {digest[:16]}); audit this one")
    return path, content


@contextlib.contextmanager
def _complaints(path: Path) -> Iterator[None]:
    """Says in one line that a file is no audit's."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not the result of an audit ({error!r}); run launch.audit again") from error
