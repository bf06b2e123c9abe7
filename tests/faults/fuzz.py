"""Feeds damaged raw files and checkpoints to every reader and holds what comes out against invariants and an independent parser.

    python -m tests.faults.fuzz --inputs=10000 [--readers=aliec,cikm] [--seed=0]

Any bytes must give a correct dataset or model, or one clear UserError. Exit status 1 when anything else came out; the last line
counts.
"""

import argparse
import faulthandler
import functools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from prec_backdoor.data import aliec, cikm, lines, ml_1m, ml_100k, presplit, recbole
from prec_backdoor.data.interactions import UNKNOWN, Interactions
from prec_backdoor.errors import UserError

from . import checkpoint_files, naive, naive_atomic, sound_files  # as tests.faults from the command line, as faults in pytest
from .mutations import mutated

SLOW = 5  # seconds of processor time for files of some kilobytes: a hang
STUCK = 600  # seconds until the whole run gives up with a traceback
SMALL_BATCHES = 0.1  # share of inputs that are read a line or two at a time, which takes ten times as long


class Case(NamedTuple):
    """A reader, sound files for it, their separator, and the parser that it must agree with."""

    read: Callable
    files: dict[str, bytes]
    separator: bytes
    oracle: Callable | None
    whole: bool = True  # the parser knows all files; otherwise only sequences, and only of what the reader accepts
    broken: Callable | None = None  # accepted value -> what does not hold of it; None for a dataset
    mutate: Callable = mutated


def cases() -> dict[str, Case]:
    rng = random.Random(0)
    return {
        "aliec": Case(aliec.read, sound_files.aliec(rng), b",", naive.aliec),
        "cikm": Case(cikm.read, sound_files.cikm(rng), b",", naive.cikm),
        "ml-100k": Case(ml_100k.read, sound_files.ml_100k(rng), b"|", naive.ml_100k),
        "ml-1m": Case(ml_1m.read, sound_files.ml_1m(rng), b"::", naive.ml_1m),
        "recbole": Case(recbole.read, sound_files.recbole(rng), b"	", naive_atomic.recbole, whole=False),
        "presplit": Case(presplit.read, sound_files.presplit(rng), b",", None),
        "recbole-csv": Case(recbole.read, sound_files.recbole_csv(rng), b",", naive_atomic.recbole, whole=False),
        "benchmark": Case(recbole.read, sound_files.benchmark(rng), b"	", naive_atomic.benchmark, whole=False),
        **checkpoints(),
    }


def checkpoints() -> dict[str, Case]:
    """Checkpoints of other programs."""
    broken, mutate = checkpoint_files.broken_checkpoint, checkpoint_files.mutated_checkpoint
    found = {}
    for name, (file, options) in checkpoint_files.CHECKPOINTS.items():
        read = functools.partial(checkpoint_files.read_checkpoint, options)
        files = {"model.pth": (checkpoint_files.FIXTURES / file).read_bytes()}
        found[name] = Case(read, files, b",", None, broken=broken, mutate=mutate)
    export = checkpoint_files.broken_export, checkpoint_files.mutated_export
    read = checkpoint_files.read_exported
    return found | {"safetensors": Case(read, checkpoint_files.exported(), b",", None, broken=export[0], mutate=export[1])}


def verdict(case: Case, files: dict[str, bytes], folder: Path, skip: bool) -> tuple[str, str]:
    """What came of `files`, laid into `folder`: accepted or refused, or else crash, hang or wrong; and why."""
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    skipped, started = Counter() if skip else None, time.process_time()
    try:
        found, refusal = case.read(folder, skipped), ""
    except UserError as error:
        found, refusal = None, str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "crash", f"{type(error).__name__}: {error}"
    if time.process_time() - started > SLOW:
        return "hang", f"{time.process_time() - started:.1f} s"
    if refusal and ("\n" in refusal or len(refusal) > 1_000 or not (str(folder) in refusal or refusal.startswith("dataset "))):
        return "crash", f"an unclear error: {refusal}"
    wrong = found and (case.broken or _broken_invariant)(found)
    if not wrong and case.oracle and not skipped:
        wrong = _disagreement(found, naive.parsed(case.oracle, files), case.whole, refusal)
    return ("wrong", wrong) if wrong else ("accepted" if found else "refused", refusal)


def _broken_invariant(data: Interactions) -> str:
    users, items = data.user_ids.tolist(), data.item_ids.tolist()
    checks = {
        "no interaction": len(data.items) > 0,
        "offsets": data.offsets[0] == 0 and data.offsets[-1] == len(data.items) and (np.diff(data.offsets) > 0).all(),
        "item codes": set(data.items.tolist()) == set(range(1, len(items))),
        "user ids": len(set(users)) == len(users) and "" not in users,
        "item ids": len(set(items)) == len(items) and items[0] == "" and "" not in items[1:],
        "categories": data.category.min() >= 0 and data.category.max() < len(data.categories) and data.category[0] == 0,
        "profile": all(
            column.min() >= 0 and column.max() < len(values) and values[0] == UNKNOWN and len(set(values)) == len(values)
            for column, values in zip(data.profile.T, data.attributes.values(), strict=True)
        ),
        "order of the split": data.split is None
        or all((np.diff(data.split[start:stop]) >= 0).all() for start, stop in zip(data.offsets, data.offsets[1:], strict=False)),
    }
    return ", ".join(name for name, holds in checks.items() if not holds)


def _disagreement(found: Interactions | None, expected: naive.Naive | None, whole: bool, refusal: str) -> str:
    if found is None or expected is None:
        if not whole and found is None:  # for a fault in a file that the parser does not read
            return ""
        return "" if found is expected else f"refused ({refusal})" if expected else "accepted what must be refused"
    items = found.item_ids.tolist()
    sequences = {
        user: [items[code] for code in found.sequence(index).tolist()] for index, user in enumerate(found.user_ids.tolist())
    }
    if sequences != {str(user): list(map(str, of_user)) for user, of_user in expected.sequences.items()}:
        return "other sequences"
    if not whole:
        return ""
    wanted = [{**expected.profiles.get(user, {})} for user in expected.sequences]
    places = {user: index for index, user in enumerate(found.user_ids.tolist())}
    for user, profile in zip(expected.sequences, wanted, strict=True):
        codes = found.profile[places[str(user)]]
        has = {name: values[code] for code, (name, values) in zip(codes, found.attributes.items(), strict=True) if code}
        if any(has.get(name) != value for name, value in profile.items()):
            return f"another profile of {user}"
    categories = {items[code]: found.categories[category] for code, category in enumerate(found.category.tolist()) if category}
    return "" if categories == {str(item): category for item, category in expected.categories.items()} else "other categories"


def fuzz(name: str, inputs: int, seed: int, folder: Path, bar: tqdm | None = None) -> tuple[Counter, list[str]]:
    """Counts of verdicts over `inputs` mutations, half of them read with rows skipped, and a line for each that must not be."""
    case, outcomes, faults = cases()[name], Counter(), []
    folder.mkdir(exist_ok=True)
    whole_batches = lines.BATCH_BYTES
    try:
        for number in range(inputs):
            rng = random.Random(f"{seed} {name} {number}")
            faulthandler.dump_traceback_later(STUCK, exit=True)
            lines.BATCH_BYTES = rng.choice((64, 7)) if rng.random() < SMALL_BATCHES else whole_batches
            outcome, why = verdict(case, case.mutate(case.files, case.separator, rng), folder, skip=bool(number % 2))
            outcomes[outcome] += 1
            if outcome not in ("accepted", "refused"):
                faults.append(f"{name}, input {number} of seed {seed}: {outcome}, {why}"[:400])
            if bar is not None:
                bar.update()
    finally:
        lines.BATCH_BYTES = whole_batches
        faulthandler.cancel_dump_traceback_later()
    return outcomes, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000, help="inputs for each reader")
    parser.add_argument("--readers", default=",".join(cases()), help="some of the readers")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    total, names = Counter(), flags.readers.split(",")
    with tempfile.TemporaryDirectory() as folder, tqdm(total=flags.inputs * len(names), disable=None, leave=False) as bar:
        for name in names:
            bar.set_description(name)
            outcomes, faults = fuzz(name, flags.inputs, flags.seed, Path(folder) / name, bar)
            print(f"{name:<18}{outcomes['accepted']:>8} accepted {outcomes['refused']:>8} refused", *faults, sep="\n", flush=True)
            total += outcomes
    print(
        f"{flags.inputs} inputs each, {total['crash']} crashes, {total['hang']} hangs, {total['wrong']} wrong datasets or models"
    )
    return int(any(total[fault] for fault in ("crash", "hang", "wrong")))


if __name__ == "__main__":
    sys.exit(main())
