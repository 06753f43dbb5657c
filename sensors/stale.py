"""The sensor of stale partitions: it requests runs that build them again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg

from headrace.config.loader import Project
from headrace.ledger.build_plan import AssetLineage, content_id
from headrace.ledger.staleness import StalePartition, all_stale
from platform_assets.partitions import ONLY_TAG, STALE, are_all_daily, days_of, range_tags
from resources.warehouse import WarehouseResource

_INTERVAL_SECONDS = 30
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class StalePlan:
    """The result of a tick.

    Attributes:
        window: First and last day of the run to request; None: no run.
        cursor: Identifies the partitions that were requested last.
        reason: Why no run is requested.
    """

    window: tuple[date, date] | None
    cursor: str
    reason: str = ""


def plan_stale(
    stale: Sequence[StalePartition],
    alive: Collection[str],
    cursor: str | None,
    *,
    last_day: date,
) -> StalePlan:
    """Request one run of the stale partitions; those that are stale after it are not repeated.

    Args:
        stale: All stale partitions.
        alive: Runs in progress: they build what depends on their own publications.
        cursor: Of the previous tick.
        last_day: The day to run if only assets without partitions are stale.
    """
    due = [one for one in stale if not one.runs & {*alive}]
    known = cursor or ""
    if not due:
        waiting = f": {len(stale)} partitions wait for runs in progress" if stale else ""
        return StalePlan(None, known, f"no partition has to be built again{waiting}")
    requested = content_id(*(f"{one.asset} {one.partition} {one.reason}" for one in due))
    if requested == known:
        why = f"{len(due)} partitions are still stale after the run that was requested for them"
        return StalePlan(None, known, f"{why}; headrace status shows them")
    days = [one.partition for one in due if one.partition is not None] or [last_day]
    return StalePlan((min(days), max(days)), requested)


def build_stale_sensor(
    project: Project,
    job: dg.JobDefinition,
    partitions: dg.DailyPartitionsDefinition,
    lineages: Mapping[str, AssetLineage],
) -> dg.SensorDefinition:
    """The sensor that requests a run of the partitions that are stale."""

    @dg.sensor(
        name="stale_partitions",
        job=job,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Builds partitions again whose inputs or code changed, and those that a run "
        "left unfinished.",
    )
    def stale_partitions(
        context: dg.SensorEvaluationContext, warehouse: WarehouseResource
    ) -> dg.SensorResult | dg.SkipReason:
        in_progress = dg.RunsFilter(statuses=IN_PROGRESS, tags={ONLY_TAG: STALE})
        if context.instance.get_runs_count(in_progress):
            return dg.SkipReason("a run of stale partitions is in progress")
        ledger = warehouse.ledger()
        # The landing sensor asks for a run when the file of a held partition arrives or is overdue.
        found = all_stale(ledger, lineages, project.settings.partitions)
        stale = [one for one in found if not one.waits]
        alive = ledger.alive({run for one in stale for run in one.runs})
        known = days_of(partitions.get_partition_keys())
        plan = plan_stale(stale, alive, context.cursor, last_day=known[-1])
        if plan.window is None:
            return dg.SkipReason(plan.reason)
        first, last = (min(max(day, known[0]), known[-1]) for day in plan.window)
        tags = range_tags(first, last, only_stale=True, are_days_partitions=are_all_daily(project))
        request = dg.RunRequest(tags=tags)
        return dg.SensorResult(run_requests=[request], cursor=plan.cursor)

    return stale_partitions
