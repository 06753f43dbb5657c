"""Ledger rows of the partitions that a step published, held or failed."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date

from headrace.ledger.build_plan import BuildPlan, content_id
from headrace.ledger.records import PartitionRecord, PartitionState
from headrace.quality.report import AuditedOutput, PartitionReport
from platform_assets.steps.events import Step


def ledger_records(
    step: Step,
    plan: BuildPlan,
    reports: Mapping[date, PartitionReport],
    snapshot_id: int | None,
) -> list[PartitionRecord]:
    """One ledger row a partition.

    A partition with a transient error is recorded without its inputs: it stays stale, and a later
    run builds it again.
    """
    return [
        PartitionRecord(
            asset=plan.lineage.name,
            partition=day,
            status="published" if report.outcome == "passed" else report.outcome,
            run_id=step.run_id,
            snapshot_id=snapshot_id if report.outcome == "passed" else None,
            code_version=plan.lineage.code_version,
            rows_in=report.rows_in,
            rows_out=report.rows_out,
            rows_quarantined=report.rows_quarantined,
            quality_score=report.quality_score,
            error=report.why() or None,
            data_version=plan.derived_version(day),
            seconds=round(time.monotonic() - plan.began, 3),
            inputs=None if report.is_transient else plan.inputs(day),
            checks=[
                {"name": c.name, "passed": c.passed, "expected": c.expected, "found": c.found}
                for c in report.checks
            ],
        )
        for day, report in reports.items()
    ]


def with_content_versions(
    records: Sequence[PartitionRecord],
    output: AuditedOutput,
    snapshot_id: int | None,
    unchanged: Collection[date],
) -> list[PartitionRecord]:
    """The records with the content versions that do not follow from the inputs' versions.

    Args:
        records: Of the step's own partitions.
        output: What the step staged.
        snapshot_id: Snapshot that published it; None if nothing was published.
        unchanged: Partitions whose rows equal the published ones; they keep their version.
    """
    published = [r.partition for r in records if r.status == "published" and r.partition]
    versions = output.versions(published) if output.versions else {}
    found = [_with_version(record, output, versions, snapshot_id) for record in records]
    return [replace(r, content="same") if r.partition in unchanged else r for r in found]


def _with_version(
    record: PartitionRecord,
    output: AuditedOutput,
    versions: Mapping[date, str],
    snapshot_id: int | None,
) -> PartitionRecord:
    day = record.partition
    if day is not None and day in versions:
        return replace(record, data_version=versions[day], content="new")
    if day in output.renewed:
        version = content_id(str(record.data_version), str(snapshot_id))
        return replace(record, data_version=version, content="new")
    return record


def with_new_content(record: PartitionRecord, before: PartitionState | None) -> PartitionRecord:
    """A record of new content, with the inputs that the ledger has for the partition.

    Args:
        record: Of the partition.
        before: Its state in the ledger; None: its inputs are unknown, so it stays stale.
    """
    code = before.published_code_version if before else None
    return replace(
        record,
        inputs=before.inputs if before else None,
        code_version=code or record.code_version,
        data_version=content_id(str(record.snapshot_id), str(record.partition)),
        content="new",
    )


def superseded_record(step: Step, plan: BuildPlan, day: date) -> PartitionRecord:
    """The row of a partition that a newer run published first, from newer inputs."""
    return PartitionRecord(
        plan.lineage.name,
        day,
        "superseded",
        step.run_id,
        code_version=plan.lineage.code_version,
        inputs=plan.inputs(day),
        error="a newer run published it first, from newer inputs",
    )
