"""Holidays and business days of the date dimension."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.config.star.models import CalendarConfig
from headrace.project.lineage import calendar_version
from headrace.star.calendar import build_calendar, calendar_schema


def calendar(start: date, end: date, business: dict[str, Any] | None, **more: Any) -> Any:
    return CalendarConfig.model_validate({"start": start, "end": end, "business": business, **more})


def business_days(config: CalendarConfig) -> dict[str, tuple[str | None, bool]]:
    """By day: the holiday, and whether it is a business day."""
    rows = build_calendar(config).to_pylist()
    assert all(row["is_holiday"] == (row["holiday"] is not None) for row in rows)
    return {str(row["date"]): (row["holiday"], row["is_business_day"]) for row in rows}


def test_holidays_of_a_subdivision_are_no_business_days() -> None:
    unity = calendar(date(2025, 10, 2), date(2025, 10, 5), {"country": "DE", "language": "de"})
    assert business_days(unity) == {
        "2025-10-02": (None, True),
        "2025-10-03": ("Tag der Deutschen Einheit", False),
        "2025-10-04": (None, False),
        "2025-10-05": (None, False),
    }
    epiphany = date(2025, 1, 6), date(2025, 1, 6)
    for part, is_open in (("BY", False), ("BE", True)):
        config = calendar(*epiphany, {"country": "DE", "subdivision": part})
        assert business_days(config)["2025-01-06"][1] is is_open


def test_the_weekend_is_that_of_the_country() -> None:
    week = date(2025, 11, 6), date(2025, 11, 9)  # Thursday to Sunday
    found = business_days(calendar(*week, {"country": "SA"}))
    assert [is_open for _, is_open in found.values()] == [True, False, False, True]


def test_declared_days_and_open_days_count_with_and_without_a_country() -> None:
    days = date(2024, 12, 21), date(2024, 12, 26)  # from a Saturday
    own = {"days": {date(2024, 12, 24): "Christmas Eve"}, "open_days": [date(2024, 12, 22)]}
    alone = business_days(calendar(*days, own))
    assert alone == {
        "2024-12-21": (None, False),
        "2024-12-22": (None, True),
        "2024-12-23": (None, True),
        "2024-12-24": ("Christmas Eve", False),
        "2024-12-25": (None, True),
        "2024-12-26": (None, True),
    }
    both = business_days(calendar(*days, {**own, "country": "DE"}))
    assert both["2024-12-24"] == ("Christmas Eve", False)
    assert both["2024-12-25"] == ("Christmas Day", False)


def test_a_sentinel_has_no_business_day() -> None:
    never = date(9999, 12, 31)
    config = calendar(date(2025, 1, 2), date(2025, 1, 2), {"country": "DE"}, sentinels=[never])
    assert business_days(config) == {"2025-01-02": (None, True), "9999-12-31": (None, False)}


def test_without_holidays_the_calendar_has_the_columns_of_before() -> None:
    plain = calendar(date(2025, 1, 2), date(2025, 1, 3), None)
    assert calendar_schema(plain).names[-1] == "is_weekend"
    assert build_calendar(plain).num_columns == len(calendar_schema(plain).names)


def test_a_new_release_of_the_package_makes_the_calendar_of_a_country_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    days = date(2025, 1, 2), date(2025, 1, 3)
    country = calendar(*days, {"country": "DE"})
    own = calendar(*days, {"days": {date(2025, 1, 2): "Ours"}})
    before = calendar_version(country), calendar_version(own)
    monkeypatch.setattr("headrace.project.lineage.version", lambda _: "99")
    assert calendar_version(country) != before[0]
    assert calendar_version(own) == before[1]


@pytest.mark.parametrize(
    ("business", "why"),
    [
        ({"country": "DW"}, "country: 'DW' is no country of the package holidays"),
        ({"country": "DE", "subdivision": "BX"}, "subdivision: 'BX' is not one of BB, BE"),
        ({"subdivision": "BY", "days": {"2025-01-02": "x"}}, "subdivision: is one of a country"),
        ({}, "days: is missing: name a `country`, or list the holidays"),
        ({"days": {"2026-01-01": "x"}}, "business: 2026-01-01 lies outside the calendar"),
        ({"country": "DE", "open_days": ["2024-01-01"]}, "2024-01-01 lies outside the calendar"),
    ],
)
def test_holidays_that_nobody_knows_are_refused(business: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        calendar(date(2025, 1, 1), date(2025, 12, 31), business)
    assert why in str(refused.value)


def test_years_that_the_package_does_not_know_are_refused() -> None:
    with pytest.raises(ValidationError, match="holidays of DE are known from 1991 to"):
        calendar(date(1980, 1, 1), date(2025, 12, 31), {"country": "DE"})
