"""Imports a model of another program: RecBole, RecTools, gSASRec, SASRec.pytorch, or safetensors of this one.

The file is read as data: none of it is run, and torch is not needed. The result is WORKDIR/imported, a checkpoint like any other.

Examples:
  python -m launch.import_checkpoint --checkpoint=SASRec-Jan-01.pth --items=ids.txt --workdir=runs/theirs
  python -m launch.import_checkpoint --checkpoint=last.ckpt --format=rectools --workdir=runs/theirs
  python -m launch.import_checkpoint --checkpoint=model.safetensors --workdir=runs/theirs
"""

from absl import flags

from prec_backdoor.experiment.imported import STAGE, config_of, save_imported
from prec_backdoor.interop.exchange import NAMES, read_ids, read_model
from prec_backdoor.interop.pmixer import VERSIONS
from prec_backdoor.interop.registry import OPTIONS
from prec_backdoor.storage import workdir as work

from . import app, flag, output_flags


def define_flags() -> None:
    flag.define("checkpoint", None, "data", "File to import.", str, required=True)
    flag.define("format", "auto", "data", "Program that wrote the file; auto goes by the content.", choices=NAMES)
    help = "Text file of raw item ids, one a line in order of code from 1, for a file that does not have them."
    flag.define("items", None, "data", help, str)
    given = "For a file that does not say it"
    flag.define("num_heads", None, "model", f"{given}: number of attention heads.", int, minimum=1)
    flag.define("max_length", None, "model", f"{given}: length of the longest history, in items.", int, minimum=1)
    flag.define("version", None, "model", f"{given}: the version of SASRec.pytorch, by commit.", str, choices=list(VERSIONS))
    output_flags.define_flags(trains=False)


def main() -> None:
    options = {name: flags.FLAGS[name].value for name in OPTIONS}
    items = read_ids(flags.FLAGS["items"].value) if flags.FLAGS["items"].value is not None else None
    imported, vocabulary, source = read_model(flags.FLAGS.checkpoint, flags.FLAGS.format, items, options)
    print(f"found       {source.architecture}")
    folder = output_flags.workdir()
    description = {"config": config_of(imported.model).flat(), "source": {**source._asdict(), "items": vocabulary.hash()}}
    with work.claimed(folder, description, STAGE):
        digest = save_imported(folder / STAGE, imported, vocabulary, source)
    print(f"checkpoint  {folder / STAGE}  (content {digest[:16]})")


if __name__ == "__main__":
    app.run(main, define_flags)
