"""Assets of raw: captured rows, unchanged."""

from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta

import dagster as dg

from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.loader import Project
from headrace.errors import HeadraceError
from headrace.grain import Grain
from headrace.pipeline.raw import RawStep
from headrace.project.lineage import raw_lineage
from headrace.quality.report import AuditedOutput, AuditedTable
from headrace.raw.capture import raw_schema
from platform_assets.keys import RAW, name_of, raw_key, table_of
from platform_assets.metadata import Declarations
from platform_assets.partitions import partitions_of, takes_stale_days_only
from platform_assets.steps.executor import one_at_a_time, starts_first
from platform_assets.steps.recorder import LedgerRecorder
from platform_assets.steps.run_context import properties_of
from platform_assets.steps.step_plan import SourcePartitions
from resources.lake import LakeResource
from resources.sources import SourcesResource


def build_raw_asset(
    project: Project,
    name: str,
    declarations: Declarations,
    *,
    is_first: bool = False,
) -> dg.AssetsDefinition:
    """The captured versions of one entity: append-only, one file a version and partition."""
    entities = project.entities()
    source, entity = entities[name]
    key, lineage = raw_key(name), raw_lineage(project, name)
    version = lineage.code_version
    lineages = {one.name: one for one in (raw_lineage(project, known) for known in entities)}

    @dg.asset(
        key=key,
        partitions_def=partitions_of(lineage.grain, project.settings.partitions),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="lake_io",
        group_name=RAW,
        kinds={source.kind_of(entity), "iceberg"},
        description=f"{entity.description} As captured, with file and line.",
        owners=[*entity.owners],
        tags=entity.tags,
        metadata=declarations.table_metadata(f"{RAW}.{table_of(name)}", raw_schema(entity)),
        code_version=version,
        freshness_policy=_freshness(entity),
        op_tags=one_at_a_time(_read_in_turn(source)) | (starts_first() if is_first else {}),
    )
    def raw(
        context: dg.AssetExecutionContext,
        sources: SourcesResource,
        lake: LakeResource,
        recorder: LedgerRecorder,
    ) -> Iterator[dg.Output[AuditedOutput | AuditedTable]]:
        step = RawStep(
            asset=name_of(key),
            source=name,
            entity=entity,
            connector=sources.connector(project, name),
            table=lake.table(RAW, table_of(name)),
            partitions=project.settings.partitions,
            run_id=context.run.run_id,
        )

        failed: set[date] = set()

        def stage(days: Sequence[date]) -> AuditedOutput:
            output = step.stage(days, properties_of(context.run, version))
            failed.update(output.held)
            for warning in output.warnings:
                context.log.warning(warning)
            return output

        # Undated objects have the partitions of their versions.
        days = step.sparse_partitions() if lineage.grain == Grain.SPARSE else None
        pending = _pending(context, step) if takes_stale_days_only(context.run) else ()
        own = SourcePartitions(days, pending)
        plan = recorder.plan(context, lineage, own=own, sources=lineages)
        yield dg.Output(recorder.stage(context, plan, stage))
        # Dagster goes on here after the I/O manager has committed the output.
        _after_commit(context, step, failed)

    return raw


def _read_in_turn(source: SourceConfig) -> str:
    """What the captures of a source take turns on: files on the interpreter, others on the server.

    Parsing files is bound by Python's interpreter lock. A database or API is waited for, while
    another one can be read; each is read by one capture of a run.
    """
    return getattr(source, "connection", None) or "files"


def _after_commit(
    context: dg.AssetExecutionContext, step: RawStep, failed: Collection[date]
) -> None:
    try:
        for line in step.after_commit(failed):
            context.log.info("%s: %s", step.source, line)
    except HeadraceError as error:
        # The rows are captured; the next run does what is left.
        context.log.warning("%s: files were not archived: %s (%s)", step.source, error, error.fix)


def _pending(context: dg.AssetExecutionContext, step: RawStep) -> Collection[date]:
    """The partitions for which the source has new rows; none, with a warning, after an error."""
    try:
        return step.pending_partitions()
    except HeadraceError as error:
        # Partitions that are stale for other reasons are built all the same.
        context.log.warning("%s: new rows are not looked for: %s", step.source, error)
        return ()


def _freshness(entity: EntityConfig) -> dg.FreshnessPolicy | None:
    """An entity is fresh if a day was published since the last but one deadline."""
    cron = entity.deadlines()
    if cron is None:
        return None
    return dg.FreshnessPolicy.cron(deadline_cron=cron, lower_bound_delta=timedelta(days=1))
