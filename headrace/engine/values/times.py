"""Parses dates and times by pattern into ISO order, and converts local times to UTC."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from pyspark.sql import Column
from pyspark.sql import functions as F

from headrace.engine.values.types import sql_type
from headrace.time_patterns import MONTHS, TimePattern

# The last year that every reader of the tables supports.
_LAST_YEAR = 9999
_DAY_MICROS = 86_400_000_000


@dataclass(frozen=True)
class ClockChanges:
    """The instants of the two odd hours of a zone's year.

    Attributes:
        ambiguous: For a local time that clocks show twice; `quarantine`: NULL.
        nonexistent: For a local time that clocks never show; `shift_forward`: as much later as the
            clocks are put forward.
    """

    ambiguous: Literal["earlier", "later", "quarantine"] = "earlier"
    nonexistent: Literal["quarantine", "shift_forward"] = "quarantine"


USUAL_CHANGES = ClockChanges()


def instant_of_local(local: Column, timezone: str, changes: ClockChanges = USUAL_CHANGES) -> Column:
    """The instant of a local `timestamp_ntz` in a zone, where clocks change as declared."""
    utc = F.to_utc_timestamp(local, timezone)
    is_shown = F.from_utc_timestamp(utc, timezone).cast("timestamp_ntz") == local
    found = F.when(is_shown, utc).cast("timestamp")
    if changes != USUAL_CHANGES:
        found = _where_clocks_change(local, timezone, found, changes)
    return F.when(F.year(found) <= _LAST_YEAR, found)


def _where_clocks_change(
    local: Column, timezone: str, first: Column, changes: ClockChanges
) -> Column:
    """The instant by the offsets of the day before and the day after.

    Args:
        local: A `timestamp_ntz`.
        timezone: Its zone.
        first: The first instant at which clocks show it; NULL if they never do.
        changes: What is declared.
    """
    # Microseconds: the engines differ in arithmetic of timestamps and intervals.
    micros = F.unix_micros(local.cast("timestamp"))

    def by_offset_of(moment: Column) -> Column:
        utc = F.unix_micros(F.to_utc_timestamp(F.timestamp_micros(moment), timezone))
        return F.timestamp_micros(micros - (moment - utc))

    last = by_offset_of(micros + _DAY_MICROS)
    is_shown_last = F.from_utc_timestamp(last, timezone).cast("timestamp_ntz") == local
    is_shown = first.isNotNull()
    is_twice = is_shown & is_shown_last & (last != first)
    found = first
    if changes.ambiguous != "earlier":
        second = last if changes.ambiguous == "later" else F.lit(None)
        found = F.when(is_twice, second).otherwise(first)
    if changes.nonexistent == "shift_forward":
        found = F.when(is_shown, found).otherwise(by_offset_of(micros - _DAY_MICROS))
    return found


def moment_of_local(local: Column, timezone: str | None) -> Column:
    """UTC, as `timestamp_ntz`, of a local time; without a zone, the local time itself."""
    if timezone is None:
        return local
    return F.to_utc_timestamp(local, timezone).cast("timestamp_ntz")


def moment_of(value: Column, type_name: str, timezone: str | None) -> Column:
    """A value as `timestamp_ntz` in UTC for comparisons; local values as `moment_of_local`."""
    wall_clock = value.cast("timestamp_ntz")
    return wall_clock if type_name == "timestamptz" else moment_of_local(wall_clock, timezone)


def day_of(value: Column, type_name: str, timezone: str | None) -> Column:
    """The day of a date or time; of an instant, the day in `timezone` (None: UTC)."""
    if type_name != "timestamptz" or timezone is None:
        return value.cast("date")
    return F.from_utc_timestamp(value, timezone).cast("date")


def date_key_of(day: Column) -> Column:
    """The date key (`headrace.date_keys`) of a date, as int."""
    # Arithmetic: formatting each date as text takes more CPU.
    return F.year(day) * 10_000 + F.month(day) * 100 + F.dayofmonth(day)


def time_of_text(text: Column, patterns: Sequence[TimePattern], type_name: str) -> Column:
    """Parse trimmed text by the first pattern that matches; NULL if none does."""
    target = sql_type(type_name)
    iso = "|".join(pattern.uncaptured for pattern in patterns if pattern.is_iso)
    found = [F.when(text.rlike(f"^(?:{iso})\\z"), text).try_cast(target)] if iso else []
    found += [_in_iso_order(text, p).try_cast(target) for p in patterns if not p.is_iso]
    return found[0] if len(found) == 1 else F.coalesce(*found)


def _in_iso_order(text: Column, pattern: TimePattern) -> Column:
    groups = {part: f"${number}" for number, part in enumerate(pattern.parts, start=1)}
    year = groups.get("year", f"{pattern.century}{groups.get('short_year')}")
    pieces: list[str | Column] = [f"{year}-"]
    pieces += [_month(text, pattern) if "month_name" in groups else groups["month"]]
    pieces += [f"-{groups['day']}"]
    if {"hour", "hour12"} & groups.keys():
        pieces += [" ", _hour(text, pattern) if "hour12" in groups else groups["hour"]]
        pieces += [f":{groups.get('minute', '00')}:{groups.get('second', '00')}"]
        pieces += [f".{groups['fraction']}"] if "fraction" in groups else []
    pieces += [groups.get("zone", "")]
    return F.when(text.rlike(f"^{pattern.uncaptured}\\z"), _filled(text, pattern.regex, pieces))


def _filled(text: Column, regex: str, pieces: Sequence[str | Column]) -> Column:
    """Concatenate the pieces; a string is a template that refers to the regex's groups."""
    columns: list[Column] = []
    for is_template, run in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        if is_template:
            columns.append(F.regexp_replace(text, f"^{regex}\\z", "".join(map(str, run))))
        else:
            columns += [piece for piece in run if isinstance(piece, Column)]
    return columns[0] if len(columns) == 1 else F.concat(*columns)


def _month(text: Column, pattern: TimePattern) -> Column:
    name = F.lower(F.regexp_extract(text, pattern.regex, pattern.group("month_name")))
    return F.find_in_set(F.substring(name, 1, 3), F.lit(MONTHS)).cast("string")


def _hour(text: Column, pattern: TimePattern) -> Column:
    hour = F.regexp_extract(text, pattern.regex, pattern.group("hour12")).try_cast("int")
    half = F.lower(F.regexp_extract(text, pattern.regex, pattern.group("half")))
    shifted = hour % 12 + F.when(half == "pm", 12).otherwise(0)
    return F.when(hour.between(1, 12), shifted).cast("string")
