"""The days: one definition for every asset."""

from collections.abc import Iterable
from datetime import date

import dagster as dg

from headrace.config.settings import PartitionSettings
from io_managers.contexts import REBUILD_TAG

PARTITION_TAG = "dagster/partition"
# Dagster hides the tags of a range in the list of runs.
DAYS_TAG = "headrace/days"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
# Tag of a run that builds, of the days of its range, those that are stale when a step comes to
# them: what an earlier step of it published makes more of them stale.
ONLY_TAG = "headrace/only"
STALE = "stale"


def daily_partitions(settings: PartitionSettings) -> dg.DailyPartitionsDefinition:
    """UTC days from `start` up to `end`, or up to yesterday."""
    end = settings.end.isoformat() if settings.end else None
    return dg.DailyPartitionsDefinition(settings.start.isoformat(), end_date=end)


def days_of(keys: Iterable[str]) -> list[date]:
    """Partition keys as dates, in order."""
    return sorted(date.fromisoformat(key) for key in keys)


def days_of_run(context: dg.AssetExecutionContext) -> list[date] | None:
    """The days that a run is about; None where it names none, as a run of checks alone does."""
    if context.has_partition_key or context.has_partition_key_range:
        return days_of(context.partition_keys)
    return None


def range_tags(
    start: date, end: date, *, rebuild: bool = False, only_stale: bool = False
) -> dict[str, str]:
    """Run tags that ask for the days from `start` to `end`, both included.

    A run of one day has it as its partition, by which the UI lists and filters runs.
    """
    more = {REBUILD_TAG: "true"} if rebuild else {}
    more |= {ONLY_TAG: STALE} if only_stale else {}
    if start == end:
        return {PARTITION_TAG: start.isoformat(), **more}
    return {
        RANGE_START_TAG: start.isoformat(),
        RANGE_END_TAG: end.isoformat(),
        DAYS_TAG: f"{start}...{end}",
        **more,
    }


def takes_stale_days_only(run: dg.DagsterRun) -> bool:
    """Whether a run builds just the stale days of its range."""
    return run.tags.get(ONLY_TAG) == STALE
