"""Assets of processed: typed, deduplicated rows. Rows that break a rule go to quarantine."""

from collections.abc import Collection, Iterator, Sequence
from datetime import date

import dagster as dg

from headrace.config.loader import Project
from headrace.pipeline.full_snapshots import NAMESPACE as QUARANTINED_KEYS
from headrace.pipeline.full_snapshots import SnapshotAudit
from headrace.pipeline.processed import ProcessedStep
from headrace.project.lineage import lineage_columns_read, processed_lineage
from headrace.quality.registry import TableKind
from headrace.quality.report import AuditedOutput, AuditedTable, bad_days, passed_days
from headrace.standardize.schemas import processed_schema, quarantine_schema
from platform_assets.keys import (
    PROCESSED,
    QUARANTINE,
    RAW,
    name_of,
    processed_key,
    raw_key,
    table_of,
)
from platform_assets.metadata import Declarations, check_outputs
from platform_assets.partitions import partitions_of
from platform_assets.steps.executor import starts_first
from platform_assets.steps.recorder import LedgerRecorder
from platform_assets.steps.run_context import properties_of, stamp_of
from resources.lake import LakeResource
from resources.spark import SparkResource


def build_processed_asset(
    project: Project,
    name: str,
    declarations: Declarations,
    *,
    is_first: bool = False,
) -> dg.AssetsDefinition:
    """The typed, deduplicated and audited rows of one entity."""
    entity, uses = project.entities()[name][1], project.star.uses_of(name)
    key, lineage = processed_key(name), processed_lineage(project, name)
    version = lineage.code_version
    snapshots = uses.full_snapshots if uses else ()
    kind: TableKind = "entity_of_full_snapshots" if snapshots else "entity"

    @dg.asset(
        key=key,
        deps=[raw_key(name), *sorted({processed_key(lookup.entity) for lookup in entity.lookups})],
        partitions_def=partitions_of(lineage.grain, project.settings.partitions),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="lake_io",
        group_name=PROCESSED,
        kinds={"pyspark", "iceberg"},
        description=entity.description,
        owners=[*entity.owners],
        tags=entity.tags,
        metadata=declarations.table_metadata(
            f"{PROCESSED}.{table_of(name)}", processed_schema(entity)
        ),
        check_specs=declarations.check_specs(key, kind),
        code_version=version,
        op_tags=starts_first() if is_first else None,
    )
    def processed(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        spark: SparkResource,
        recorder: LedgerRecorder,
    ) -> Iterator[dg.Output[AuditedOutput | AuditedTable | None]]:
        def stage(days: Sequence[date]) -> AuditedOutput:
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
                batch_bytes=project.settings.engine.batch_bytes,
                snapshots=audit,
                source_order=uses.source_order if uses else (),
                lineage_read=lineage_columns_read(project, name),
                references={
                    lookup.entity: lake.scan(PROCESSED, table_of(lookup.entity))
                    for lookup in entity.lookups
                },
                folder=project.folder,
            )
            published = recorder.built_from_other_inputs(plan)
            staged = step.stage(name_of(key), lake.scan(RAW, table_of(name), days), published)

            def publish_quarantine(some: Collection[date]) -> None:
                rows = {day: rows for day, rows in staged.quarantined.items() if day in some}
                quarantine.replace(rows, schema=quarantine_schema(entity), properties={})
                if audit is not None:
                    # For published days only: a held day keeps its published rows and keys.
                    good = [day for day in passed_days(staged.reports) if day in some]
                    audit.publish_keys(staged.quarantined_keys, good)

            return AuditedOutput(
                processed_schema(entity),
                {day: staged.partitions[day] for day in passed_days(staged.reports)},
                bad_days(staged.reports),
                properties_of(context.run, version),
                reports=staged.reports,
                publish_quarantine=publish_quarantine,
                unchanged=staged.unchanged,
            )

        plan = recorder.plan(context, lineage)
        yield dg.Output(recorder.stage(context, plan, stage))
        yield from check_outputs(context)

    return processed
