"""The reconciliation job and its schedule: compares raw with tables of databases."""

from dataclasses import asdict

import dagster as dg

from headrace.config.loader import Project
from headrace.operations.reconcile import is_table, reconcile

RECONCILE_JOB = "reconcile"


def build_reconcile_job(project: Project) -> dg.JobDefinition | None:
    """A job that compares every table with raw; None if no source is a database."""
    names = [name for name in project.entities() if is_table(project, name)]
    if not names:
        return None
    repairs = project.settings.reconcile.repair

    @dg.op(name="reconcile_tables", tags={"kind": "database"})
    def reconcile_tables(context: dg.OpExecutionContext) -> None:
        found = reconcile(project, names, repair=repairs)
        context.add_output_metadata(
            {
                "tables": len(found),
                "rows that differ": sum(one.missing + one.changed + one.extra for one in found),
                "found": dg.MetadataValue.json(
                    [{**asdict(one), "repaired": len(one.repaired), "ranges": []} for one in found]
                ),
            }
        )
        if bad := [one for one in found if not one.is_good]:
            said = "; ".join(f"{one.entity}: {one.error or 'rows differ'}" for one in bad)
            raise dg.Failure(f"{said}; headrace reconcile SOURCE says where", allow_retries=False)

    @dg.job(
        name=RECONCILE_JOB,
        description="Compares raw with the tables of databases"
        + (", and captures again the rows that differ." if repairs else "."),
    )
    def compare_with_sources() -> None:
        reconcile_tables()

    return compare_with_sources


def build_reconcile_schedule(
    project: Project, job: dg.JobDefinition
) -> dg.ScheduleDefinition | None:
    """A schedule as `reconcile.cron` says, running by default; None without one."""
    cron = project.settings.reconcile.cron
    if cron is None:
        return None
    return dg.ScheduleDefinition(
        name=RECONCILE_JOB,
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compares raw with the tables of databases.",
    )
