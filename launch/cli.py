"""The console command `prec-backdoor PROGRAM [--flag=value ...]`, which runs a program of this package.

prec-backdoor experiment --dataset=ml-100k    is    python -m launch.experiment --dataset=ml-100k
"""

import ast
import importlib
import sys
from pathlib import Path

from .pipes import quiet_pipe

PROGRAMS = (
    "experiment",
    "reproduce",
    "pretrain",
    "optimize_trigger",
    "implant",
    "edit",
    "prompt_tune",
    "finetune",
    "evaluate",
    "audit",
    "repair",
    "audit_benchmark",
    "make_zoo",
    "score_verdicts",
    "import_checkpoint",
    "export_checkpoint",
    "recommend",
    "prepare_data",
    "benchmark",
)


def main() -> None:
    """Runs the program that the first argument names; without one, or with --help, lists all programs."""
    name, arguments = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name in ("--help", "-h", "help"):
        with quiet_pipe():
            print(listing())
        sys.exit(0)
    if name not in PROGRAMS:
        sys.exit(_fail(f"no program {name!r}; choose one of {', '.join(PROGRAMS)}"))
    program = importlib.import_module(f".{name}", __package__)
    sys.argv = [f"prec-backdoor {name}", *arguments]
    importlib.import_module(".app", __package__).run(program.main, program.define_flags, program)


def listing() -> str:
    """Returns each program with the first line of its description, without importing it."""
    lines = ["usage: prec-backdoor PROGRAM [--flag=value ...]", ""]
    for name in PROGRAMS:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        lines.append(f"  {name:<17} {ast.get_docstring(ast.parse(source)).splitlines()[0]}")
    return "\n".join([*lines, "", "prec-backdoor PROGRAM --help lists a program's flags."])


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2


if __name__ == "__main__":
    main()
