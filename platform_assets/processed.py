"""Processed: typed, deduplicated rows; what resists goes to quarantine.

Belongs here: the factory of processed assets.
Elsewhere: typing and rules (headrace.standardize), staging (headrace.layers.processed).
"""

from collections.abc import Iterator

import dagster as dg

from headrace.config.loading import Project
from headrace.lake.scan import LakeScan
from headrace.layers.full_snapshots import NAMESPACE as QUARANTINED_KEYS
from headrace.layers.full_snapshots import SnapshotAudit
from headrace.layers.processed import ProcessedStep
from headrace.quality.report import AuditedOutput, bad_days, passed_days
from headrace.standardize.rows import processed_schema, quarantine_schema
from headrace.version import code_version
from platform_assets.declare import (
    FULL_SNAPSHOT_CHECKS,
    PROCESSED_CHECKS,
    check_outputs,
    check_specs,
    table_metadata,
)
from platform_assets.executor import starts_first
from platform_assets.keys import PROCESSED, QUARANTINE, name_of, processed_key, raw_key, table_of
from platform_assets.partitions import days_of
from platform_assets.recorder import PublicationRecorder
from platform_assets.runs import properties_of, stamp_of
from resources.lake import LakeResource
from resources.spark import SparkResource


def build_processed_asset(
    project: Project,
    name: str,
    partitions: dg.PartitionsDefinition,
    *,
    for_ui: bool,
    is_first: bool = False,
) -> dg.AssetsDefinition:
    """One entity: captured versions in; typed, deduplicated, audited rows out."""
    entity, uses = project.entities()[name][1], project.star.uses_of(name)
    # Another use by the star gives other rows, or other reasons to hold a day.
    key, version = processed_key(name), code_version(entity, *([uses] if uses else []))
    snapshots = uses.full_snapshots if uses else ()
    checks = FULL_SNAPSHOT_CHECKS if snapshots else PROCESSED_CHECKS

    @dg.asset(
        key=key,
        ins={"raw": dg.AssetIn(raw_key(name))},
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="lake_io",
        group_name=PROCESSED,
        kinds={"pyspark", "iceberg"},
        description=entity.description,
        owners=[*entity.owners],
        tags=entity.tags,
        metadata=table_metadata(
            f"{PROCESSED}.{table_of(name)}", processed_schema(entity), for_ui=for_ui
        ),
        check_specs=check_specs(key, checks, for_ui=for_ui),
        code_version=version,
        op_tags=starts_first() if is_first else None,
    )
    def processed(
        context: dg.AssetExecutionContext,
        raw: LakeScan,
        lake: LakeResource,
        spark: SparkResource,
        recorder: PublicationRecorder,
    ) -> Iterator[dg.Output[AuditedOutput | None]]:
        days = days_of(context.partition_keys)
        with recorder.attempt(context, days):
            quarantine = lake.table(QUARANTINE, table_of(name))
            table, engine = lake.table(PROCESSED, table_of(name)), spark.session()
            audit = None
            if snapshots:
                keys = lake.table(QUARANTINED_KEYS, table_of(name))
                audit = SnapshotAudit(engine, entity, table, keys, snapshots)
            step = ProcessedStep(
                spark=engine,
                entity=entity,
                table=table,
                quarantine=quarantine,
                stamp=stamp_of(context.run, version),
                slice_bytes=project.settings.engine.slice_bytes,
                snapshots=audit,
                source_order=uses.source_order if uses else (),
            )
            staged = step.stage(name_of(key), raw)
            # Before the rows themselves: whoever sees a day sees also what was set aside of it.
            # A held day's quarantine says why it is held.
            quarantine.replace(staged.quarantined, schema=quarantine_schema(entity), properties={})
            good = passed_days(staged.reports)
            if audit is not None:
                # Of published days only: a held one keeps its rows, and those set aside of them.
                audit.publish_keys(staged.quarantined_keys, good)
        yield dg.Output(
            AuditedOutput(
                processed_schema(entity),
                {day: staged.partitions[day] for day in good},
                bad_days(staged.reports),
                properties_of(context.run, version),
                reports=staged.reports,
            )
        )
        yield from check_outputs(context)

    return processed
