from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from headrace.engine import functions as parse
from headrace.errors import ConfigError
from headrace.time_patterns import compile_patterns
from tests.engine.evaluating import each


def times(spark: SparkSession, texts: Sequence[str | None], *formats: str) -> list[str | None]:
    found = each(spark, texts, lambda c: parse.parse_timestamp(c, formats))
    return [None if f is None else f.isoformat(" ") for f in found]


ISO = {
    "2024-02-29 23:59:59": "2024-02-29 23:59:59",
    "2024-02-29T23:59:59": "2024-02-29 23:59:59",
    " 2024-02-29 23:59:59\u00a0": "2024-02-29 23:59:59",
    "2024-02-29 23:59": "2024-02-29 23:59:00",
    "2024-02-29": "2024-02-29 00:00:00",
    "2024-2-9 7:05": "2024-02-09 07:05:00",
    "2024-02-29 23:59:59.5": "2024-02-29 23:59:59.500000",
    "2024-02-29 23:59:59.123456": "2024-02-29 23:59:59.123456",
    "2024-02-29 23:59:59.123456000": "2024-02-29 23:59:59.123456",
    "2024-02-29 23:59:59.1234560": "2024-02-29 23:59:59.123456",
    "1582-10-10 00:00:00": "1582-10-10 00:00:00",
    "9999-12-31 23:59:59.999999": "9999-12-31 23:59:59.999999",
    # Not a time.
    "2024-02-30 00:00:00": None,
    "1900-02-29 00:00:00": None,
    "2024-13-01 00:00:00": None,
    "2024-01-01 24:00:00": None,
    "2024-01-01 23:60:00": None,
    "2024-01-01 23:59:60": None,
    # Not the whole of one, or more than one; the engines would take most of these.
    "2024": None,
    "2024-02": None,
    "12:30": None,
    "2024-01-01 23": None,
    "2024-01-01 00:00:00.": None,
    # Parts of a microsecond, which are not kept.
    "2024-02-29 23:59:59.123456789": None,
    "2024-02-29 23:59:59.0000001": None,
    "2024-01-01  00:00:00": None,
    "2024-01-01 00:00:00 UTC": None,
    "2024-01-01T00:00:00Z": None,
    "2024-01-01 00:00:00+02:00": None,
    "0000-01-01 00:00:00": None,
    "0099-01-01 00:00:00": None,
    "10000-01-01 00:00:00": None,
    "-2024-01-01 00:00:00": None,
    "+2024-01-01 00:00:00": None,
    "2024-01-01 00:00:00\u2028": None,
    "\u0662\u0660\u0662\u0664-01-01 00:00:00": None,
    "20240101": None,
    "epoch": None,
    "now": None,
    "today": None,
    "": None,
    "abc": None,
}


def test_a_time_is_iso_by_default(spark: SparkSession) -> None:
    assert dict(zip(ISO, times(spark, [*ISO]), strict=True)) == ISO


PATTERNS: Mapping[tuple[str, ...], Mapping[str, str | None]] = {
    ("M/d/yyyy H:mm",): {
        "12/1/2010 8:26": "2010-12-01 08:26:00",
        "1/12/2010 18:06": "2010-01-12 18:06:00",
        "12/01/2010 08:26": "2010-12-01 08:26:00",
        "13/1/2010 8:26": None,
        "2/30/2010 8:26": None,
        "12/1/2010 8:26:05": None,
        "12/1/10 8:26": None,
        "2010-12-01 08:26:00": None,
    },
    ("dd.MM.yyyy",): {"31.12.2017": "2017-12-31 00:00:00", "1.12.2017": None, "31.11.2017": None},
    ("yyyyMMdd",): {"20170131": "2017-01-31 00:00:00", "20170132": None, "2017-01-31": None},
    ("yyyyMMddHHmmss",): {"20170131235958": "2017-01-31 23:59:58", "2017013123595": None},
    ("yyyy-MM-dd'T'HH:mm:ss",): {
        "2017-01-31T08:00:00": "2017-01-31 08:00:00",
        "2017-01-31 08:00:00": None,
        "2017-1-31T08:00:00": None,
    },
    ("dd/MM/yyyy[ HH:mm[:ss[.SSS]]]",): {
        "31/01/2017": "2017-01-31 00:00:00",
        "31/01/2017 08:05": "2017-01-31 08:05:00",
        "31/01/2017 08:05:09": "2017-01-31 08:05:09",
        "31/01/2017 08:05:09.25": "2017-01-31 08:05:09.250000",
        "31/01/2017 08:05:09.2500": None,
        "31/01/2017 ": "2017-01-31 00:00:00",
        "31/01/201708:05": None,
    },
    ("d MMM yyyy", "MMMM d, yyyy"): {
        "5 Mar 2017": "2017-03-05 00:00:00",
        "5 MARCH 2017": "2017-03-05 00:00:00",
        "September 30, 2017": "2017-09-30 00:00:00",
        "Sep 31, 2017": None,
        "5 Marc 2017": None,
    },
    ("M/d/yyyy h:mm a",): {
        "1/2/2017 12:05 AM": "2017-01-02 00:05:00",
        "1/2/2017 12:05 pm": "2017-01-02 12:05:00",
        "1/2/2017 1:05 PM": "2017-01-02 13:05:00",
        "1/2/2017 13:05 PM": None,
        "1/2/2017 0:05 AM": None,
        "1/2/17 1:05 PM": None,
    },
    ("EEE, d MMM yyyy HH:mm:ss",): {"Sun, 1 Jan 2017 08:00:01": "2017-01-01 08:00:01"},
    ("'on' yyyy (MM) dd",): {"on 2017 (01) 31": "2017-01-31 00:00:00", "on 2017 01 31": None},
    # The first that fits: these two read one text differently.
    ("M/d/yyyy", "d/M/yyyy"): {
        "1/2/2017": "2017-01-02 00:00:00",
        "31/1/2017": "2017-01-31 00:00:00",
        "31/31/2017": None,
    },
}


@pytest.mark.parametrize("formats", PATTERNS, ids=" or ".join)
def test_a_time_is_read_by_the_patterns_of_its_column(
    spark: SparkSession, formats: tuple[str, ...]
) -> None:
    cases = PATTERNS[formats]
    assert dict(zip(cases, times(spark, [*cases], *formats), strict=True)) == cases


@pytest.mark.parametrize("pivot", [1925, 1930, 1970, 2000, 1999, 1905, 1910, 1990])
def test_a_year_of_two_digits_is_one_of_the_hundred_from_the_pivot_on(
    spark: SparkSession, pivot: int
) -> None:
    years = [*range(pivot, pivot + 100)]
    texts = [f"1/2/{year % 100:02} 1:05 pm" for year in years]
    found = each(spark, texts, lambda c: parse.parse_date(c, ("M/d/yy h:mm a",), pivot=pivot))
    assert found == [date(year, 1, 2) for year in years]


def test_parts_of_a_microsecond_are_cut_where_the_column_says_so(spark: SparkSession) -> None:
    texts = ["2024-02-29T23:59:59.123456789", "2024-02-29T23:59:59.9999999", "2024-02-29 23:59:59"]
    found = each(spark, texts, lambda c: parse.parse_timestamp(c, truncates=True))
    assert [f.isoformat() for f in found] == [
        "2024-02-29T23:59:59.123456",
        "2024-02-29T23:59:59.999999",
        "2024-02-29T23:59:59",
    ]


INSTANTS = {
    "2024-02-29T23:59:59Z": datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC),
    "2024-02-29T23:59:59+02:00": datetime(2024, 2, 29, 21, 59, 59, tzinfo=UTC),
    "2024-02-29 23:59:59.5-0530": datetime(2024, 3, 1, 5, 29, 59, 500000, tzinfo=UTC),
    "2024-02-29 23:59 +14:00": datetime(2024, 2, 29, 9, 59, tzinfo=UTC),
    "2024-02-29 23:59:59": datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC),
    "2024-02-29": datetime(2024, 2, 29, tzinfo=UTC),
    "2024-02-30T00:00:00Z": None,
    "2024-02-29T23:59:59+15:00": None,
    "2024-02-29T23:59:59+02:60": None,
    "2024-02-29 23:59:59 Europe/Berlin": None,
    "12:30": None,
}


def test_an_instant_is_utc_unless_it_says_otherwise(spark: SparkSession) -> None:
    found = each(spark, [*INSTANTS], parse.parse_instant)
    in_utc = [None if f is None else f.replace(tzinfo=UTC) for f in found]
    assert dict(zip(INSTANTS, in_utc, strict=True)) == INSTANTS


def test_an_instant_is_read_by_a_pattern_with_a_zone(spark: SparkSession) -> None:
    texts = ["31.01.2017 08:00 +0200", "31.01.2017 08:00 Z", "31.01.2017 08:00"]
    found = each(
        spark,
        texts,
        lambda c: parse.parse_instant(c, ("dd.MM.yyyy HH:mm XXX",)),
    )
    assert found == [datetime(2017, 1, 31, 6), datetime(2017, 1, 31, 8), None]


DATES = {
    "2024-02-29": date(2024, 2, 29),
    " 2024-2-9 ": date(2024, 2, 9),
    "2024-02-30": None,
    "2024-01-01T": None,
    "2024-01-01 10:00:00": None,
    "24-01-01": None,
    "": None,
}


def test_a_date_is_a_real_day(spark: SparkSession) -> None:
    assert dict(zip(DATES, each(spark, [*DATES], parse.parse_date), strict=True)) == DATES


def test_a_date_may_come_with_a_time_that_its_pattern_names(spark: SparkSession) -> None:
    texts = ["12/1/2010 8:26", "12/1/2010"]
    found = each(spark, texts, lambda c: parse.parse_date(c, ("M/d/yyyy H:mm",)))
    assert found == [date(2010, 12, 1), None]


@pytest.mark.property
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.tuples(*(st.integers(low, high) for low, high in ((1990, 2040), (0, 13), (0, 32)))),
        max_size=60,
    )
)
def test_days_are_those_of_the_calendar(
    spark: SparkSession, days: list[tuple[int, int, int]]
) -> None:
    expected: list[date | None] = []
    for year, month, day in days:
        try:
            expected.append(date(year, month, day))
        except ValueError:
            expected.append(None)
    texts = [f"{day}.{month}.{year}" for year, month, day in days]
    assert each(spark, texts, lambda c: parse.parse_date(c, ("d.M.yyyy",))) == expected


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("yyyy-MM-dd Q", "unknown letters 'Q'"),
        ("yyyy-MM", "lacks a full date"),
        ("HH:mm", "lacks a full date"),
        ("yyyy-MM-dd h:mm", r"only one of hour \(h\) and AM/PM"),
        ("yyyy-MM-dd H:mm a", r"only one of hour \(h\) and AM/PM"),
        ("yyyy-MM-dd yyyy", "repeats a part"),
        ("M MMM d yyyy", "repeats a part"),
        ("yyyy-MM-dd[ HH:mm", "has an unpaired bracket"),
        ("yyyy-MM-dd HH:mm]", "has an unpaired bracket"),
        ("yyyy-MM-dd XXX", "has a zone"),
        ("dd/MM/yy", "has a year of two digits"),
    ],
)
def test_a_pattern_that_cannot_be_right_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        compile_patterns((pattern,), zone=False)
