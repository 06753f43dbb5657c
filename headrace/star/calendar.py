"""The calendar (date dimension), computed from the configuration."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import pyarrow as pa

from headrace.config.star.models import CalendarConfig
from headrace.date_keys import date_key
from headrace.schema import Column, TableSchema

_FRIDAY = 5
_BUSINESS = (
    Column("is_holiday", "boolean", False, "Whether the day is a holiday, also on a weekend."),
    Column("holiday", "string", True, "Name of the holiday."),
    Column("is_business_day", "boolean", False, "Neither a weekend of the country nor a holiday."),
)


def calendar_schema(config: CalendarConfig) -> TableSchema:
    """Key yyyymmdd, the date, and its parts; ISO weeks, Monday is 1."""
    parts = {
        "year": "Calendar year.",
        "quarter": "1 to 4.",
        "month": "1 to 12.",
        "day": "Day of the month, from 1.",
        "iso_week": "Week of ISO 8601, 1 to 53; the first days of January may be in the last week.",
        "day_of_week": "1 is Monday, 7 is Sunday.",
    }
    return TableSchema(
        (
            Column(config.key_column, "int", False, "yyyymmdd."),
            Column("date", "date", False, "The day."),
            *(Column(part, "int", False, meaning) for part, meaning in parts.items()),
            Column("is_weekend", "boolean", False, "Saturday or Sunday."),
            *(_BUSINESS if config.business is not None else ()),
        )
    )


def build_calendar(config: CalendarConfig) -> pa.Table:
    """One row a day from `start` to `end`, both included, and one for each sentinel."""
    known = {config.start + timedelta(n) for n in range((config.end - config.start).days + 1)}
    days = sorted(known | {*config.sentinels})
    rows = [
        (
            date_key(day), day, day.year, (day.month + 2) // 3, day.month, day.day,
            day.isocalendar().week, day.isoweekday(), day.isoweekday() > _FRIDAY,
        )
        for day in days
    ]  # fmt: skip
    rows = [(*row, *more) for row, more in zip(rows, _business(config, days), strict=True)]
    schema = calendar_schema(config)
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema.arrow())


def _business(
    config: CalendarConfig, days: Sequence[date]
) -> Iterator[tuple[bool, str | None, bool] | tuple[()]]:
    """The values of the columns on holidays, by day."""
    if config.business is None:
        yield from (() for _ in days)
        return
    known = [day for day in days if config.start <= day <= config.end]
    holidays = config.business.holidays(config.start, config.end)
    working = config.business.working_days(config.start, config.end, known)
    for day in days:
        yield day in holidays, holidays.get(day), day in working
