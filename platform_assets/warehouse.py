"""Warehouse: the star in Postgres, published as one.

Belongs here: the asset that loads every table of the star in one transaction.
Elsewhere: staging and judging the load (headrace.layers.warehouse), SQL (headrace.warehouse).
"""

from collections.abc import Iterator, Mapping
from datetime import date

import dagster as dg

from headrace.config.loading import Project
from headrace.config.star import CalendarConfig, DimensionConfig, FactConfig
from headrace.layers.warehouse import StarLoader, calendar_table, dimension_table, fact_table
from headrace.ledger import PartitionState
from headrace.quality.report import PartitionReport
from headrace.version import code_version
from headrace.warehouse.group import LoadGroup
from headrace.warehouse.tables import WarehouseTable
from platform_assets.declare import (
    WAREHOUSE_FACT_CHECKS,
    check_outputs,
    check_specs,
    table_metadata,
)
from platform_assets.keys import CURATED, WAREHOUSE, curated_key, name_of, warehouse_key
from platform_assets.partitions import days_of
from platform_assets.recorder import PublicationRecorder, StarPublication
from resources.lake import LakeResource
from resources.warehouse import WarehouseResource

StarTable = DimensionConfig | CalendarConfig | FactConfig


def build_warehouse_assets(
    project: Project, partitions: dg.PartitionsDefinition, *, for_ui: bool
) -> dg.AssetsDefinition:
    """Dimensions, calendar and facts: readers see the star before a load or after it."""
    star = project.star
    declared: list[StarTable] = [*star.dimensions, star.calendar, *star.facts]
    configs = {config.name: config for config in declared}
    tables = {name: _table(project, config) for name, config in configs.items()}

    @dg.multi_asset(
        name=WAREHOUSE,
        outs={name: _out(configs[name], tables[name], for_ui=for_ui) for name in tables},
        internal_asset_deps={name: {curated_key(name)} for name in tables},
        deps=[curated_key(name) for name in tables],
        check_specs=[
            spec
            for fact in star.facts
            for spec in check_specs(warehouse_key(fact.name), WAREHOUSE_FACT_CHECKS, for_ui=for_ui)
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        group_name=WAREHOUSE,
    )
    def warehouse(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        warehouse: WarehouseResource,
        recorder: PublicationRecorder,
    ) -> Iterator[dg.Output[object]]:
        days = days_of(context.partition_keys)
        names = sorted(context.selected_output_names & {*tables})
        with recorder.attempt(context, days, [warehouse_key(name) for name in names]):
            loader = StarLoader(warehouse.connector(), project)
            snapshots = _stage(loader, lake, recorder, {n: configs[n] for n in names}, days)
            staged = loader.staged()
            group = LoadGroup(warehouse.connector(), names, staged.loads)
        reports: Mapping[str, Mapping[date, PartitionReport]] = staged.reports
        for name in names:
            yield dg.Output(
                StarPublication(group.member(name), snapshots, reports), output_name=name
            )
        yield from check_outputs(context)

    return warehouse


def _stage(
    loader: StarLoader,
    lake: LakeResource,
    recorder: PublicationRecorder,
    configs: Mapping[str, StarTable],
    days: list[date],
) -> dict[str, int | None]:
    """Stage each table from the lake's snapshot; dimensions first, as facts are judged by them."""
    snapshots: dict[str, int | None] = {}
    ordered = sorted(configs.values(), key=lambda config: isinstance(config, FactConfig))
    for config in ordered:
        name, key = config.name, curated_key(config.name)
        if isinstance(config, FactConfig):
            open_days = sorted(recorder.publishable(key, days))
            scan = lake.scan(CURATED, name, open_days)
            loader.stage_fact(config, scan, open_days)
        else:
            scan = lake.scan(CURATED, name)
            loaded = recorder.ledger().loaded_snapshot(name_of(warehouse_key(name)))
            is_loaded = scan.snapshot_id is not None and loaded == scan.snapshot_id
            table = _table(loader.project, config)
            brought = _brought(recorder, config, days)
            loader.stage_dimension(table, scan, brought, is_loaded=is_loaded)
        snapshots[name] = scan.snapshot_id
    return snapshots


def _brought(recorder: PublicationRecorder, config: StarTable, days: list[date]) -> dict[date, int]:
    """The days that may be loaded, and the rows that each of them brought to the dimension."""
    if isinstance(config, CalendarConfig):
        return dict.fromkeys(days, 1)
    states = recorder.ledger().states(name_of(curated_key(config.name)), days)
    return {day: states[day].rows_out for day in days if _is_published(states, day)}


def _is_published(states: Mapping[date | None, PartitionState], day: date) -> bool:
    return day in states and states[day].status == "published"


def _table(project: Project, config: StarTable) -> WarehouseTable:
    if isinstance(config, FactConfig):
        return fact_table(project, config)
    if isinstance(config, CalendarConfig):
        return calendar_table(config)
    return dimension_table(project, config)


def _out(config: StarTable, table: WarehouseTable, *, for_ui: bool) -> dg.AssetOut:
    return dg.AssetOut(
        key=warehouse_key(config.name),
        io_manager_key="warehouse_io",
        description=config.description,
        kinds={"postgres"},
        metadata=table_metadata(table.label, table.schema, for_ui=for_ui),
        code_version=code_version(config),
        is_required=False,
    )
