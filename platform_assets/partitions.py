"""Partitions: Dagster's definition for each grain, and the tags of a run's window."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta

import dagster as dg

from headrace.config.loader import Project
from headrace.config.settings import PartitionSettings
from headrace.grain import Grain
from io_managers.contexts import REBUILD_TAG

PARTITION_TAG = "dagster/partition"
# Dagster hides the tags of a range in the list of runs.
DAYS_TAG = "headrace/days"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
# Tag of a run whose steps build only the stale days of its range. Each step finds them when it
# starts, because earlier steps of the run may make more days stale.
ONLY_TAG = "headrace/only"
STALE = "stale"
_CRON = {Grain.WEEK: "0 0 * * 1", Grain.MONTH: "0 0 1 * *", Grain.YEAR: "0 0 1 1 *"}


def daily_partitions(settings: PartitionSettings) -> dg.DailyPartitionsDefinition:
    """UTC days from `start` up to `end`, or up to yesterday."""
    end = settings.end.isoformat() if settings.end else None
    return dg.DailyPartitionsDefinition(settings.start.isoformat(), end_date=end)


def partitions_of(grain: Grain, settings: PartitionSettings) -> dg.PartitionsDefinition | None:
    """UTC periods of a grain, named by their first days; None for a grain without periods.

    The current week, month or year is a partition too.
    """
    if grain == Grain.DAY:
        return daily_partitions(settings)
    if not grain.has_periods:
        return None
    last = settings.end - timedelta(days=1) if settings.end else None
    return dg.TimeWindowPartitionsDefinition(
        start=grain.start_of(settings.start).isoformat(),
        end=grain.end_of(grain.start_of(last)).isoformat() if last else None,
        fmt="%Y-%m-%d",
        cron_schedule=_CRON[grain],
        end_offset=0 if last else 1,
    )


def with_partitions(
    assets: dg.AssetsDefinition, grains: Mapping[dg.AssetKey, Grain], settings: PartitionSettings
) -> dg.AssetsDefinition:
    """Assets of one step, each with the partitions of its grain."""
    periods = {grain for grain in grains.values() if grain.has_periods}
    # The assets of a step share one definition (or have none): with several grains it is by day.
    common = periods.pop() if len(periods) == 1 else Grain.DAY
    definition = partitions_of(common, settings)
    return assets.map_asset_specs(
        lambda spec: spec.replace_attributes(
            partitions_def=definition if grains[spec.key].has_periods else None
        )
    )


def are_all_daily(project: Project) -> bool:
    """Whether no entity has partitions of weeks, months or years, which tags cannot name by day."""
    grains = {entity.grain for _, entity in project.entities().values()}
    return not grains & {Grain.WEEK, Grain.MONTH, Grain.YEAR}


def grains_in(job: dg.JobDefinition) -> Callable[[str], Grain]:
    """A function from the name of a job's asset to its grain, by its partitions definition."""
    layer = job.asset_layer

    def grain_of(name: str) -> Grain:
        key = dg.AssetKey(name.split("/"))
        definition = layer.get(key).partitions_def if layer.has(key) else None
        if definition is None:
            return Grain.SPARSE
        cron = getattr(definition, "cron_schedule", None)
        return next((grain for grain, text in _CRON.items() if text == cron), Grain.DAY)

    return grain_of


def days_of(keys: Iterable[str]) -> list[date]:
    """Partition keys as dates, in order."""
    return sorted(date.fromisoformat(key) for key in keys)


def window_of(run: dg.DagsterRun) -> tuple[date, date] | None:
    """First and last day of a run's window, by its tags; for longer periods, their first days.

    None for a run without a window, such as one of checks only or of assets without partitions.
    """
    if days := run.tags.get(DAYS_TAG):
        first, _, last = days.partition("...")
        return date.fromisoformat(first), date.fromisoformat(last)
    if key := run.tags.get(PARTITION_TAG):
        return date.fromisoformat(key), date.fromisoformat(key)
    if RANGE_START_TAG in run.tags and RANGE_END_TAG in run.tags:
        first, last = run.tags[RANGE_START_TAG], run.tags[RANGE_END_TAG]
        return date.fromisoformat(first), date.fromisoformat(last)
    return None


def range_tags(
    start: date,
    end: date,
    *,
    rebuild: bool = False,
    only_stale: bool = False,
    are_days_partitions: bool = True,
) -> dict[str, str]:
    """Run tags for the days from `start` to `end`, both included.

    A run of one day has the tag of its partition, by which the UI lists and filters runs.

    Args:
        start: First day.
        end: Last day.
        rebuild: Whether tables are rebuilt.
        only_stale: Whether each asset builds only its stale partitions.
        are_days_partitions: False if some partitions are longer: Dagster would look for the days
            among their keys, and fail or take the next period.
    """
    more = {REBUILD_TAG: "true"} if rebuild else {}
    more |= {ONLY_TAG: STALE} if only_stale else {}
    if not are_days_partitions:
        return {DAYS_TAG: f"{start}...{end}", **more}
    if start == end:
        return {PARTITION_TAG: start.isoformat(), **more}
    return {
        RANGE_START_TAG: start.isoformat(),
        RANGE_END_TAG: end.isoformat(),
        DAYS_TAG: f"{start}...{end}",
        **more,
    }


def own_tags(
    tags: Mapping[str, str], definition: dg.PartitionsDefinition[str]
) -> dict[str, str] | None:
    """Range tags of an asset's partitions that contain the run's days.

    None if the run has such tags already, or has no window.
    """
    if DAYS_TAG not in tags or RANGE_START_TAG in tags or PARTITION_TAG in tags:
        return None
    keys, (first, _, last) = definition.get_partition_keys(), tags[DAYS_TAG].partition("...")
    start, end = (keys[max(bisect_right(keys, day) - 1, 0)] for day in (first, last))
    return {RANGE_START_TAG: start, RANGE_END_TAG: end}


def takes_stale_days_only(run: dg.DagsterRun) -> bool:
    """Whether a run builds only the stale days of its range."""
    return run.tags.get(ONLY_TAG) == STALE
