"""Local times, instants and the two odd hours of a year."""

from datetime import UTC, date, datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from headrace.engine.values.times import ClockChanges, day_of, moment_of, moment_of_local
from tests.engine.evaluating import each

# An hour, half an hour, both hemispheres, midnight that is left out, and a day that is.
CHANGES = {
    "Europe/Berlin": [datetime(2024, 3, 31, 2), datetime(2024, 10, 27, 2)],
    "America/New_York": [datetime(2024, 3, 10, 2), datetime(2024, 11, 3, 1)],
    "Australia/Lord_Howe": [datetime(2024, 10, 6, 2), datetime(2024, 4, 7, 1, 30)],
    "America/Sao_Paulo": [datetime(2018, 11, 4), datetime(2018, 2, 17, 23)],
    "Asia/Kolkata": [datetime(2024, 1, 1)],
    "UTC": [datetime(2024, 1, 1)],
}


def around(zone: str) -> list[datetime]:
    """Times near each change of clocks, and a year's middles."""
    minutes = (-1440, -61, -60, -31, -1, 0, 1, 29, 30, 59, 60, 61, 90, 1440)
    near = [change + timedelta(minutes=m) for change in CHANGES[zone] for m in minutes]
    return [*near, datetime(2024, 1, 15), datetime(2024, 7, 15, 23, 59, 59, 999999)]


def naive_instant(local: datetime, zone: str) -> datetime | None:
    """The first instant at which clocks show it, or None."""
    utc = local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    is_shown = utc.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local
    return utc.replace(tzinfo=None) if is_shown else None


@pytest.mark.parametrize("zone", CHANGES)
def test_a_local_time_is_the_first_instant_at_which_clocks_show_it(
    spark: SparkSession, zone: str
) -> None:
    times = around(zone)
    texts = [time.isoformat(" ") for time in times]
    found = each(spark, texts, lambda c: parse.parse_instant(c, timezone=zone))
    expected = [naive_instant(time, zone) for time in times]
    assert dict(zip(texts, found, strict=True)) == dict(zip(texts, expected, strict=True))


def test_the_hours_of_a_change_are_as_documented(spark: SparkSession) -> None:
    texts = {
        "2024-03-31 01:59": "2024-03-31 00:59",
        "2024-03-31 02:30": None,  # never shown
        "2024-03-31 03:00": "2024-03-31 01:00",
        "2024-10-27 02:30": "2024-10-27 00:30",  # shown twice
        "2024-10-27T02:30:00+01:00": "2024-10-27 01:30",
        "2024-10-27 02:30 Z": "2024-10-27 02:30",
        "9999-12-31 23:30": "9999-12-31 22:30",
    }
    found = each(spark, [*texts], lambda c: parse.parse_instant(c, timezone="Europe/Berlin"))
    shown = [None if f is None else f.isoformat(" ", "minutes") for f in found]
    assert dict(zip(texts, shown, strict=True)) == texts


def naive_by_changes(local: datetime, zone: str, changes: ClockChanges) -> datetime | None:
    """By Python's `fold`: 0 is the earlier of two instants, and the offset before a gap."""
    folds = [local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
    shown = [u for u in folds if u.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local]
    if not shown:
        found = folds[0] if changes.nonexistent == "shift_forward" else None
    elif shown[0] != shown[-1] and changes.ambiguous != "earlier":
        found = shown[-1] if changes.ambiguous == "later" else None
    else:
        found = shown[0]
    return found.replace(tzinfo=None) if found else None


@pytest.mark.parametrize("zone", CHANGES)
def test_the_two_odd_hours_are_the_instants_that_are_declared(
    spark: SparkSession, zone: str
) -> None:
    times = around(zone)
    texts = [time.isoformat(" ") for time in times]
    declared = [
        ClockChanges(ambiguous, nonexistent)
        for ambiguous in get_args(ClockChanges.__annotations__["ambiguous"])
        for nonexistent in get_args(ClockChanges.__annotations__["nonexistent"])
    ]

    def build(text: Column) -> Column:
        return F.array(*(parse.parse_instant(text, timezone=zone, changes=c) for c in declared))

    found = each(spark, texts, build)
    expected = [[naive_by_changes(time, zone, changes) for changes in declared] for time in times]
    assert dict(zip(texts, found, strict=True)) == dict(zip(texts, expected, strict=True))


def test_a_time_beyond_the_last_year_is_none(spark: SparkSession) -> None:
    build = lambda c: parse.parse_instant(c, timezone="America/New_York")  # noqa: E731
    assert each(spark, ["9999-12-31 23:30"], build) == [None]


def test_patterns_may_mix_times_with_and_without_an_offset(spark: SparkSession) -> None:
    patterns = ("dd.MM.yyyy HH:mm[ XXX]", "M/d/yyyy h:mm a")
    texts = ["31.07.2024 08:00", "31.07.2024 08:00 +05:00", "7/31/2024 8:00 PM", "31.07.2024"]
    build = lambda c: parse.parse_instant(c, patterns, "Europe/Berlin")  # noqa: E731
    day = datetime(2024, 7, 31)
    hours = [day.replace(hour=6), day.replace(hour=3), day.replace(hour=18), None]
    assert each(spark, texts, build) == hours


@pytest.mark.parametrize("zone", CHANGES)
def test_an_instant_lies_on_the_day_that_clocks_of_its_zone_show(
    spark: SparkSession, zone: str
) -> None:
    times = [time.replace(tzinfo=UTC) for time in around(zone)]
    found = each(spark, times, lambda c: day_of(c, "timestamptz", zone), "timestamptz")
    assert found == [time.astimezone(ZoneInfo(zone)).date() for time in times]
    assert each(spark, times, lambda c: day_of(c, "timestamptz", None), "timestamptz") == [
        time.date() for time in times
    ]


def test_days_begin_where_clocks_first_show_them(spark: SparkSession) -> None:
    # In Sao Paulo clocks went from midnight to one.
    days = [date(2018, 11, 3), date(2018, 11, 4), date(2018, 11, 5)]
    build = lambda c: moment_of(c, "date", "America/Sao_Paulo")  # noqa: E731
    hours = [3, 3, 2]
    expected = [datetime(d.year, d.month, d.day, h) for d, h in zip(days, hours, strict=True)]
    assert each(spark, days, build, "date") == expected


def test_without_a_zone_a_local_time_is_compared_as_it_is(spark: SparkSession) -> None:
    time = datetime(2024, 7, 31, 8)
    assert each(spark, [time], lambda c: moment_of_local(c, None), "timestamp") == [time]
    local = each(spark, [time], lambda c: moment_of(c, "timestamp", "Europe/Berlin"), "timestamp")
    assert local == [time.replace(hour=6)]
    instant = time.replace(tzinfo=UTC)
    build = lambda c: moment_of(c, "timestamptz", "Europe/Berlin")  # noqa: E731
    assert each(spark, [instant], build, "timestamptz") == [time]
