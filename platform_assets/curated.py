"""Assets of curated: the star schema in the lake."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import dagster as dg

from headrace.config.loader import Project
from headrace.config.star.models import DimensionConfig, FactConfig
from headrace.lake.table import LakeTable
from headrace.pipeline.curated.calendar import CalendarStep
from headrace.pipeline.curated.dimensions import DimensionStep, dimension_sources
from headrace.pipeline.curated.facts import AuditedFact, FactStep
from headrace.pipeline.curated.inferred_members import inferring_facts
from headrace.pipeline.curated.periodic_snapshots import PeriodicSnapshotStep
from headrace.pipeline.full_snapshots import NAMESPACE as QUARANTINED_KEYS
from headrace.project.lineage import calendar_lineage, dimension_lineage, fact_lineage
from headrace.project.version import code_version
from headrace.quality.registry import TableKind
from headrace.quality.report import AuditedOutput, AuditedTable, bad_days, passed_days
from headrace.star.calendar import calendar_schema
from headrace.star.facts import lake_fact_schema
from headrace.star.scd2.dimensions import dimension_schema
from platform_assets.keys import CURATED, PROCESSED, curated_key, name_of, processed_key, table_of
from platform_assets.metadata import Declarations, check_outputs
from platform_assets.partitions import partitions_of
from platform_assets.steps.recorder import LedgerRecorder
from platform_assets.steps.run_context import properties_of
from resources.lake import LakeResource
from resources.spark import SparkResource


def build_dimension_asset(
    project: Project, config: DimensionConfig, declarations: Declarations
) -> dg.AssetsDefinition:
    """A dimension; a partition stands for the change events of its day."""
    entity, key = project.dimension_entity(config), curated_key(config.name)
    # Facts from which members are inferred.
    facts = [
        fact.entity for fact in project.star.facts if config.infers_members and _joins(fact, config)
    ]
    lineage = dimension_lineage(project, config)
    version = lineage.code_version

    @dg.asset(
        key=key,
        deps=sorted({*map(processed_key, (*config.entities, *facts))}),
        partitions_def=partitions_of(lineage.grain, project.settings.partitions),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="lake_io",
        group_name=CURATED,
        kinds={"pyspark", "iceberg"},
        description=config.description,
        owners=[*config.owners],
        tags=config.tags,
        metadata=declarations.table_metadata(
            f"{CURATED}.{config.name}", dimension_schema(config, entity)
        ),
        check_specs=declarations.check_specs(key, "dimension"),
        code_version=version,
    )
    def dimension(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        spark: SparkResource,
        recorder: LedgerRecorder,
    ) -> Iterator[dg.Output[AuditedOutput | AuditedTable | None]]:
        def processed(name: str) -> LakeTable:
            return lake.table(PROCESSED, table_of(name))

        def stage(days: Sequence[date]) -> AuditedTable:
            step = DimensionStep(
                spark=spark.session(),
                config=config,
                entity=entity,
                table=lake.table(CURATED, config.name),
                sources=dimension_sources(project, config, processed),
                facts=inferring_facts(project, config, processed),
                code_version=version,
                quarantined_keys=(
                    lake.table(QUARANTINED_KEYS, table_of(config.entity))
                    if config.infers_deletes
                    else None
                ),
            )
            staged = step.stage(days, plan.stale)
            # With the output's name, because declared checks are outputs too.
            late = {"late_members": staged.late_members}
            context.add_output_metadata(late, output_name="result")
            return AuditedTable(
                staged.table.schema,
                staged.table.files,
                {**properties_of(context.run, version), **staged.table.properties},
                reports=staged.reports,
                restated=staged.restated,
            )

        # Held until the table is published: of two concurrent runs, the later one must read all
        # that the earlier one has read, or its commit would remove the earlier run's days.
        with recorder.lock(context, name_of(key)):
            plan = recorder.plan(context, lineage, with_stale=True)
            yield dg.Output(recorder.stage(context, plan, stage))
        yield from check_outputs(context)

    return dimension


def build_calendar_asset(project: Project, declarations: Declarations) -> dg.AssetsDefinition:
    """The date dimension; a partition stands for the rows of its days."""
    config, lineage = project.star.calendar, calendar_lineage(project)
    key = curated_key(config.name)
    version = lineage.code_version

    @dg.asset(
        key=key,
        partitions_def=partitions_of(lineage.grain, project.settings.partitions),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="lake_io",
        group_name=CURATED,
        kinds={"python", "iceberg"},
        description=config.description,
        owners=[*config.owners],
        tags=config.tags,
        metadata=declarations.table_metadata(f"{CURATED}.{config.name}", calendar_schema(config)),
        code_version=version,
    )
    def calendar(
        context: dg.AssetExecutionContext, lake: LakeResource, recorder: LedgerRecorder
    ) -> Iterator[dg.Output[AuditedOutput | AuditedTable]]:
        def stage(days: Sequence[date]) -> AuditedTable:
            step = CalendarStep(config, lake.table(CURATED, config.name), lineage.grain)
            return step.stage(days, properties_of(context.run, version))

        with recorder.lock(context, name_of(key)):
            plan = recorder.plan(context, lineage)
            yield dg.Output(recorder.stage(context, plan, stage))

    return calendar


def build_fact_asset(
    project: Project, config: FactConfig, declarations: Declarations
) -> dg.AssetsDefinition:
    """A fact with surrogate keys: a row for each processed row, or for each key and day."""
    entity = project.entities()[config.entity][1]
    dimensions = {j.dimension: project.star.dimension(j.dimension) for j in config.dimensions}
    key, lineage = curated_key(config.name), fact_lineage(project, config)
    version = lineage.code_version
    schema = lake_fact_schema(config, entity, dimensions)
    dimension_keys = [curated_key(name) for name in dimensions]
    kind: TableKind = "periodic_snapshot" if config.is_snapshot else "fact"

    def staged_fact(
        step: FactStep, days: Sequence[date], lake: LakeResource, recorder: LedgerRecorder
    ) -> AuditedFact:
        if not config.accumulates:
            processed = lake.scan(PROCESSED, table_of(config.entity), days)
            return step.stage(name_of(key), processed, days)
        states = recorder.ledger().states(name_of(key))
        return PeriodicSnapshotStep(
            step,
            lake.table(PROCESSED, table_of(config.entity)),
            [day for day, state in states.items() if day and state.published_at],
            code_version(config, entity),
        ).stage(name_of(key), days)

    @dg.asset(
        key=key,
        deps=[processed_key(config.entity), *dimension_keys],
        partitions_def=partitions_of(lineage.grain, project.settings.partitions),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="lake_io",
        group_name=CURATED,
        kinds={"pyspark", "iceberg"},
        description=config.description,
        owners=[*config.owners],
        tags=config.tags,
        metadata=declarations.table_metadata(f"{CURATED}.{config.name}", schema),
        check_specs=declarations.check_specs(key, kind),
        code_version=version,
    )
    def fact(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        spark: SparkResource,
        recorder: LedgerRecorder,
    ) -> Iterator[dg.Output[AuditedOutput | AuditedTable | None]]:
        table = lake.table(CURATED, config.name)

        def stage(days: Sequence[date]) -> AuditedOutput:
            step = FactStep(
                spark=spark.session(),
                config=config,
                entity=entity,
                dimensions=_tables(lake, dimensions),
                table=table,
                batch_bytes=project.settings.engine.batch_bytes,
            )
            staged = staged_fact(step, days, lake, recorder)
            rekeyed = staged.rekeyed.reports
            moved = sum(report.rows_rekeyed for report in rekeyed.values())
            days_moved = sum(report.rows_rekeyed > 0 for report in rekeyed.values())
            counts = {"days_rekeyed": days_moved, "rows_rekeyed": moved}
            if config.accumulates:
                counts["days_rebuilt"] = len(rekeyed) - days_moved
            context.add_output_metadata(counts, output_name="result")
            published = {
                **{day: staged.rekeyed.partitions[day] for day in passed_days(rekeyed)},
                **{day: staged.days.partitions[day] for day in passed_days(staged.days.reports)},
            }
            return AuditedOutput(
                schema,
                published,
                bad_days(staged.days.reports),
                {**properties_of(context.run, version), **staged.read},
                reports=staged.days.reports,
                restated=rekeyed,
                renewed=staged.renewed,
                is_current=staged.is_current,
            )

        # Held until the fact is published: a concurrent run with older versions of the dimensions
        # must not undo the re-keying of this one.
        with recorder.lock(context, name_of(key)):
            recorder.reconcile(context, lineage, table)
            plan = recorder.plan(context, lineage)
            yield dg.Output(recorder.stage(context, plan, stage))
        yield from check_outputs(context)

    return fact


def _tables(
    lake: LakeResource, dimensions: Mapping[str, DimensionConfig]
) -> dict[str, tuple[DimensionConfig, LakeTable]]:
    return {name: (config, lake.table(CURATED, name)) for name, config in dimensions.items()}


def _joins(fact: FactConfig, dimension: DimensionConfig) -> bool:
    return any(join.dimension == dimension.name for join in fact.dimensions)
