"""Reads metrics.jsonl: what was recorded of a stage, epoch by epoch."""

import json

from prec_backdoor.reporting.cells import Run
from prec_backdoor.storage import workdir as work


def recorded(run: Run, stage: str) -> dict[str, dict[int, dict]]:
    """Returns model's folder -> step -> the last record of that step; empty without metrics.jsonl."""
    path, found = run.folder / "metrics.jsonl", {}
    if not path.exists():
        return {}
    with open(path) as file:
        for line in file:
            record = json.loads(line)
            if record["stage"] == stage:
                found.setdefault(record["run"], {})[record["step"]] = record
    return found


def model_folder(row: dict) -> str:
    """Returns the folder of a row's model, as metrics.jsonl names it."""
    return f"seed-{row['seed']}/{work.model_name(row)}"
