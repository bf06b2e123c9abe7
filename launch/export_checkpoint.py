"""Exports a checkpoint as safetensors, and beside it one JSON with architecture, vocabulary and origin.

launch.import_checkpoint reads both back, bit for bit.

Examples:
  python -m launch.export_checkpoint --checkpoint=runs/a/pretrain --output=model.safetensors
  python -m launch.export_checkpoint --checkpoint=runs/theirs/imported --output=theirs.safetensors
  python -m launch.export_checkpoint --checkpoint=runs/repaired/repair --output=repaired/model.safetensors
"""

from pathlib import Path

from absl import flags

from prec_backdoor.errors import UserError
from prec_backdoor.interop.exchange import export
from prec_backdoor.storage import checkpoints

from . import app, flag


def define_flags() -> None:
    flag.define("checkpoint", None, "data", "Stage folder to export, such as runs/a/pretrain.", str, required=True)
    flag.define("output", None, "output", "File to write, NAME.safetensors; NAME.json is written beside it.", str, required=True)


def main() -> None:
    path = Path(flags.FLAGS.output).expanduser()
    if path.suffix != ".safetensors":
        raise UserError(f"--output: {path}: give a name that ends with .safetensors")
    checkpoint = checkpoints.load(flags.FLAGS.checkpoint, finished=True)
    export(checkpoint, path)
    print(f"exported  {path}, {path.with_suffix('.json')}  (content {checkpoint.metadata['hash'][:16]})")


if __name__ == "__main__":
    app.run(main, define_flags)
