"""Partitions that are stale: when a run has to build them."""

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
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class StalePlan:
    """What a tick does.

    Attributes:
        window: First and last day of the run that is asked for; None: no run.
        cursor: Stands for what was asked for last.
        reason: Why no run is asked for, in words.
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
    """Ask for one run of what is stale, once: what is stale still afterwards waits for a person.

    Args:
        stale: All that has to be built.
        alive: Runs that are under way: what they published, they bring further themselves.
        cursor: Of the tick before.
        last_day: The day of a run whose assets have to follow whole tables only.
    """
    due = [one for one in stale if not one.runs & {*alive}]
    known = cursor or ""
    if not due:
        waiting = f": {len(stale)} partitions wait for runs under way" if stale else ""
        return StalePlan(None, known, f"nothing has to be built again{waiting}")
    asked = content_id(*(f"{one.asset} {one.partition} {one.reason}" for one in due))
    if asked == known:
        why = f"{len(due)} partitions stayed stale after a run that was to build them"
        return StalePlan(None, known, f"{why}; headrace status says which")
    days = [one.partition for one in due if one.partition is not None] or [last_day]
    return StalePlan((min(days), max(days)), asked)


def build_stale_sensor(
    project: Project,
    job: dg.JobDefinition,
    partitions: dg.DailyPartitionsDefinition,
    lineages: Mapping[str, AssetLineage],
) -> dg.SensorDefinition:
    """Asks for a run of the partitions that are stale."""

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
        under_way = dg.RunsFilter(statuses=_UNDER_WAY, tags={ONLY_TAG: STALE})
        if context.instance.get_runs_count(under_way):
            return dg.SkipReason("a run of stale partitions is under way")
        ledger = warehouse.ledger()
        stale = all_stale(ledger, lineages, project.settings.partitions)
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
