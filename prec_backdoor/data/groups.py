"""User groups given by profile attributes: `occupation=student,age=20-39`."""

import re

import numpy as np

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError

_SPECIAL = (",", "=", '"', "\\")  # taken as they are after a backslash


def parse_group(interactions: Interactions, expression: str) -> np.ndarray:
    """Returns [U] bool: the users that meet every condition of `expression` (see `conditions`).

    For attributes whose values are numbers or ranges, `attribute=low-high` takes all values that lie within.

    Raises:
      UserError: not a condition, an unknown attribute or value (the valid ones are listed), or nobody meets them all.
    """
    members = np.ones(interactions.num_users, bool)
    for name, value in conditions(expression):
        if name not in interactions.attributes:
            known = ", ".join(interactions.attributes) or "none: this dataset has no profiles"
            raise UserError(f"--group: {interactions.name} has no profile attribute '{name}'; it has {known}")
        codes = _codes(interactions.attributes[name], value)
        if not codes:
            known = ", ".join(f'"{known}"' if "," in known else known for known in interactions.attributes[name])
            raise UserError(f"--group: {name} has no value '{value}' in {interactions.name}; it has {known}")
        column = list(interactions.attributes).index(name)
        members &= np.isin(interactions.profile[:, column], codes)
    if not members.any():
        raise UserError(f"--group: no user of {interactions.name} meets {expression}; loosen the conditions")
    return members


def conditions(expression: str) -> list[tuple[str, str]]:
    """Returns (attribute, value) of each condition `attribute=value` of an expression, joined by commas.

    A value with a comma stands in double quotes, or has a backslash before the comma: `job="sales, marketing"`. A backslash
    before a comma, an equals sign, a double quote or a backslash takes that character as it is.

    Raises:
      UserError: a part that is not attribute=value, or a quote that is not closed.
    """
    found = []
    for condition in _split(expression, ","):
        name, *value = _split(condition, "=")
        name, value = (_plain(part) for part in (name, "=".join(value)))
        if not name or not value:
            raise UserError(
                f"--group: '{condition.strip()}' is not attribute=value, for example occupation=student; "
                'a value with a comma stands in double quotes, job="sales, marketing"'
            )
        found.append((name, value))
    return found


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that are neither quoted nor after a backslash; quotes and backslashes stay."""
    parts, quoted, at = [""], False, 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in _SPECIAL:
            parts[-1] += text[at : at + 2]
            at += 2
            continue
        is_start = not parts[-1].strip() or parts[-1].rstrip().endswith("=")
        if text[at] == '"' and (quoted or is_start):
            quoted = not quoted
        if text[at] == separator and not quoted:
            parts.append("")
        else:
            parts[-1] += text[at]
        at += 1
    if quoted:
        raise UserError(f"--group: the double quote in {text.strip()!r} is not closed; close it, or put a backslash before it")
    return parts


def _plain(text: str) -> str:
    """A part without the quotes around it and without the backslashes before special characters."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return re.sub(r'\\([,="\\])', r"\1", text)


def _codes(vocabulary: tuple[str, ...], value: str) -> list[int]:
    if value in vocabulary:
        return [vocabulary.index(value)]
    wanted = _span(value)
    spans = ((code, _span(known)) for code, known in enumerate(vocabulary))
    return [code for code, span in spans if wanted and span and wanted[0] <= span[0] and span[1] <= wanted[1]]


def _span(value: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", value)
    return match and (int(match[1]), int(match[2] or match[1]))
