"""The code location: assembles all definitions from the configuration.

Loading it reads the configuration and dbt's manifest, and connects to nothing.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError
from headrace.ledger.build_plan import AssetLineage
from headrace.pipeline.pending import watched_entities
from headrace.project.home_setup import mart_builder
from headrace.project.lineage import project_lineage
from io_managers.iceberg import IcebergIOManager
from io_managers.postgres import PostgresIOManager
from jobs.daily import build_daily_job, build_daily_schedule
from jobs.maintenance import build_maintenance_job, build_maintenance_schedule
from jobs.reconcile import build_reconcile_job, build_reconcile_schedule
from jobs.retention import build_retention_job, build_retention_schedule
from platform_assets.curated import (
    build_calendar_asset,
    build_dimension_asset,
    build_fact_asset,
)
from platform_assets.marts import build_mart_assets
from platform_assets.metadata import FOR_UI, Declarations
from platform_assets.partitions import daily_partitions
from platform_assets.processed import build_processed_asset
from platform_assets.raw import build_raw_asset
from platform_assets.steps.executor import threads_executor
from platform_assets.steps.recorder import LedgerRecorder
from platform_assets.steps.warehouse_recorder import WarehouseRecorder
from platform_assets.warehouse import build_warehouse_assets
from resources.project import ProjectLakeResource, ProjectWarehouseResource, landing_resource
from resources.sources import SourcesResource
from resources.spark import SparkResource
from sensors.landing import build_landing_sensor
from sensors.new_rows import build_rows_sensor
from sensors.stale import build_stale_sensor


def build_definitions(
    project: Project,
    resources: Mapping[str, Any] | None = None,
    declarations: Declarations = FOR_UI,
) -> dg.Definitions:
    """Build new definitions of a configured project.

    Args:
        project: The configuration.
        resources: Replaces resources by name.
        declarations: Extent of the assets' declarations.
    """
    partitions = daily_partitions(project.settings.partitions)
    daily = build_daily_job(project.settings.schedule)
    retention = build_retention_job(project)
    maintenance = build_maintenance_job(project)
    compare = build_reconcile_job(project)
    compare_schedule = build_reconcile_schedule(project, compare) if compare else None
    # `headrace env`, `dev` and others have parsed it; it is parsed here only after an edit.
    manifest = mart_builder(project).ensure_manifest()
    lineages = project_lineage(project, json.loads(manifest.read_text()))
    return dg.Definitions(
        assets=build_assets(project, manifest, lineages, declarations),
        jobs=[daily, maintenance, *filter(None, [retention, compare])],
        schedules=[
            build_daily_schedule(project, daily, partitions),
            build_maintenance_schedule(project, maintenance),
            *([build_retention_schedule(project, retention)] if retention else []),
            *([compare_schedule] if compare_schedule else []),
        ],
        sensors=[
            *([build_landing_sensor(project, daily, partitions)] * bool(project.file_entities())),
            *(
                build_landing_sensor(project, daily, partitions, connection)
                for connection in project.file_connections()
            ),
            build_stale_sensor(project, daily, partitions, lineages),
            *([build_rows_sensor(project, daily, partitions)] * bool(watched_entities(project))),
        ],
        resources=build_resources(project, resources or {}),
        executor=threads_executor,
    )


def build_assets(
    project: Project,
    manifest: Path,
    lineages: Mapping[str, AssetLineage],
    declarations: Declarations,
) -> list[dg.AssetsDefinition]:
    """One asset for each table, in the order of the layers."""
    entities = {name: entity for name, (_, entity) in project.entities().items()}
    star = project.star
    # The critical path of a run goes through the facts' entities.
    of_facts = {fact.entity for fact in star.facts}
    return [
        *(
            build_raw_asset(project, name, declarations, is_first=name in of_facts)
            for name in entities
        ),
        *(
            build_processed_asset(project, name, declarations, is_first=name in of_facts)
            for name in entities
        ),
        *(build_dimension_asset(project, d, declarations) for d in star.dimensions),
        build_calendar_asset(project, declarations),
        *(build_fact_asset(project, fact, declarations) for fact in star.facts),
        build_warehouse_assets(project, declarations),
        build_mart_assets(manifest, mart_builder(project), lineages, project, declarations),
    ]


def build_resources(project: Project, replaced: Mapping[str, Any]) -> dict[str, Any]:
    """Resources of the assets; they connect on first use.

    Args:
        project: The configuration.
        replaced: Resources by name, in place of the project's; a landing zone also in `sources`.
    """
    lake = ProjectLakeResource.of_project(project)
    warehouse = ProjectWarehouseResource.of_project(project)
    recorder = LedgerRecorder(warehouse=warehouse)
    landing = replaced.get("landing") or landing_resource(project)
    return {
        "lake": lake,
        "landing": landing,
        "sources": SourcesResource(landing=landing),
        "spark": SparkResource.of_project(project),
        "warehouse": warehouse,
        "recorder": recorder,
        "lake_io": IcebergIOManager(lake=lake, recorder=recorder, gate=recorder),
        "warehouse_io": PostgresIOManager(
            warehouse=warehouse,
            recorder=WarehouseRecorder(recorder=recorder, views=str(project.views)),
        ),
        **replaced,
    }


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of the configured project, which Dagster loads."""
    with warnings.catch_warnings():
        # 62 lines at each load, about arguments that are in beta.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return build_definitions(_project())


def _project() -> Project:
    """The configuration.

    Raises:
        dg.DagsterInvalidDefinitionError: It is invalid; the UI shows only the message.
    """
    try:
        return load_project()
    except ConfigError as error:
        raise dg.DagsterInvalidDefinitionError(
            f"the configuration cannot be loaded:\n{error}\nhint: {error.fix}"
        ) from None
