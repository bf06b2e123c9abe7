"""Checkpoints of other programs: read as data, never run, and converted to models of this one."""

from prec_backdoor.interop.placeholder import Placeholder
from prec_backdoor.interop.torch_file import read_torch

__all__ = ["Placeholder", "read_torch"]
