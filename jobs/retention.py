"""The retention job and its schedule: drops old months of facts with `keep_months`."""

import dagster as dg

from headrace.config.loader import Project
from headrace.operations.retention import drop_old_months, facts_with_retention
from resources.warehouse import WarehouseResource

RETENTION_JOB = "retention"


def build_retention_job(project: Project) -> dg.JobDefinition | None:
    """A job that drops old months of the warehouse; None if no fact has `keep_months`."""
    if not facts_with_retention(project):
        return None

    @dg.op(name="drop_old_months", tags={"kind": "postgres"})
    def drop(context: dg.OpExecutionContext, warehouse: WarehouseResource) -> None:
        dropped = drop_old_months(project, warehouse.connection_factory())
        months = {fact: [f"{month:%Y-%m}" for month in found] for fact, found in dropped.items()}
        context.add_output_metadata({"months dropped": dg.MetadataValue.json(months)})

    @dg.job(
        name=RETENTION_JOB,
        description="Drops the months of facts that are older than their keep_months.",
        # A month that a long query reads cannot be detached; a retry, or the next run, drops it.
        op_retry_policy=dg.RetryPolicy(
            max_retries=project.settings.schedule.max_retries,
            delay=project.settings.schedule.retry_delay_seconds,
        ),
    )
    def retention() -> None:
        drop()

    return retention


def build_retention_schedule(project: Project, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """A schedule once a day, running by default."""
    return dg.ScheduleDefinition(
        name=RETENTION_JOB,
        job=job,
        cron_schedule=project.settings.schedule.retention_cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Drops the months of facts that are older than their keep_months.",
    )
