"""The code location: everything that Dagster is told, assembled from the configuration.

Loading it reads the configuration and dbt's manifest; no network, no database, nothing written.
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
from headrace.project.home_setup import mart_builder
from headrace.project.lineage import project_lineage
from io_managers.iceberg import IcebergIOManager
from io_managers.postgres import PostgresIOManager
from jobs.daily import build_daily_job, build_daily_schedule
from jobs.maintenance import build_maintenance_job, build_maintenance_schedule
from jobs.retention import build_retention_job, build_retention_schedule
from platform_assets.curated import (
    build_calendar_asset,
    build_dimension_asset,
    build_fact_asset,
)
from platform_assets.marts import build_mart_assets
from platform_assets.partitions import daily_partitions
from platform_assets.processed import build_processed_asset
from platform_assets.raw import build_raw_asset
from platform_assets.runtime.executor import threads_executor
from platform_assets.runtime.recorder import LedgerRecorder
from platform_assets.runtime.warehouse_recorder import WarehouseRecorder
from platform_assets.warehouse import build_warehouse_assets
from resources.project import ProjectLakeResource, ProjectWarehouseResource, landing_resource
from resources.spark import SparkResource
from sensors.landing import build_landing_sensor
from sensors.stale import build_stale_sensor


def build_definitions(
    project: Project,
    resources: Mapping[str, Any] | None = None,
    *,
    for_ui: bool = True,
) -> dg.Definitions:
    """Definitions of one configured project; fresh ones each time, for tests.

    Args:
        project: The configuration.
        resources: Replaces resources by name.
        for_ui: False for runs from the command line (see platform_assets.metadata).
    """
    partitions = daily_partitions(project.settings.partitions)
    daily = build_daily_job(project.settings.schedule)
    retention = build_retention_job(project)
    maintenance = build_maintenance_job(project)
    # Parsed beforehand by `headrace env` and its like; parsed here only after an edit.
    manifest = mart_builder(project).ensure_manifest()
    lineages = project_lineage(project, json.loads(manifest.read_text()))
    return dg.Definitions(
        assets=build_assets(project, manifest, lineages, for_ui=for_ui),
        jobs=[daily, maintenance, *([retention] if retention else [])],
        schedules=[
            build_daily_schedule(project, daily, partitions),
            build_maintenance_schedule(project, maintenance),
            *([build_retention_schedule(project, retention)] if retention else []),
        ],
        sensors=[
            build_landing_sensor(project, daily, partitions),
            build_stale_sensor(project, daily, partitions, lineages),
        ],
        resources={**build_resources(project), **(resources or {})},
        executor=threads_executor,
    )


def build_assets(
    project: Project,
    manifest: Path,
    lineages: Mapping[str, AssetLineage],
    *,
    for_ui: bool,
) -> list[dg.AssetsDefinition]:
    """One asset a table and layer, in the order of the layers."""
    entities = {name: entity for name, (_, entity) in project.entities().items()}
    star = project.star
    # The long way: what facts are made of.
    of_facts = {fact.entity for fact in star.facts}
    return [
        *(
            build_raw_asset(project, name, for_ui=for_ui, is_first=name in of_facts)
            for name in entities
        ),
        *(
            build_processed_asset(project, name, for_ui=for_ui, is_first=name in of_facts)
            for name in entities
        ),
        *(build_dimension_asset(project, d, for_ui=for_ui) for d in star.dimensions),
        build_calendar_asset(project, for_ui=for_ui),
        *(build_fact_asset(project, fact, for_ui=for_ui) for fact in star.facts),
        build_warehouse_assets(project, for_ui=for_ui),
        build_mart_assets(
            manifest,
            mart_builder(project),
            lineages,
            project,
            for_ui=for_ui,
        ),
    ]


def build_resources(project: Project) -> dict[str, Any]:
    """What assets need at run time; made here, connected when first used."""
    lake = ProjectLakeResource.of_project(project)
    warehouse = ProjectWarehouseResource.of_project(project)
    recorder = LedgerRecorder(warehouse=warehouse)
    return {
        "lake": lake,
        "landing": landing_resource(project),
        "spark": SparkResource.of_project(project),
        "warehouse": warehouse,
        "recorder": recorder,
        "lake_io": IcebergIOManager(lake=lake, recorder=recorder, gate=recorder),
        "warehouse_io": PostgresIOManager(
            warehouse=warehouse,
            recorder=WarehouseRecorder(recorder=recorder, views=str(project.views)),
        ),
    }


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads, made when it asks: importing `build_definitions` makes nothing."""
    with warnings.catch_warnings():
        # Dagster's, of arguments that are in beta: 62 lines at each load that ask for nothing.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return build_definitions(_project())


def _project() -> Project:
    """The configuration; what is wrong with it is the whole message that the UI shows.

    Raises:
        dg.DagsterInvalidDefinitionError: It cannot be loaded.
    """
    try:
        return load_project()
    except ConfigError as error:
        raise dg.DagsterInvalidDefinitionError(
            f"the configuration cannot be loaded:\n{error}\nhint: {error.fix}"
        ) from None
