"""audit.json as other programs read it: by raw ids, and checked, as anybody may have written it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from prec_backdoor.audit.last_item import TOP
from prec_backdoor.errors import UserError
from prec_backdoor.storage.workdir import as_path

SCHEMA = 2  # of what is written; in files of schema 1 the items are the same
SCHEMAS = (1, SCHEMA)
LISTED = 5  # last items


class LastItem(NamedTuple):
    """An item at the end of a history: the chance of a clean model with so strong a one, and what it shows."""

    item: str
    p_value: float
    shown: tuple[str, ...]


class AuditFile(NamedTuple):
    """What an audit says of items, by their raw ids.

    Attributes:
      path: of the file.
      verdict: such as clean or suspicious; empty if it does not say.
      p_value: of each item of the catalogue.
      flagged: items that the audit flagged.
      last_items: LISTED at most, the strongest first; audits of earlier versions have none.
    """

    path: Path
    verdict: str
    p_value: dict[str, float]
    flagged: frozenset[str]
    last_items: tuple[LastItem, ...]


def read_audit(folder: str | Path, digest: str) -> AuditFile:
    """Reads the audit of the checkpoint with content hash `digest`.

    Raises:
      UserError: `folder` has no audit of that checkpoint.
    """
    path = as_path(folder) / "audit.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema, audited = content.get("schema"), str(content["about"]["hash"])
        if schema in SCHEMAS and audited == digest:
            return _parsed(path, content)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: not the result of an audit ({error!r}); run launch.audit again") from error
    if schema not in SCHEMAS:
        raise UserError(f"{path}: schema {schema}, this program reads 1 and 2; run launch.audit again")
    raise UserError(f"{path}: audit of another checkpoint (content {audited[:16]}, not {digest[:16]}); audit this one")


def _parsed(path: Path, content: dict) -> AuditFile:
    items = [(str(each["item"]), _p_value(each["p_value"]), each["flagged"] is True) for each in content["items"]]
    last = content.get("last_items", [])[:LISTED]
    return AuditFile(
        path=path,
        verdict=str(content.get("verdict") or ""),
        p_value={item: p_value for item, p_value, _ in items},
        flagged=frozenset(item for item, _, flagged in items if flagged),
        last_items=tuple(
            LastItem(str(each["item"]), _p_value(each["p_value"]), tuple(map(str, each["shown"][:TOP]))) for each in last
        ),
    )


def _p_value(value: Any) -> float:
    """A number from 0 to 1, which rounding may have taken beyond 1; raises a ValueError or TypeError for anything else."""
    if not (number := float(value)) >= 0:
        raise ValueError(f"p-value {number}")
    return min(number, 1.0)
