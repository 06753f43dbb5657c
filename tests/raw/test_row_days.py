"""The day that a row's text names."""

from datetime import date, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.config.entities.columns import ColumnConfig
from headrace.raw.row_days import row_days


def days(
    texts: list[str | None],
    *formats: str,
    kind: str = "timestamp",
    pivot: int | None = None,
    timezone: str | None = None,
) -> list[date | None]:
    column = ColumnConfig(name="sold_at", type=kind, formats=formats, pivot=pivot)
    return list(row_days(pa.array(texts, pa.string()), column, timezone).astype(object))


DAY = date(2010, 12, 1)


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        ("2010-12-01", ()),
        ("2010-12-1", ()),
        ("2010-12-01 08:26:00", ()),
        ("2010-12-01T08:26:00.123456", ()),
        ("2010-12-01T23:59:59Z", ()),
        (" 2010-12-01 ", ()),
        ("12/1/2010 8:26", ("M/d/yyyy H:mm",)),
        ("1.12.2010", ("yyyy-MM-dd", "d.M.yyyy")),
        ("Dec 1, 2010 11:59 PM", ("MMM d, yyyy h:mm a",)),
        ("Wednesday 1 December 2010", ("EEEE d MMMM yyyy",)),
        ("2010-12-01 at 9", ("yyyy-MM-dd 'at' H",)),
        ("20101201", ("yyyyMMdd[HHmmss]",)),
        ("20101201235959", ("yyyyMMdd[HHmmss]",)),
    ],
)
def test_a_text_names_its_day(text: str, formats: tuple[str, ...]) -> None:
    assert days([text], *formats) == [DAY]


@pytest.mark.parametrize("text", ["", "n/a", "2010-02-30", "2010-13-01", "2010-12-00", "12/1/2010"])
def test_a_text_that_is_no_day_names_none(text: str) -> None:
    assert days(["2010-12-01", text, None]) == [DAY, None, None]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2010-12-01T23:30:00-05:00", date(2010, 12, 2)),
        ("2010-12-01T00:30:00+0100", date(2010, 11, 30)),
        ("2010-12-01T00:30:00Z", DAY),
        ("2010-12-01T00:30:00", DAY),
    ],
)
def test_an_instant_belongs_to_its_utc_day(text: str, day: date) -> None:
    assert days([text], kind="timestamptz") == [day]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2010-12-01T00:30:00+11:00", DAY),
        ("2010-12-01T12:59:59Z", DAY),
        ("2010-12-01T13:00:00Z", date(2010, 12, 2)),
        ("2010-12-01T23:30:00", DAY),
        ("2010-12-01", DAY),
        ("never", None),
    ],
)
def test_an_instant_belongs_to_the_day_of_its_zone(text: str, day: date | None) -> None:
    assert days([text], kind="timestamptz", timezone="Australia/Sydney") == [day]


def test_noon_and_midnight_are_told_apart_where_an_offset_makes_it_matter() -> None:
    texts: list[str | None] = ["12/1/2010 12:10 AM +01", "12/1/2010 12:10 PM +01"]
    assert days(texts, "M/d/yyyy h:mm a X", kind="timestamptz") == [date(2010, 11, 30), DAY]


def test_a_year_of_two_digits_is_one_of_the_hundred_from_the_pivot_on() -> None:
    texts: list[str | None] = ["01DEC10", "01DEC29", "01DEC30", "01DEC99"]
    expected = [date(year, 12, 1) for year in (2010, 2029, 1930, 1999)]
    assert days(texts, "ddMMMyy", pivot=1930) == expected
    assert days(texts, "ddMMMuu", pivot=1930) == expected


def test_an_hour_without_minutes_is_shifted_by_its_offset() -> None:
    texts: list[str | None] = ["2010-12-01 23 -05:00", "2010-12-01 00 +01:00"]
    found = days(texts, "yyyy-MM-dd HH XXX", kind="timestamptz")
    assert found == [date(2010, 12, 2), date(2010, 11, 30)]


@pytest.mark.parametrize(
    ("text", "formats", "kind"),
    [
        ("Sept 1, 2010", ("MMM d, yyyy",), "date"),
        ("2010-09-01 08:26", (), "date"),
        ("2010-09-01 08:26:00,123", (), "timestamp"),
        ("2010-09-01T08:26:00+01", (), "timestamp"),
        ("2010-09-01 25:00", ("yyyy-MM-dd HH:mm",), "timestamp"),
    ],
)
def test_the_day_of_an_unreadable_value_is_read_where_it_can_be(
    text: str, formats: tuple[str, ...], kind: str
) -> None:
    assert days([text], *formats, kind=kind) == [date(2010, 9, 1)]


def test_a_year_before_the_first_partition_is_read() -> None:
    assert days(["0010-12-01"], "yyyy-MM-dd") == [date(10, 12, 1)]


@pytest.mark.property
@settings(max_examples=50, deadline=None)
@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31)), min_size=1))
def test_every_written_time_names_its_day(times: list[datetime]) -> None:
    texts: list[str | None] = [f"{t.month}/{t.day}/{t.year} {t.hour}:{t.minute:02}" for t in times]
    assert days(texts, "M/d/yyyy H:mm") == [t.date() for t in times]
