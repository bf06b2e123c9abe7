"""Feeds damaged raw files to every reader and holds what comes out against invariants and an independent parser.

    python -m tests.faults.fuzz --inputs=10000 [--readers=aliec,cikm] [--seed=0]

Any bytes must give a correct dataset or one clear UserError. Exit status 1 when anything else came out; the last line counts.
"""

import argparse
import faulthandler
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

from . import naive  # as tests.faults from the command line, as faults in pytest

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


def cases() -> dict[str, Case]:
    rng = random.Random(0)
    return {
        "aliec": Case(aliec.read, _aliec(rng), b",", naive.aliec),
        "cikm": Case(cikm.read, _cikm(rng), b",", naive.cikm),
        "ml-100k": Case(ml_100k.read, _ml_100k(rng), b"|", naive.ml_100k),
        "ml-1m": Case(ml_1m.read, _ml_1m(rng), b"::", naive.ml_1m),
        "recbole": Case(recbole.read, _recbole(rng), b"\t", naive.recbole, whole=False),
        "presplit": Case(presplit.read, _presplit(rng), b",", None),
    }


def _table(rows, separator=",", header=None, encoding="utf-8") -> bytes:
    rows = [*([header] if header else []), *rows]
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode(encoding)


def _aliec(rng):
    profile = ["cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level", "occupation"]
    events = [
        (rng.randrange(1, 9), rng.randrange(90, 99), rng.randrange(1, 12), "430548_1007", 0, rng.randrange(2)) for _ in range(30)
    ]
    return {
        "raw_sample.csv": _table(events, header=["user", "time_stamp", "adgroup_id", "pid", "nonclk", "clk"]),
        "ad_feature.csv": _table(
            [(item, item % 4, 1, 1, "", 1.5) for item in range(90, 102)],
            header=["adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price"],
        ),
        "user_profile.csv": _table(
            [(user, 0, 5, rng.randrange(1, 3), rng.randrange(5), "", 3, 0, 3) for user in range(1, 10)],
            header=["userid", *profile, "new_user_class_level "],
        ),
    }


def _cikm(rng):
    behaviours = ("pv", "fav", "cart", "buy")
    return {
        "user_behavior.csv": _table(
            [(rng.randrange(1, 9), rng.randrange(200, 209), rng.choice(behaviours), rng.randrange(20)) for _ in range(30)]
        ),
        "user.csv": _table([(user, rng.choice("01"), rng.choice(["", 24, 35, 51]), 3) for user in range(1, 10)]),
        "item.csv": _table([(item, item % 5, 1, "") for item in range(200, 210)]),
    }


def _ml_100k(rng):
    flags = [[int(genre == rng.randrange(19)) for genre in range(19)] for _ in range(10)]
    items = [(item + 1, f"Film é {item}", "01-Jan-1995", "", "http://x", *flags[item]) for item in range(10)]
    events = [
        (rng.randrange(1, 9), rng.randrange(1, 11), rng.randrange(1, 6), rng.randrange(881250949, 881250990)) for _ in range(30)
    ]
    return {
        "u.data": _table(events, "\t"),
        "u.user": _table([(user, 20 + user, "MF"[user % 2], "student", "85711") for user in range(1, 9)], "|"),
        "u.item": _table(items, "|", encoding="latin-1"),
        "u.info": b"8 users\n10 items\n30 ratings\n",
    }


def _ml_1m(rng):
    return {
        "ratings.dat": _table(
            [(rng.randrange(1, 9), rng.randrange(1, 11), 5, rng.randrange(978300700, 978300800)) for _ in range(30)], "::"
        ),
        "users.dat": _table(
            [(user, "FM"[user % 2], rng.choice([1, 18, 56]), rng.randrange(21), "48067") for user in range(1, 9)], "::"
        ),
        "movies.dat": _table([(item, f"Film é {item}", "Drama|War") for item in range(1, 11)], "::", encoding="latin-1"),
    }


def _recbole(rng):
    events = [(f"u{rng.randrange(8)}", f"i{rng.randrange(10)}", rng.randrange(40) / 2) for _ in range(30)]
    return {
        "shop.inter": _table(events, "\t", ["user_id:token", "item_id:token", "timestamp:float"]),
        "shop.user": _table(
            [(f"u{user}", 20 + user, rng.choice("MF"), user * 1.5) for user in range(8)],
            "\t",
            ["user_id:token", "age:token", "gender:token", "income:float"],
        ),
        "shop.item": _table(
            [(f"i{item}", f"Film é {item}", rng.choice(["Drama War", "War", ""])) for item in range(9)],
            "\t",
            ["item_id:token", "title:token_seq", "genre:token_seq"],
        ),
    }


def _presplit(rng):
    header = ["user_id", "item_id", "time", "cate", "age", "gender"]

    def part(users, count):
        return _table(
            [(rng.choice(users), rng.randrange(9), rng.randrange(30), f"c{rng.randrange(3)}", 3, 1) for _ in range(count)],
            header=header,
        )

    provider, downstream = range(10, 15), range(20, 25)
    sizes = {"train": 20, "dev": 5, "cold_train": 8, "cold_dev": 5, "cold_test": 5}
    return {f"{name}.csv": part(downstream if "cold" in name else provider, count) for name, count in sizes.items()}


NASTY = [
    *(
        b"",
        b" ",
        b"0",
        b"-1",
        b"+7",
        b"007",
        b"1e5",
        b"1e999",
        b"-0.0",
        b"nan",
        b"inf",
        b"NaN",
        b"9" * 19,
        b"9" * 40,
        b"-" + b"9" * 18,
    ),
    *(
        b"9.9e18",
        b"1_0",
        b"0x10",
        b"1.",
        b".5",
        b"null",
        b"None",
        b"unknown",
        b"true",
        b"\0",
        b"a\0",
        b"\xff",
        b"\xc3\x28",
        b"\r",
    ),
    *(
        "\u0663".encode(),
        "\ud83d".encode(errors="surrogatepass"),
        "é".encode(),
        "\u2028".encode(),
        b"\xa0",
        b"\x85",
        b"\x1c",
        b'"',
    ),
    *(b"'; drop", b"x" * 200, b"x" * 70_000, b"=1+1", b"::", b"|", b",", b"\t", b"\xef\xbb\xbf"),
]


def mutated(files: dict[str, bytes], separator: bytes, rng: random.Random) -> dict[str, bytes]:
    """The files with one of them changed once, twice or three times; now and then it is missing, or nothing is changed."""
    name = rng.choice(list(files))
    data = files[name]
    if rng.random() < 0.01:
        return {other: content for other, content in files.items() if other != name}
    for _ in range(rng.choice((1, 1, 1, 2, 3)) if rng.random() > 0.02 else 0):
        data = rng.choice(MUTATIONS)(data, separator, rng)
    return files | {name: data}


def _flip(data, separator, rng):
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(data, separator, rng):
    at = rng.randrange(len(data) + 1)
    return data[:at] + (rng.randbytes(rng.randrange(1, 9)) if rng.random() < 0.5 else rng.choice(NASTY)) + data[at:]


def _delete(data, separator, rng):
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randrange(1, 40) :]


def _truncate(data, separator, rng):
    return data[: rng.randrange(len(data) + 1)]


def _of_lines(change):
    def mutate(data, separator, rng):
        split = data.split(b"\n")
        change(split, rng)
        return b"\n".join(split)

    return mutate


def _repeat(split, rng):
    split.insert(rng.randrange(len(split)), rng.choice(split))


def _swap(split, rng):
    one, other = rng.randrange(len(split)), rng.randrange(len(split))
    split[one], split[other] = split[other], split[one]


def _drop(split, rng):
    del split[rng.randrange(len(split))]


def _nasty_field(data, separator, rng):
    split = data.split(b"\n")
    at = rng.randrange(len(split))
    fields = split[at].split(b"\t" if b"\t" in split[at] else separator)
    fields[rng.randrange(len(fields))] = rng.choice(NASTY)
    split[at] = (b"\t" if b"\t" in split[at] else separator).join(fields)
    return b"\n".join(split)


def _drop_column(data, separator, rng):
    separator = b"\t" if b"\t" in data else separator
    at = rng.randrange(9)
    return b"\n".join(separator.join(f for i, f in enumerate(line.split(separator)) if i != at) for line in data.split(b"\n"))


def _windows(data, separator, rng):
    return data.replace(b"\n", b"\r\n")


def _marked(data, separator, rng):
    return b"\xef\xbb\xbf" + data


def _empty(data, separator, rng):
    return rng.choice((b"", b"\n", b"\0" * 100, b"\n" * 50))


MUTATIONS = [
    *(_flip, _insert, _delete, _truncate, _nasty_field, _nasty_field, _nasty_field),
    *(_of_lines(_repeat), _of_lines(_swap), _of_lines(_drop), _drop_column, _windows, _marked, _empty),
]


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
    wrong = found and _broken_invariant(found)
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
            outcome, why = verdict(case, mutated(case.files, case.separator, rng), folder, skip=bool(number % 2))
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
            print(f"{name:<10}{outcomes['accepted']:>8} accepted {outcomes['refused']:>8} refused", *faults, sep="\n", flush=True)
            total += outcomes
    print(f"{flags.inputs} inputs each, {total['crash']} crashes, {total['hang']} hangs, {total['wrong']} wrong datasets")
    return int(any(total[fault] for fault in ("crash", "hang", "wrong")))


if __name__ == "__main__":
    sys.exit(main())
