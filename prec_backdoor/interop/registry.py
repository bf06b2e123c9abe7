"""Formats of checkpoints that are read. A new one is a file and a line in FORMATS."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from prec_backdoor.errors import UserError
from prec_backdoor.interop import gsasrec, pmixer, recbole, rectools
from prec_backdoor.interop.weights import Imported, find_tensors
from prec_backdoor.models import backbone

OPTIONS = ("num_heads", "max_length", "version")  # what a user may have to say, as a file of some format does not


class Format(NamedTuple):
    """`fits(content)`: whether content is of this format; `convert(content, options)` returns its model or raises a UserError."""

    fits: Callable[[Any], bool]
    convert: Callable[[Any, Mapping[str, Any]], Imported]


FORMATS = {
    "recbole": Format(recbole.fits, recbole.convert),
    "rectools": Format(rectools.fits, rectools.convert),
    "gsasrec": Format(gsasrec.fits, gsasrec.convert),
    "pmixer": Format(pmixer.fits, pmixer.convert),
}


def convert(content: Any, name: str = "auto", options: Mapping[str, Any] | None = None) -> tuple[str, Imported]:
    """Returns the format and the model of what `read_torch` returned.

    Args:
      name: a key of FORMATS, or "auto" for the one that fits.
      options: of OPTIONS, those that are given; None stands for "not given".

    Raises:
      UserError: in one line without the path, why there is no such model in it.
    """
    fitting = [each for each, entry in FORMATS.items() if entry.fits(content)]
    if name == "auto" and len(fitting) == 1:
        name = fitting[0]
    if name not in fitting:
        raise UserError(_unknown(content, name, fitting))
    found = FORMATS[name].convert(content, options or {})
    backbone(found.model)  # checks the configuration
    return name, found


def _unknown(content: Any, name: str, fitting: list[str]) -> str:
    if name != "auto" and name not in FORMATS:
        return f"--format: must be one of auto, {', '.join(FORMATS)}, got {name!r:.40}"
    tensors = sorted(find_tensors(content))
    if not tensors:
        return "the file has no state dict (named tensors); save the model's state_dict() with torch.save"
    if fitting:
        return f"--format: the file's tensors are those of {' or '.join(fitting)}; give --format={fitting[0]}"
    return f"an unknown architecture with {len(tensors)} tensors, such as {tensors[0][:100]!r}; {', '.join(FORMATS)} are read"
