"""The daily job and its schedule: every layer for one day."""

from datetime import date, timedelta
from typing import Any

import dagster as dg

from headrace.config.loader import Project
from headrace.config.settings import ScheduleSettings
from jobs.mixed_grains import MixedGrainsJob
from platform_assets.partitions import are_all_daily, days_of, range_tags

DAILY_JOB = "daily"
# The result of define_asset_job, for which Dagster exports no name.
UnresolvedJob = Any


def build_daily_job(settings: ScheduleSettings) -> UnresolvedJob:
    """A job of all assets, each with its own partitions.

    Transient failures are retried: a source that does not answer, a day whose file has not arrived.
    Days that fail an audit are not; other days of the step stay published.
    """
    return MixedGrainsJob(
        DAILY_JOB,
        selection=dg.AssetSelection.all(),
        description="Every layer, from the sources to the marts, for a run of days.",
        # Permanent failures raise dg.Failure(allow_retries=False), which the policy respects.
        op_retry_policy=dg.RetryPolicy(
            max_retries=settings.max_retries, delay=settings.retry_delay_seconds
        ),
    )


def build_daily_schedule(
    project: Project,
    job: UnresolvedJob,
    partitions: dg.DailyPartitionsDefinition,
) -> dg.ScheduleDefinition:
    """A schedule of two runs: the day before, and all stale days."""

    @dg.schedule(
        name="daily_at_night",
        job=job,
        cron_schedule=project.settings.schedule.cron,
        execution_timezone="UTC",
        # Running by default, like the landing sensor.
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Runs every layer for the day before, and for the days that are stale.",
    )
    def daily_at_night(
        context: dg.ScheduleEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        day = (context.scheduled_execution_time - timedelta(days=1)).strftime("%Y-%m-%d")
        if not partitions.has_partition_key(day):
            return dg.SkipReason(f"{day} is outside the configured partitions")
        known, are_days = days_of(partitions.get_partition_keys()), are_all_daily(project)
        stale = range_tags(known[0], known[-1], only_stale=True, are_days_partitions=are_days)
        requested = date.fromisoformat(day)
        of_day = range_tags(requested, requested, are_days_partitions=are_days)
        # Dagster requires distinct run keys for several requests of one tick.
        return [
            dg.RunRequest(run_key=f"day {day}", tags=of_day),
            dg.RunRequest(run_key=f"stale {day}", tags=stale),
        ]

    return daily_at_night
