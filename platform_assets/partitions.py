"""The days: one definition for every asset.

Belongs here: Dagster's partitions and their translation to dates.
Elsewhere: which of them may be read (headrace.ledger).
"""

from collections.abc import Iterable
from datetime import date

import dagster as dg

from headrace.config.settings import PartitionSettings

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def daily_partitions(settings: PartitionSettings) -> dg.DailyPartitionsDefinition:
    """UTC days from `start` up to `end`, or up to yesterday."""
    end = settings.end.isoformat() if settings.end else None
    return dg.DailyPartitionsDefinition(settings.start.isoformat(), end_date=end)


def days_of(keys: Iterable[str]) -> list[date]:
    """Partition keys as dates, in order."""
    return sorted(date.fromisoformat(key) for key in keys)


def range_tags(start: date, end: date) -> dict[str, str]:
    """Run tags that ask for the days from `start` to `end`, both included."""
    return {RANGE_START_TAG: start.isoformat(), RANGE_END_TAG: end.isoformat()}
