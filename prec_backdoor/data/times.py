"""Times as they stand in files (texts, or the numbers and dates of a typed file) -> numbers that keep their order exactly."""

from decimal import Decimal, InvalidOperation

import polars as pl

from prec_backdoor.data.lines import File, refuse

NUMBER, DATE, DATE_WITH_ZONE = "number", "date", "date with a time zone"
_EXPECTED = {
    NUMBER: "a number",
    DATE: "a date, year first (2020-01-31 12:00:00)",
    DATE_WITH_ZONE: "a date with a time zone (2020-01-31T12:00:00Z)",
}
READ = "a date like 2020-01-31"  # beside numbers
REMEDY = (  # for a column of something else
    "write its values as in 2020-01-31 or 2020-01-31T12:00:00+01:00, name another column by --columns=time=NAME, or keep the "
    "order of the rows by --columns=time="
)
# Times since 1970 from 1973 to 2286 (nanoseconds: to 2262).
_UNITS = {"seconds": (1e8, 1e10), "milliseconds": (1e11, 1e13), "microseconds": (1e14, 1e16), "nanoseconds": (1e17, 2.0**63)}
_DATE = (
    r"^(?<year>[0-9]{4})[-/](?<month>[0-9]{1,2})[-/](?<day>[0-9]{1,2})"
    r"(?:(?:T| +)(?<hour>[0-9]{1,2}):(?<minute>[0-9]{2})(?::(?<second>[0-9]{2})(?:\.(?<fraction>[0-9]{1,9}))?)?)?"
    r" *(?<zone>Z|z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?$"
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_ANY_DATE = (  # read or not: day or month first, 1 May 2020, Fri May 1 2020, 20200501T1200, year first with anything after it
    r"(?i)^'?(?:[0-9]{1,2}[-/.][0-9]{1,2}[-/.](?:[0-9]{2}){1,2}|[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{8}T[0-9]{2,6}Z?"
    rf"|(?:[a-z]{{3,9}},? +)?(?:{_MONTH}[. ] *[0-9]{{1,2}}|[0-9]{{1,2}}[-/. ] *{_MONTH}[-/., ] *(?:[0-9]{{2}}){{1,2}}))"
    r"(?:[T ,].*)?$"
)
_MINUTES = (190001010000, 219912312359)  # as in 202001311200, which is not a number of milliseconds since 1970
_YEARS = (1700, 2200)  # their nanoseconds since 1970 fit into int64
_SLICE = 1_000_000  # texts taken apart at once; the parts of a date take about 200 bytes
_LARGEST_WHOLE = 2.0**53  # up to which every whole number is a float64
_A_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def form_of(texts: pl.Series) -> str:
    """Returns the form of most of the texts that have one: NUMBER, DATE or DATE_WITH_ZONE."""
    if texts.dtype != pl.String:
        return NUMBER if texts.dtype.is_numeric() else DATE_WITH_ZONE if getattr(texts.dtype, "time_zone", None) else DATE
    dates = texts.filter(texts.str.contains(_DATE))
    if len(dates) <= _numbers(texts).count():
        return NUMBER
    zones = dates.str.extract_groups(_DATE).struct.field("zone").is_not_null()
    return DATE_WITH_ZONE if zones.sum() * 2 > len(dates) else DATE


def check(frame: pl.DataFrame, file: File, column: str, form: str) -> pl.DataFrame:
    """Refuses a time that is not of `form`: not a finite number, or not a date of the calendar from 1700 to 2200.

    Raises:
      UserError: as `lines.refuse`; also where bad rows are skipped, if no row has a time.
    """
    if form == NUMBER:
        wrong = ~_numbers(frame[column]).is_finite().fill_null(False)
    elif frame[column].dtype != pl.String:
        wrong = ~frame[column].dt.year().is_between(*_YEARS).fill_null(False)
    else:
        nanoseconds, zoned = _nanoseconds(frame[column])
        wrong = nanoseconds.is_null() | (zoned != (form == DATE_WITH_ZONE))
    expected, remedy = _EXPECTED[form], ""
    if wrong.sum() * 2 > len(wrong):
        expected, remedy = f"a number, or {READ}," if form == NUMBER else expected, REMEDY
    return refuse(frame, file._replace(skipped=None) if wrong.all() else file, column, wrong, f"{expected} as {column}", remedy)


def exact(texts: pl.Series, form: str = NUMBER) -> pl.Series:
    """Returns numbers in the order of the times: int64 for whole numbers and dates (nanoseconds), else float64 where distinct
    times stay distinct in it, else the ranks of the times.

    Args:
      texts: times that `check` (or `checks.finite`) accepts.
    """
    if texts.dtype != pl.String:
        return _exact_numbers(texts)
    if form != NUMBER:
        return _nanoseconds(texts)[0]
    whole = texts.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
    if not whole.has_nulls():
        return whole
    floats = texts.cast(pl.Float64)
    distinct = pl.DataFrame({"text": texts, "number": floats}).unique()
    shared = distinct.filter(pl.col("number").is_duplicated()).partition_by("number")
    if all(len(set(map(_decimal, group["text"]))) == 1 for group in shared):
        return floats
    ranks = {number: rank for rank, number in enumerate(sorted(set(map(_decimal, distinct["text"]))))}
    return texts.replace_strict({text: ranks[_decimal(text)] for text in distinct["text"]}, return_dtype=pl.Int64)


def unit_of(times: pl.Series, form: str) -> str:
    """Returns for people what the numbers of `exact` count: dates, a unit since 1970 or plain numbers.

    Raises:
      ValueError: the times are of different units since 1970.
    """
    if form != NUMBER:
        return form.replace("date", "dates")
    within = {unit: times.is_between(low, high, closed="left") for unit, (low, high) in _UNITS.items()}
    found = [unit for unit, members in within.items() if members.any()]
    if not found or sum(members.sum() for members in within.values()) < len(times) or times.is_between(*_MINUTES).all():
        return "numbers"
    if len(found) > 1:
        raise ValueError(f"{' and '.join(found)} since 1970")
    return found[0]


def span(times: pl.Series, unit: str) -> str:
    """Returns the first and the last day (UTC where a zone is known) of times in a unit of `unit_of`; blank for plain numbers."""
    if unit == "numbers" or times.is_empty():
        return ""
    ends = [int(end) // _A_SECOND.get(unit, 10**9) for end in (times.min(), times.max())]
    return " to ".join(str(day) for day in pl.from_epoch(pl.Series(ends), "s").dt.date())


def share_of_moments(texts: pl.Series) -> float:
    """Returns the share of texts, 0 to 1, that are dates, or numbers in one unit since 1970, whichever is more."""
    numbers = _numbers(texts)
    since_1970 = [numbers.is_between(low, high, closed="left").sum() for low, high in _UNITS.values()]
    return max(texts.str.contains(_DATE).sum(), *since_1970) / max(len(texts), 1)


def any_read(texts: pl.Series) -> bool:
    """Returns whether one of the texts is a number or a date that is read."""
    return (_numbers(texts).is_not_null() | texts.str.contains(_DATE)).any()


def share_of_dates(texts: pl.Series) -> float:
    """Returns the share of texts, 0 to 1, that look like dates, also of a form that is not read, such as 31.01.2020."""
    return texts.str.contains(_ANY_DATE).sum() / max(len(texts), 1)


def _numbers(texts: pl.Series) -> pl.Series:
    """The texts as numbers; null for one that is none."""
    return texts.cast(pl.Float64, strict=False)


def _exact_numbers(times: pl.Series) -> pl.Series:
    """What `exact` returns for numbers and dates."""
    if times.dtype.is_temporal():
        return times.cast(pl.Datetime("ns", getattr(times.dtype, "time_zone", None))).to_physical()
    if times.dtype.is_float():
        whole = ((times % 1 == 0) & (times.abs() < _LARGEST_WHOLE)).all()
        return times.cast(pl.Int64 if whole else pl.Float64)
    return times.cast(pl.UInt64 if times.dtype == pl.UInt64 else pl.Int64)


def _nanoseconds(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """`_nanoseconds_of_some` of all texts, in slices, as the parts of a date take a lot of memory."""
    slices = [_nanoseconds_of_some(texts[start : start + _SLICE]) for start in range(0, max(len(texts), 1), _SLICE)]
    return tuple(pl.concat(part) for part in zip(*slices, strict=True))


def _nanoseconds_of_some(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Nanoseconds since 1970 [R] int64, null for what is not a date of the calendar; whether a time zone is given [R] bool."""
    parts = texts.str.extract_groups(_DATE).struct.unnest()
    number = {name: pl.col(name).cast(pl.Int64).fill_null(0) for name in ("hour", "minute", "second")}
    padded = pl.concat_str(["year", pl.col("month").str.zfill(2), pl.col("day").str.zfill(2)], separator="-")
    offset = (pl.col("zone").str.extract(r"^[+-]([0-9]{2})").cast(pl.Int64) * 60) + pl.col("zone").str.slice(-2).cast(
        pl.Int64, strict=False
    )
    sign = pl.when(pl.col("zone").str.starts_with("-")).then(-1).otherwise(1)
    seconds = (
        padded.str.to_date("%Y-%m-%d", strict=False).to_physical().cast(pl.Int64) * 86_400
        + number["hour"] * 3_600
        + (number["minute"] - (sign * offset).fill_null(0)) * 60
        + number["second"]
    )
    valid = (
        pl.col("year").cast(pl.Int64).is_between(*_YEARS)
        & (number["hour"] < 24)
        & (number["minute"] < 60)
        & (number["second"] < 60)
    )
    fraction = pl.col("fraction").str.pad_end(9, "0").cast(pl.Int64).fill_null(0)
    time = pl.when(valid).then(seconds * 1_000_000_000 + fraction).alias(texts.name)
    found = parts.select(time, pl.col("zone").is_not_null().alias("zoned"))
    return found[texts.name], found["zoned"]


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond Decimal's, of a number that float64 rounds to zero
        return Decimal(float(text))
