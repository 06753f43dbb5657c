"""Which partitions the days of a table's rows belong to, and which of them exist."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from headrace.config.settings import PartitionSettings
from headrace.grain import Grain
from headrace.sources.tables.database import Pending
from headrace.sources.tables.watermark import united


@dataclass(frozen=True)
class FoundPartitions:
    """Pending rows by partition.

    Attributes:
        pending: Of partitions that exist or may yet.
        future: Those of them that do not exist yet.
        outside: Rows of days that are no partition and never will be.
    """

    pending: Mapping[date, Pending]
    future: frozenset[date]
    outside: int


@dataclass(frozen=True)
class PartitionDays:
    """Which partition a day belongs to."""

    grain: Grain
    exist: PartitionSettings
    today: date = field(default_factory=lambda: datetime.now(UTC).date())

    @property
    def first(self) -> date:
        """The partition of rows without a day."""
        return self.grain.start_of(self.exist.start)

    def partitions_of(self, by_day: Mapping[date | None, Pending]) -> FoundPartitions:
        """Rows by partition, from rows by day."""
        parts: dict[date, list[Pending]] = {}
        future: set[date] = set()
        outside = 0
        for day, rows in by_day.items():
            if day is not None and self._never_exists(day):
                outside += rows.rows
                continue
            partition = self.first if day is None else self.grain.start_of(day)
            if day is not None and self._is_future(day):
                # A part of its own: the partition may exist and lack this day only.
                future.add(day)
                partition = day
            parts.setdefault(partition, []).append(rows)
        return FoundPartitions(
            {day: united(some) for day, some in parts.items()}, frozenset(future), outside
        )

    def _never_exists(self, day: date) -> bool:
        return day < self.exist.start or (self.exist.end is not None and day >= self.exist.end)

    def _is_future(self, day: date) -> bool:
        if self.exist.end is not None or self.grain == Grain.NONE:
            return False
        if self.grain == Grain.DAY:
            return day >= self.today
        return day >= self.grain.end_of(self.grain.start_of(self.today))
