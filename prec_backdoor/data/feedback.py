"""Which rows of an .inter file are interactions: those with a rating of at least --min_rating."""

from collections.abc import Mapping

import polars as pl

from prec_backdoor.data import checks, lines
from prec_backdoor.data.atomic import Table, named_column, shown
from prec_backdoor.data.columns import is_feedback
from prec_backdoor.errors import UserError

_FLAGS = {"true": "1", "false": "0"}


def rated(tables: list[Table], columns: Mapping[str, str], min_rating: float | None) -> tuple[list[Table], str]:
    """Returns the tables of an .inter file's parts with the rows that count, and for people what was required of them.

    Args:
      columns: role -> column; role rating is the column that `min_rating` is held against.
      min_rating: least rating of an interaction; None takes all rows, where no column says that some are no interactions.

    Raises:
      UserError: a rating that is no number (file and line), no column of ratings, a flag with zeros and no `min_rating`.
    """
    named = named_column(tables[0], "rating", columns)
    if min_rating is None:
        if named:
            raise UserError(f"--columns=rating={named} needs --min_rating; give the least rating of an interaction")
        _refuse_zeros(tables)
        return tables, ""
    column = named or _only_feedback(tables[0])
    kept = []
    for table in tables:
        frame = table.frame.with_columns(_numeric(column))
        frame = checks.finite(frame, table.file, column)
        kept.append(table._replace(frame=frame.filter(pl.col(column).cast(pl.Float64) >= min_rating)))
    return kept, f"{column} >= {min_rating:g}"


def _only_feedback(table: Table) -> str:
    found = [name for name in table.types if is_feedback(name)]
    if len(found) != 1:
        what = f"several columns of ratings: {', '.join(found)}" if found else f"no column of ratings, found {shown(table)}"
        raise UserError(
            f"{table.file.header}: {lines.shorten(what, 240)}; name the one of --min_rating, as in --columns=rating=NAME"
        )
    return found[0]


def _refuse_zeros(tables: list[Table]) -> None:
    """Raises a UserError where a column of feedback is a flag, or a label, with values that are not positive."""
    for column in filter(is_feedback, tables[0].types):
        rows = [table.frame.select(lines.LINE, _numeric(column).cast(pl.Float64, strict=False)) for table in tables]
        numbers = pl.concat(rows)[column]
        is_flag = numbers.drop_nulls().n_unique() <= 2 or "label" in column.lower()
        if not is_flag or not (numbers <= 0).any():
            continue
        bad = [part.filter(pl.col(column) <= 0) for part in rows]
        file, line = next((table.file, part[lines.LINE][0]) for table, part in zip(tables, bad, strict=True) if part.height)
        share = f"{sum(part.height for part in bad)} of {len(numbers)} rows"
        raise UserError(
            f"{file}, {file.unit} {line}: {column} is 0 or less in {share}, which may be no interactions; keep those from 1 on "
            f"by --min_rating=1 --columns=rating={column}, or all by a lower one"
        )


def _numeric(column: str) -> pl.Expr:
    """The texts of a column, with true and false as 1 and 0."""
    lowered = pl.col(column).str.to_lowercase()
    return pl.when(lowered.is_in(list(_FLAGS))).then(lowered.replace(_FLAGS)).otherwise(pl.col(column)).alias(column)
