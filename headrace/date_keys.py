"""Date keys: days as numbers yyyymmdd, which sort as dates do and are readable in queries."""

from datetime import date


def date_key(day: date) -> int:
    """The key of a day, such as 20170131."""
    return day.year * 10_000 + day.month * 100 + day.day


def day_of_key(key: int) -> date:
    """The day of a key; the inverse of `date_key`."""
    return date(key // 10_000, key // 100 % 100, key % 100)
