"""The maintenance job and its schedule: expires snapshots and deletes orphan files, each day."""

from dataclasses import asdict

import dagster as dg

from headrace.config.loader import Project
from headrace.operations.lake_maintenance import maintain

MAINTENANCE_JOB = "maintenance"


def build_maintenance_job(project: Project) -> dg.JobDefinition:
    """A job that maintains every table of the lake."""

    @dg.op(name="maintain_lake", tags={"kind": "iceberg"})
    def maintain_lake(context: dg.OpExecutionContext) -> None:
        done = maintain(project)
        changed = [
            asdict(table) for table in done if table.snapshots_expired or table.files_deleted
        ]
        context.add_output_metadata(
            {
                "tables checked": len(done),
                "files deleted": sum(table.files_deleted for table in done),
                "bytes deleted": sum(table.bytes_deleted for table in done),
                "tables changed": dg.MetadataValue.json(changed),
            }
        )

    @dg.job(
        name=MAINTENANCE_JOB,
        description="Expires old snapshots of the lake's tables and deletes orphan files.",
        op_retry_policy=dg.RetryPolicy(
            max_retries=project.settings.schedule.max_retries,
            delay=project.settings.schedule.retry_delay_seconds,
        ),
    )
    def maintenance() -> None:
        maintain_lake()

    return maintenance


def build_maintenance_schedule(project: Project, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """A schedule once a day, running by default."""
    return dg.ScheduleDefinition(
        name=MAINTENANCE_JOB,
        job=job,
        cron_schedule=project.settings.maintenance.cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Expires old snapshots of the lake's tables and deletes orphan files.",
    )
