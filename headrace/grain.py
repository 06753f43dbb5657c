"""Grains of partitions: the periods of an asset, each named by the day on which it begins."""

from collections.abc import Iterable
from datetime import date, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt

# The one partition of a grain without periods: before every day, so that all of them know it.
WHOLE = date(1900, 1, 1)

_DAY = timedelta(days=1)
_MONDAY = 3  # 1970-01-01 was a Thursday.


class Grain(StrEnum):
    """How long a partition of an asset is.

    Attributes:
        NONE: One partition, `WHOLE`, holds the current state.
        SPARSE: Days, but only those on which something came: a version of an undated file, or a
            partition of an input that has another grain.
    """

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    NONE = "none"
    SPARSE = "sparse"

    @property
    def has_periods(self) -> bool:
        """Whether the partitions of any range of days are known from the days alone."""
        return self not in (Grain.NONE, Grain.SPARSE)

    def start_of(self, day: date) -> date:
        """First day of the period that a day lies in."""
        match self:
            case Grain.WEEK:
                return day - timedelta(days=day.weekday())
            case Grain.MONTH:
                return day.replace(day=1)
            case Grain.YEAR:
                return day.replace(month=1, day=1)
            case Grain.NONE:
                return WHOLE
        return day

    def starts_of(self, days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
        """As `start_of`, of many days; NaT stays."""
        match self:
            case Grain.WEEK:
                numbers = days.astype("datetime64[D]").astype(np.int64)
                mondays = (numbers + _MONDAY) // 7 * 7 - _MONDAY
                found = mondays.astype("datetime64[D]")
            case Grain.MONTH:
                found = days.astype("datetime64[M]").astype("datetime64[D]")
            case Grain.YEAR:
                found = days.astype("datetime64[Y]").astype("datetime64[D]")
            case Grain.NONE:
                found = np.full(days.shape, np.datetime64(WHOLE))
            case _:
                return days
        return np.where(np.isnat(days), np.datetime64("NaT"), found)

    def end_of(self, start: date) -> date:
        """The day after the last one of the period that begins with `start`."""
        match self:
            case Grain.WEEK:
                return start + timedelta(days=7)
            case Grain.MONTH:
                return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
            case Grain.YEAR:
                return start.replace(year=start.year + 1)
            case Grain.NONE:
                return date.max
        return start + _DAY

    def starts(self, first: date, last: date) -> list[date]:
        """The periods that lie in a range of days, both included, or overlap it.

        Of a grain without periods: none but `WHOLE`.
        """
        if not self.has_periods:
            return [WHOLE] if self == Grain.NONE else []
        found = [self.start_of(first)]
        while (following := self.end_of(found[-1])) <= last:
            found.append(following)
        return found

    def days_of(self, start: date) -> list[date]:
        """All days of a period. Not of `Grain.NONE`, whose period has no end."""
        count = (self.end_of(start) - start).days
        return [start + timedelta(days=n) for n in range(count)]

    def label(self, start: date) -> str:
        """A partition as people write it: 2024-03-05, 2024-W09, 2024-03, 2024, all."""
        if start == WHOLE:
            return "all"
        match self:
            case Grain.WEEK:
                return f"{start:%G-W%V}"
            case Grain.MONTH:
                return f"{start:%Y-%m}"
            case Grain.YEAR:
                return f"{start:%Y}"
        return start.isoformat()


def finest(grains: Iterable[Grain]) -> Grain:
    """The grain of what is built from partitions of several grains, each of which it has to know.

    A month lies in a year; no other period lies in another one but days. So a table of weeks and
    months has a partition wherever one of its inputs begins one: `SPARSE`.
    """
    found = {*grains}
    if Grain.DAY in found:
        return Grain.DAY
    if len(found) == 1:
        return found.pop()
    return Grain.MONTH if found == {Grain.MONTH, Grain.YEAR} else Grain.SPARSE
