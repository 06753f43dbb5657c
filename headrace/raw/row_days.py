"""The day to which a row belongs, read from the text of one of its columns."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.columns import ColumnConfig
from headrace.errors import ConfigError

Days = npt.NDArray[np.datetime64]

_ISO = (
    r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
    r"(?:[T ](?P<hour>\d{1,2}):(?P<minute>\d{2})(?::\d{2}(?:[.,]\d+)?)? ?(?P<offset>{offset})?)?"
)
_OFFSET = r"Z|[+-]\d{2}(?::?\d{2})?"
# Spark's pattern letters, by how often they stand in a row; 0 is any other number of times.
_LETTERS: Mapping[str, Mapping[int, str]] = {
    "y": {2: r"(?P<year>\d{2})", 0: r"(?P<year>\d{4})"},
    "u": {0: r"(?P<year>\d{4})"},
    "M": {1: r"(?P<month>\d{1,2})", 2: r"(?P<month>\d{2})", 0: r"(?P<month>[A-Za-z]{3,9})"},
    "L": {1: r"(?P<month>\d{1,2})", 2: r"(?P<month>\d{2})", 0: r"(?P<month>[A-Za-z]{3,9})"},
    "d": {1: r"(?P<day>\d{1,2})", 0: r"(?P<day>\d{2})"},
    "H": {1: r"(?P<hour>\d{1,2})", 0: r"(?P<hour>\d{2})"},
    "h": {1: r"(?P<hour>\d{1,2})", 0: r"(?P<hour>\d{2})"},
    "m": {1: r"(?P<minute>\d{1,2})", 0: r"(?P<minute>\d{2})"},
    "s": {1: r"\d{1,2}", 0: r"\d{2}"},
    "S": {0: r"\d+"},
    "a": {0: r"(?P<half>[AaPp][Mm])"},
    "E": {0: r"[A-Za-z]+"},
    "X": {0: rf"(?P<offset>{_OFFSET})"},
    "x": {0: rf"(?P<offset>{_OFFSET})"},
    "Z": {0: rf"(?P<offset>{_OFFSET})"},
}
_TOKEN = re.compile(r"'(?P<quoted>[^']*)'|(?P<letters>([A-Za-z])\3*)|(?P<other>.)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NO_DAY = np.datetime64("NaT", "D")
_NOON = 12


def row_days(texts: pa.Array, column: ColumnConfig, timezone: str | None = None) -> Days:
    """The day of each value; of a text by the first of the column's formats that fits, else NaT.

    Without formats, ISO 8601. The time of day matters only for a `timestamptz` with an offset: its
    day is that of its instant in `timezone`, or in UTC without one.
    Stricter than the engines nowhere that loses a row: what has no day here is captured too.
    """
    if not pa.types.is_string(texts.type):
        return _days_of_times(texts, timezone)
    trimmed = pc.utf8_trim_whitespace(texts)
    days = np.full(len(texts), _NO_DAY)
    for regex in [_regex(pattern) for pattern in column.formats] or [_iso()]:
        missing = np.isnat(days)
        if missing.any():
            read = _read(trimmed, regex, column, timezone)
            days[missing] = read[missing]
    return days


def _days_of_times(values: pa.Array, timezone: str | None) -> Days:
    if pa.types.is_timestamp(values.type) and values.type.tz and timezone:
        values = pc.local_timestamp(values.cast(pa.timestamp("us", timezone)))
    if pa.types.is_timestamp(values.type):
        values = pc.floor_temporal(values.cast(pa.timestamp("us")), unit="day")
    days = values.cast(pa.date32()).to_numpy(zero_copy_only=False)
    return np.asarray(days.astype("datetime64[D]"))


def _iso() -> str:
    return _ISO.replace("{offset}", _OFFSET)


def _regex(pattern: str) -> str:
    """The regular expression of a date pattern.

    Raises:
        ConfigError: It has a letter whose meaning for the day is not known here.
    """
    regex = ""
    for token in _TOKEN.finditer(pattern):
        letters = token["letters"]
        if not letters:
            text = token["other"] if token["quoted"] is None else token["quoted"] or "'"
            # In Spark's patterns brackets make their contents optional.
            regex += {"[": "(?:", "]": ")?"}.get(text) or re.escape(text)
        elif known := _LETTERS.get(letters[0]):
            regex += known.get(len(letters)) or known[0]
        else:
            raise ConfigError(
                f"the date pattern '{pattern}' has '{letters}', from which no day can be read",
                fix=f"use the letters {' '.join(_LETTERS)}",
            )
    return regex


def _read(texts: pa.StringArray, regex: str, column: ColumnConfig, timezone: str | None) -> Days:
    found = pc.extract_regex(texts, f"^{regex}$")
    names = [field.name for field in found.type]
    groups = dict(zip(names, found.flatten(), strict=True))
    if not {"year", "month", "day"} <= groups.keys():
        return np.full(len(texts), _NO_DAY)
    year, month, day = _number(groups["year"]), _month(groups["month"]), _number(groups["day"])
    if column.pivot is not None:
        is_short = (year >= 0) & (year < 100)  # noqa: PLR2004
        year = np.where(is_short, column.pivot + (year - column.pivot) % 100, year)
    is_date = (month >= 1) & (month <= len(_MONTHS)) & (day >= 1) & (year >= 0)
    months = np.where(is_date, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(is_date, day - 1, 0)
    is_date &= days.astype("datetime64[M]") == months  # No 30th of February.
    if column.type == "timestamptz" and {"offset", "hour", "minute"} <= groups.keys():
        utc = days.astype("datetime64[m]") + _minutes_to_utc(groups)
        if timezone is None:
            days = utc.astype("datetime64[D]")
        else:
            # A part of the text that is not there is empty.
            has_offset = _flags(pc.not_equal(groups["offset"], ""))
            days = np.where(has_offset, _local_days(utc, timezone), days)
    return np.where(is_date, days, _NO_DAY)


def _local_days(utc: npt.NDArray[Any], timezone: str) -> Days:
    instants = pa.array(utc.astype("datetime64[s]")).cast(pa.timestamp("s", timezone))
    local = pc.local_timestamp(instants).to_numpy(zero_copy_only=False)
    return np.asarray(local.astype("datetime64[D]"))


def _minutes_to_utc(groups: Mapping[str, pa.StringArray]) -> npt.NDArray[np.int64]:
    """Minutes since the local midnight, counted from the UTC one."""
    hour = np.maximum(_number(groups["hour"]), 0)
    if "half" in groups:
        is_afternoon = pc.starts_with(pc.utf8_lower(groups["half"]), "p")
        hour = hour % _NOON + _NOON * _flags(is_afternoon)
    offset = groups["offset"]
    digits = pc.replace_substring_regex(offset, r"\D", "")
    hours = np.maximum(_number(pc.utf8_slice_codeunits(digits, 0, 2)), 0)
    minutes = np.maximum(_number(pc.utf8_slice_codeunits(digits, 2, 4)), 0)
    sign = 1 - 2 * _flags(pc.starts_with(offset, "-")).astype(np.int64)
    local = hour * 60 + np.maximum(_number(groups["minute"]), 0)
    return np.asarray(local - sign * (hours * 60 + minutes))


def _month(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    start = pc.utf8_slice_codeunits(pc.utf8_lower(texts), 0, 3)
    named = pc.index_in(start, pa.array(_MONTHS)).fill_null(-2).to_numpy() + 1
    return np.asarray(np.where(named > 0, named, _number(texts)))


def _number(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """The integers that texts of digits stand for; -1 where there is none."""
    is_digits = pc.match_substring_regex(texts, r"^\d{1,18}$")
    digits = pc.if_else(is_digits.fill_null(False), texts, "-1")  # noqa: FBT003
    return np.asarray(digits.cast(pa.int64()).to_numpy(zero_copy_only=False))


def _flags(values: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003
