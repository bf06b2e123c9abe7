"""Reads files of torch.save (torch 1.6 or later) without torch, and without running anything that they say.

`torch.load` runs code that the file chooses; with weights_only=True it had a hole until torch 2.5.1 (CVE-2025-32434), and refuses
RecBole's files. Here a file is numbers, texts and containers; whatever else it names becomes an inert `Placeholder`.
"""

import os
from pathlib import Path
from typing import Any

from prec_backdoor.errors import UserError
from prec_backdoor.interop.archive import Archive
from prec_backdoor.interop.pickle_machine import Machine
from prec_backdoor.interop.rebuild import Rebuilder, Storage


def read_torch(path: str | Path) -> Any:
    """Returns what torch.save wrote: nested dicts, lists, tuples, str, bytes, int, float, bool, None, numpy arrays, Placeholders.

    Tensors and parameters are arrays: read-only views of the mapped file (ml_dtypes.bfloat16 where torch has it). Numpy arrays of
    objects or texts are lists. An OrderedDict is a dict. Containers are shared where the file shares them; none holds itself.

    Raises:
      UserError: in one line, why this is no sound torch file, and what to do.
    """
    path = Path(os.path.expanduser(path))
    try:
        archive = Archive(path)
        if "data.pkl" not in archive:
            raise UserError("the archive has no entry 'data.pkl': it is no file of torch.save; give the checkpoint itself")
        if "constants.pkl" in archive:
            raise UserError("a TorchScript program, not a checkpoint; save its state_dict() with torch.save")
        rebuilder = Rebuilder(archive)
        found = Machine(rebuilder.call, rebuilder.build, rebuilder.storage).run(archive.read("data.pkl"))
        if isinstance(found, Storage):
            raise UserError("a bare storage, not a checkpoint; save the state_dict() of the model with torch.save")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(f"{path}: the file cannot be read ({reason})") from error
    return found
