"""The day of a row, read from the text or the typed value of one of its columns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.entities.columns import ColumnConfig
from headrace.time_patterns import MONTHS, day_regexes

Days = npt.NDArray[np.datetime64]

_MONTHS = MONTHS.split(",")
_NO_DAY = np.datetime64("NaT", "D")
_NOON = 12


def row_days(values: pa.Array, column: ColumnConfig, timezone: str | None = None) -> Days:
    """The day of each value; NaT for a text that no format matches.

    A text is read by the first of the column's formats that matches it; without formats, by ISO
    8601. The time of day matters only for a `timestamptz` with an offset: its day is that of its
    instant in `timezone`, or in UTC without one. A text may have a day here although the engine
    cannot parse its value: its row is then quarantined in the partition of that day.
    """
    if not pa.types.is_string(values.type):
        return _days_of_times(values, timezone)
    texts = pc.utf8_trim_whitespace(values)
    days = np.full(len(texts), _NO_DAY)
    for regex in day_regexes(column.formats):
        has_none = np.isnat(days)
        if has_none.any():
            days[has_none] = _days_of_texts(texts, regex, column, timezone)[has_none]
    return days


def _days_of_times(values: pa.Array, timezone: str | None) -> Days:
    if pa.types.is_timestamp(values.type) and values.type.tz and timezone:
        values = pc.local_timestamp(values.cast(pa.timestamp("us", timezone)))
    if pa.types.is_timestamp(values.type):
        values = pc.floor_temporal(values.cast(pa.timestamp("us")), unit="day")
    days = values.cast(pa.date32()).to_numpy(zero_copy_only=False)
    return np.asarray(days.astype("datetime64[D]"))


def _days_of_texts(
    texts: pa.StringArray, regex: str, column: ColumnConfig, timezone: str | None
) -> Days:
    found = pc.extract_regex(texts, f"^{regex}$")
    names = [field.name for field in found.type]
    groups = dict(zip(names, found.flatten(), strict=True))
    year, month = _number(_first(groups, "year", "short_year")), _month(groups)
    day = _number(groups["day"])
    if column.pivot is not None:
        is_short = (year >= 0) & (year < 100)  # noqa: PLR2004
        year = np.where(is_short, column.pivot + (year - column.pivot) % 100, year)
    is_date = (month >= 1) & (month <= len(_MONTHS)) & (day >= 1) & (year >= 0)
    months = np.where(is_date, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(is_date, day - 1, 0)
    is_date &= days.astype("datetime64[M]") == months  # No 30th of February.
    if column.type == "timestamptz" and "zone" in groups:
        utc = days.astype("datetime64[m]") + _minutes_to_utc(groups)
        if timezone is None:
            days = utc.astype("datetime64[D]")
        else:
            # An optional part that the text lacks is empty.
            has_offset = _flags(pc.not_equal(groups["zone"], ""))
            days = np.where(has_offset, _local_days(utc, timezone), days)
    return np.where(is_date, days, _NO_DAY)


def _local_days(utc: npt.NDArray[Any], timezone: str) -> Days:
    instants = pa.array(utc.astype("datetime64[s]")).cast(pa.timestamp("s", timezone))
    local = pc.local_timestamp(instants).to_numpy(zero_copy_only=False)
    return np.asarray(local.astype("datetime64[D]"))


def _minutes_to_utc(groups: Mapping[str, pa.StringArray]) -> npt.NDArray[np.int64]:
    """Minutes from midnight in UTC to the time in UTC; negative on the day before."""
    hour = np.maximum(_number(_first(groups, "hour", "hour12")), 0)
    if "half" in groups:
        is_afternoon = pc.starts_with(pc.utf8_lower(groups["half"]), "p")
        hour = hour % _NOON + _NOON * _flags(is_afternoon)
    offset = groups["zone"]
    digits = pc.replace_substring_regex(offset, r"\D", "")
    hours = np.maximum(_number(pc.utf8_slice_codeunits(digits, 0, 2)), 0)
    minutes = np.maximum(_number(pc.utf8_slice_codeunits(digits, 2, 4)), 0)
    sign = 1 - 2 * _flags(pc.starts_with(offset, "-")).astype(np.int64)
    local = hour * 60
    if "minute" in groups:
        local += np.maximum(_number(groups["minute"]), 0)
    return np.asarray(local - sign * (hours * 60 + minutes))


def _month(groups: Mapping[str, pa.StringArray]) -> npt.NDArray[np.int64]:
    if "month" in groups:
        return _number(groups["month"])
    start = pc.utf8_slice_codeunits(pc.utf8_lower(groups["month_name"]), 0, 3)
    return np.asarray(pc.index_in(start, pa.array(_MONTHS)).fill_null(-2).to_numpy() + 1)


def _first(groups: Mapping[str, pa.StringArray], *names: str) -> pa.StringArray:
    return next(groups[name] for name in names if name in groups)


def _number(texts: pa.StringArray) -> npt.NDArray[np.int64]:
    """Texts of digits as integers; -1 for other texts."""
    is_digits = pc.match_substring_regex(texts, r"^\d{1,18}$")
    digits = pc.if_else(is_digits.fill_null(False), texts, "-1")  # noqa: FBT003
    return np.asarray(digits.cast(pa.int64()).to_numpy(zero_copy_only=False))


def _flags(values: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003
