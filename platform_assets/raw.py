"""Raw: what the sources delivered, as captured.

Belongs here: the factory of raw assets.
Elsewhere: reading sources (headrace.ingestion), publishing (io_managers.iceberg).
"""

import dagster as dg

from headrace.config.loading import Project
from headrace.config.settings import PartitionSettings
from headrace.config.sources import EntityConfig
from headrace.ingestion.capture import raw_schema
from headrace.layers.raw import RawStep
from headrace.quality.report import AuditedOutput
from headrace.version import code_version
from platform_assets.declare import table_metadata
from platform_assets.executor import one_at_a_time, starts_first
from platform_assets.keys import RAW, name_of, raw_key, table_of
from platform_assets.partitions import days_of
from platform_assets.recorder import PublicationRecorder
from platform_assets.runs import properties_of
from resources.lake import LakeResource
from resources.landing import LandingResource


def build_raw_asset(
    project: Project,
    name: str,
    partitions: dg.PartitionsDefinition,
    *,
    for_ui: bool,
    is_first: bool = False,
) -> dg.AssetsDefinition:
    """One entity's captured versions: an append-only log, one file a version and day."""
    entities = {known: entity for known, (_, entity) in project.entities().items()}
    entity, key = entities[name], raw_key(name)
    version = _version(entity, project.settings.partitions)

    @dg.asset(
        key=key,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="lake_io",
        group_name=RAW,
        kinds={"csv", "iceberg"},
        description=f"{entity.description} As captured: text, with file and line.",
        owners=[*entity.owners],
        tags=entity.tags,
        metadata=table_metadata(f"{RAW}.{table_of(name)}", raw_schema(entity), for_ui=for_ui),
        code_version=version,
        op_tags=one_at_a_time("capture") | (starts_first() if is_first else {}),
    )
    def raw(
        context: dg.AssetExecutionContext,
        landing: LandingResource,
        lake: LakeResource,
        recorder: PublicationRecorder,
    ) -> AuditedOutput:
        days = days_of(context.partition_keys)
        with recorder.attempt(context, days):
            step = RawStep(
                asset=name_of(key),
                source=name,
                entity=entity,
                landing=landing.landing(),
                table=lake.table(RAW, table_of(name)),
                settings=project.settings,
                run_id=context.run.run_id,
                entities=entities,
            )
            output = step.stage(days, properties_of(context.run, version))
            for warning in output.warnings:
                context.log.warning(warning)
            return output

    return raw


def _version(entity: EntityConfig, partitions: PartitionSettings) -> str:
    if entity.extract.day_of_file == "name":
        return code_version(entity.extract)
    # What has no day of its own belongs to the first partition.
    return code_version(entity.extract, PartitionSettings(start=partitions.start))
