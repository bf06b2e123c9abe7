"""User groups given by profile attributes: `occupation=student,age=20-39`."""

import re

import numpy as np

from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError


def parse_group(interactions: Interactions, expression: str) -> np.ndarray:
    """[U] bool: the users that meet every condition of `expression` (conditions joined by commas).

    A condition is `attribute=value`; for attributes whose values are numbers or ranges also `attribute=low-high`, which takes
    all values that lie within.

    Raises:
      UserError: not a condition, an unknown attribute or value (the valid ones are listed), or nobody meets them all.
    """
    members = np.ones(interactions.num_users, bool)
    for condition in expression.split(","):
        name, equals, value = (part.strip() for part in condition.partition("="))
        if not equals or not value:
            raise UserError(f"--group: '{condition}' is not attribute=value, for example occupation=student")
        if name not in interactions.attributes:
            known = ", ".join(interactions.attributes) or "none: this dataset has no profiles"
            raise UserError(f"--group: {interactions.name} has no profile attribute '{name}'; it has {known}")
        codes = _codes(interactions.attributes[name], value)
        if not codes:
            known = ", ".join(interactions.attributes[name])
            raise UserError(f"--group: {name} has no value '{value}' in {interactions.name}; it has {known}")
        column = list(interactions.attributes).index(name)
        members &= np.isin(interactions.profile[:, column], codes)
    if not members.any():
        raise UserError(f"--group: no user of {interactions.name} meets {expression}; loosen the conditions")
    return members


def _codes(vocabulary: tuple[str, ...], value: str) -> list[int]:
    if value in vocabulary:
        return [vocabulary.index(value)]
    wanted = _span(value)
    spans = ((code, _span(known)) for code, known in enumerate(vocabulary))
    return [code for code, span in spans if wanted and span and wanted[0] <= span[0] and span[1] <= wanted[1]]


def _span(value: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", value)
    return match and (int(match[1]), int(match[2] or match[1]))
