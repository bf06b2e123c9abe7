"""Files of RecBole's atomic form (recbole.io/docs): which belong to a dataset, and their tables with typed headers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from prec_backdoor.data import lines
from prec_backdoor.errors import UserError

TYPES = ("token", "token_seq", "float", "float_seq")
_STANDARD = {"user": "user_id", "item": "item_id"}
_PARTS = (("train",), ("valid", "val", "validation", "dev"), ("test",))


class Found(NamedTuple):
    """The files of one dataset: its name, the .inter files in the order in which they follow each other, and files left out."""

    name: str
    parts: tuple[Path, ...]
    left_out: tuple[str, ...] = ()


class Table(NamedTuple):
    """One file: `frame` has LINE and a string column a field by its bare name; `types` is name -> type."""

    file: lines.File
    frame: pl.DataFrame
    types: dict[str, str]


def find(folder: Path) -> Found:
    """Returns the dataset of a folder: NAME.inter, or else the benchmark parts NAME.train.inter, NAME.part1.inter and so on.

    Raises:
      UserError: no dataset or several, parts of unknown order, a .user or .item file that belongs to no .inter file.
    """
    inters = sorted(folder.glob("*.inter"))
    names = {path: _dataset_of(path) for path in inters}
    own = folder.resolve().name
    distinct = sorted(set(names.values()))
    name = own if own in distinct else distinct[0] if len(distinct) == 1 else None
    if name is None:
        found = ", ".join(path.name for path in inters[:10]) or "no .inter file"
        raise UserError(f"{folder}: expected one .inter file, found {found}; give a folder that holds one dataset")
    for path in sorted((*folder.glob("*.user"), *folder.glob("*.item"))):
        if path.stem not in distinct:
            raise UserError(f"{path}: belongs to no .inter file; rename it to {name}{path.suffix} or move it elsewhere")
    parts = [path for path in inters if names[path] == name]
    whole = [path for path in parts if path.stem == name]
    if whole:
        return Found(name, tuple(whole), tuple(path.name for path in parts if path not in whole))
    places = {path: _order(path.stem.rpartition(".")[2]) for path in parts}
    if len(set(places.values())) < len(parts) or len({numbered for numbered, _ in places.values()}) > 1:
        listed = ", ".join(path.name for path in parts)
        raise UserError(f"{folder}: the order of {listed} is not known; name the parts train, valid, test or part1, part2, ..")
    return Found(name, tuple(sorted(parts, key=places.get)))


def read_table(file: lines.File, like: "Table | None" = None) -> Table:
    """Returns the table of one file, separated by tabs, or by commas where the header has no tab; fields may be quoted.

    Args:
      like: a table that has the same columns.

    Raises:
      UserError: a malformed file (see `lines.read_fields`) or header.
    """
    frame = lines.read_fields(file, lines.guess_separator(file), quotes=True)
    header, types = frame.columns[1:], {}
    for column in header:
        name, _, kind = column.rpartition(":")
        if not name or kind not in TYPES or name in types or name == lines.LINE:
            shown = lines.shorten(column)
            raise UserError(
                f"{file}, line 1: expected distinct NAME:TYPE, types {', '.join(TYPES)}, found {shown!r}; "
                f"correct the header, as in {_STANDARD['user']}:token"
            )
        types[name] = kind
    if like is not None and types != like.types:
        raise UserError(f"{file}, line 1: the columns are not those of {like.file.path.name}; write the same header in all parts")
    return Table(file, frame.rename(dict(zip(header, types, strict=True))), types)


def key_column(table: Table, role: str, columns: Mapping[str, str]) -> str:
    """Returns the column of ids of `role` (user or item): that of --columns, or else RecBole's.

    A .user or .item file may keep RecBole's name where --columns gives the .inter file another one.

    Raises:
      UserError: there is none; names the columns and the flag.
    """
    named, standard = columns.get(role, _STANDARD[role]), _STANDARD[role]
    beside = table.file.path.suffix != ".inter"
    for name in (named, standard) if beside else (named,):
        if name in table.types:
            return name
    remedy = f"rename the column of {role} ids to {named}" if beside else f"name it by --columns={role}={_guess(table, role)}"
    raise UserError(f"{table.file.header}: no column {named!r}, found {shown(table)}; {remedy}")


def named_column(table: Table, role: str, columns: Mapping[str, str]) -> str | None:
    """Returns the column that --columns gives `role`, None where it gives none; raises UserError where the file lacks it."""
    name = columns.get(role)
    if name and name not in table.types:
        raise UserError(f"{table.file.header}: no column {name!r} for {role}, found {shown(table)}; correct --columns")
    return name


def shown(table: Table) -> str:
    """Returns the columns of a table for a message."""
    return lines.shorten(", ".join(table.types), 240)


def _guess(table: Table, role: str) -> str:
    ids = [name for name in table.types if re.search(r"(?:^|_|[a-z])(?:id|ID|Id)$", name) and "user" not in name.lower()]
    users = [name for name in table.types if "user" in name.lower()]
    return next(iter(users if role == "user" else ids), "NAME")


def _dataset_of(path: Path) -> str:
    """The dataset that an .inter file belongs to: its name, without that of a part where no .user or .item file bears both."""
    name, _, part = path.stem.rpartition(".")
    alone = any(path.with_suffix(suffix).exists() for suffix in (".user", ".item"))
    return name if name and _order(part) is not None and not alone else path.stem


def _order(part: str) -> tuple[bool, int] | None:
    """Where a part comes by its name, and whether it is numbered; None for a name that is no part's."""
    number = re.fullmatch(r"part_?([0-9]{1,4})", part)
    if number:
        return True, int(number[1])
    return next(((False, place) for place, names in enumerate(_PARTS) if part.lower() in names), None)
