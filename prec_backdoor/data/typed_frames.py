"""Frames whose columns have types (Parquet, polars, pandas) -> columns of texts, as a text file has them."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from prec_backdoor.data.lines import LINE, File, refuse
from prec_backdoor.errors import UserError

_EXACT = 2**53  # whole numbers up to which a float64 has lost no digit


def frame_of(frame: Any, name: str) -> pl.LazyFrame:
    """Returns a frame of polars, of pandas (which need not be installed), or columns by name as a lazy polars frame.

    Raises:
      UserError: it is none of these, or has columns that polars does not take.
    """
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return frame.lazy()
    if not (isinstance(frame, Mapping) or hasattr(frame, "columns")):
        raise UserError(f"{name}: must be a frame of polars or pandas, got {type(frame).__name__}; give a frame")
    columns = list(frame if isinstance(frame, Mapping) else frame.columns)
    if twice := [column for number, column in enumerate(columns) if column in columns[:number]]:
        raise UserError(f"{name}: column {twice[0]!r} is there twice; rename one")
    try:
        return pl.DataFrame([_series(str(column), frame[column]) for column in columns]).lazy()
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{name}: not a table ({str(error).splitlines()[0]:.120}); give columns of one type each") from error


def kind_of(dtype: pl.DataType) -> str:
    """Returns token, float or token_seq (see `atomic.TYPES`) for a type of polars."""
    return "float" if dtype.is_float() or dtype.is_decimal() else "token_seq" if dtype.is_nested() else "token"


def to_texts(file: File, frame: pl.DataFrame, typed: str | None = None) -> pl.DataFrame:
    """Returns LINE, the number of a row from 1, and each column as texts without blanks around them; null is a blank text.

    Args:
      typed: a column that stays as it is if it holds numbers or dates.

    Raises:
      UserError: a text with a NUL character (with its row).
    """
    types = dict(frame.schema)
    for name, dtype in types.items():
        if name != typed or not (dtype.is_numeric() or dtype in (pl.Date, pl.Datetime)):
            frame = frame.with_columns(_texts(frame[name]))
    frame = frame.with_row_index(LINE, offset=1)
    for name, dtype in types.items():
        if dtype in (pl.String, pl.Binary, pl.Categorical, pl.Enum):
            frame = refuse(frame, file, name, pl.col(name).str.contains("\0", literal=True), f"text without NUL as {name}")
    return frame


def _texts(values: pl.Series) -> pl.Series:
    if values.dtype in (pl.Date, pl.Datetime):
        zone = getattr(values.dtype, "time_zone", None)
        form = "%Y-%m-%d" if values.dtype == pl.Date else "%Y-%m-%d %H:%M:%S%.f"
        texts = (values.dt.convert_time_zone("UTC") if zone else values).dt.to_string(form) + ("Z" if zone else "")
    elif values.dtype.is_float():
        values = values.fill_nan(None)
        table = pl.DataFrame({"value": values, "whole": (values % 1 == 0) & (values.abs() <= _EXACT)})
        number = pl.when("whole").then(pl.col("value").cast(pl.Int64, strict=False).cast(pl.String))
        texts = table.select(number.otherwise(pl.col("value").cast(pl.String)).alias(values.name)).to_series()
    elif values.dtype == pl.Duration:  # as P2D, which is no point in time
        texts = values.dt.to_string("iso")
    elif values.dtype.is_nested() or values.dtype == pl.Object:
        texts = pl.Series(values.name, [_json(each) for each in values], pl.String)
    else:
        texts = values.cast(pl.String, strict=False)
    return texts.fill_null("").str.strip_chars()


def _json(value: Any) -> str | None:
    """A list or an object with fields as JSON text, any other value as its text."""
    if isinstance(value, pl.Series):
        value = value.to_list()
    if value is None or (isinstance(value, float) and value != value):  # NaN
        return None
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | tuple | dict) else str(value)


def _series(name: str, values: Any) -> pl.Series:
    """A column; texts of pandas by way of a list, as polars takes them from an array only where pyarrow is installed."""
    if not hasattr(values, "isna"):  # not of pandas
        return pl.Series(name, _in_units(values))
    if str(values.dtype).startswith("datetime64") and "," not in str(values.dtype):  # dates without a zone
        return pl.Series(name, _in_units(values.to_numpy()))
    known = [None if missing else value for value, missing in zip(values.tolist(), values.isna().tolist(), strict=True)]
    has_texts = any(isinstance(value, str) for value in known)
    return pl.Series(name, [value if value is None else str(value) for value in known] if has_texts else known)


def _in_units(values: Any) -> Any:
    """Dates and durations of numpy in a unit that polars takes; other values as they are."""
    kind = values.dtype.kind if isinstance(values, np.ndarray) else ""
    if kind not in ("M", "m") or np.datetime_data(values.dtype)[0] in ("D", "ms", "us", "ns"):
        return values
    return values.astype(f"{'datetime64' if kind == 'M' else 'timedelta64'}[ms]")
