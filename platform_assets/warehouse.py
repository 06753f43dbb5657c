"""Assets of the warehouse: the star in Postgres, published in one transaction."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import dagster as dg

from headrace.config.loader import Project
from headrace.config.star.models import CalendarConfig, DimensionConfig, FactConfig
from headrace.ledger.build_plan import BuildPlan
from headrace.ledger.records import PartitionState
from headrace.pipeline import warehouse_views
from headrace.pipeline.warehouse import (
    DimensionRows,
    StarLoader,
    calendar_table,
    dimension_table,
    fact_table,
)
from headrace.pipeline.warehouse_views import restricted_roles
from headrace.project.lineage import warehouse_lineage
from headrace.project.version import code_version
from headrace.quality.registry import TableKind
from headrace.quality.report import PartitionReport
from headrace.warehouse.ddl.comments import ColumnComments
from headrace.warehouse.ddl.partitions import first_retained_month
from headrace.warehouse.loading.load_transaction import LoadGroup
from headrace.warehouse.tables import WarehouseTable
from io_managers.contexts import REBUILD_TAG
from platform_assets.keys import CURATED, WAREHOUSE, curated_key, name_of, warehouse_key
from platform_assets.metadata import Declarations, check_outputs
from platform_assets.partitions import window_of, with_partitions
from platform_assets.steps import partition_events
from platform_assets.steps.recorder import LedgerRecorder
from platform_assets.steps.warehouse_recorder import LakeState, StarPublication
from resources.lake import LakeResource
from resources.spark import SparkResource
from resources.warehouse import WarehouseResource

StarTable = DimensionConfig | CalendarConfig | FactConfig

_DIMENSIONS_AT_ONCE = 2


def build_warehouse_assets(project: Project, declarations: Declarations) -> dg.AssetsDefinition:
    """Dimensions, calendar and facts in Postgres: one step loads all of them atomically."""
    star = project.star
    declared: list[StarTable] = [*star.dimensions, star.calendar, *star.facts]
    configs = {config.name: config for config in declared}
    tables = {name: _table(project, config) for name, config in configs.items()}
    lineages = warehouse_lineage(project)
    facts = tuple(tables[fact.name] for fact in star.facts)
    key_views = warehouse_views.outrigger_views(project)
    restricted = restricted_roles(project)
    grains = {fact.name: lineages[fact.name].grain for fact in star.facts}
    column_comments = (
        *map(ColumnComments.of, tables.values()),
        *warehouse_views.outrigger_comments(project),
    )

    @dg.multi_asset(
        name=WAREHOUSE,
        outs={name: _out(configs[name], tables[name], declarations) for name in tables},
        internal_asset_deps={name: {curated_key(name)} for name in tables},
        deps=[curated_key(name) for name in tables],
        check_specs=[
            spec
            for fact in star.facts
            for spec in declarations.check_specs(warehouse_key(fact.name), _kind_of(fact))
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
        group_name=WAREHOUSE,
    )
    def warehouse(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        warehouse: WarehouseResource,
        spark: SparkResource,
        recorder: LedgerRecorder,
    ) -> Iterator[dg.Output[Any]]:
        if not context.selected_asset_keys:
            yield from _run_checks(context, project, lake, warehouse, spark, recorder)
            return
        names = [key.path[-1] for key in sorted(context.selected_asset_keys)]
        # Held until the star is published: of two concurrent loads, the later must see the earlier.
        with recorder.lock(context, WAREHOUSE):
            plans = {
                name: recorder.plan(context, lineages[name], with_stale=True) for name in names
            }
            rebuild = REBUILD_TAG in context.run.tags
            loader = StarLoader(warehouse.connection_factory(), project, spark.session, rebuild)
            star = _StarLoad(loader, lake, recorder, plans)
            with recorder.recording_failure(
                context, {warehouse_key(name): plans[name] for name in names}
            ):
                star.stage({name: configs[name] for name in names})
            staged = star.loader.staged()
            group = LoadGroup(warehouse.connection_factory(), names, staged.loads)
            try:
                for name in names:
                    yield dg.Output(
                        StarPublication(
                            member=group.member(name),
                            states=star.states,
                            plans=plans,
                            reports={
                                n: _of_days(r, plans[n].days) for n, r in staged.reports.items()
                            },
                            restated={
                                n: _of_others(r, plans[n].days) for n, r in staged.reports.items()
                            },
                            facts=facts,
                            key_views=key_views,
                            comments=column_comments,
                            restricted_roles=restricted,
                            grains=grains,
                        ),
                        output_name=name,
                    )
            finally:
                # No effect after a publication; otherwise it drops the staging tables.
                staged.discard()
        yield from check_outputs(context)

    return with_partitions(
        warehouse,
        {warehouse_key(name): lineages[name].grain for name in tables},
        project.settings.partitions,
    )


def _run_checks(
    context: dg.AssetExecutionContext,
    project: Project,
    lake: LakeResource,
    warehouse: WarehouseResource,
    spark: SparkResource,
    recorder: LedgerRecorder,
) -> Iterator[dg.Output[None]]:
    """Audit published days without a load, for the Execute button of a check.

    Covers the run's days, or all; days that the lake has published again since are left out.
    """
    loader = StarLoader(warehouse.connection_factory(), project, spark.session)
    selected, window = context.selected_asset_check_keys, window_of(context.run)
    for fact in project.star.facts:
        wanted = project.entities()[fact.entity][1].grain.starts(*window) if window else None
        key, ledger = warehouse_key(fact.name), recorder.ledger()
        names = {check.name for check in selected if check.asset_key == key}
        if not names:
            continue
        source = name_of(curated_key(fact.name))
        loaded, in_lake = ledger.states(name_of(key)), ledger.states(source)
        days = sorted(
            day
            for day, state in loaded.items()
            if day
            and (wanted is None or day in wanted)
            and _is_published(loaded, day)
            and _is_published(in_lake, day)
            and (state.inputs or {}).get(source) == in_lake[day].data_version
        )
        reports = loader.audit_published(fact, lake.scan(CURATED, fact.name, days), days)
        partition_events.log_checks(context.get_step_execution_context(), key, reports, names)
    yield from check_outputs(context)


@dataclass
class _StarLoad:
    """Stages the star from the lake; `states` has the snapshots that were read."""

    loader: StarLoader
    lake: LakeResource
    recorder: LedgerRecorder
    plans: dict[str, BuildPlan]
    states: dict[str, LakeState] = field(default_factory=dict)

    def stage(self, configs: Mapping[str, StarTable]) -> None:
        """Stage each table; dimensions first, because the audit of facts reads them."""
        # While one thread waits for the engine or Postgres, Python works for another.
        with ThreadPoolExecutor(_DIMENSIONS_AT_ONCE) as pool:
            staging = [
                pool.submit(self._stage_dimension, name, config)
                for name, config in configs.items()
                if not isinstance(config, FactConfig)
            ]
            for staged in staging:
                staged.result()
        for name, config in configs.items():
            if isinstance(config, FactConfig):
                self._stage_fact(name, config)

    def _stage_dimension(self, name: str, config: DimensionConfig | CalendarConfig) -> None:
        if not self.lake.table(CURATED, name).exists():
            return  # Never published: the other tables are loaded without it.
        scan = self.lake.scan(CURATED, name)
        table = _table(self.loader.project, config)
        loaded = self.recorder.ledger().watermarks.loaded_snapshot(name_of(warehouse_key(name)))
        rows = DimensionRows(scan)
        needs_all = self.loader.rebuild
        if not needs_all and scan.snapshot_id is not None and loaded == scan.snapshot_id:
            rows = DimensionRows(None)
        elif not needs_all and loaded is not None and table.mode == "upsert":
            # Only changed files: the cost does not grow with the history.
            changes = self.lake.table(CURATED, name).changes_since(loaded)
            if changes is not None:
                scan = changes.added
                changed = DimensionRows(changes.added, changes.removed)
                rows = changed if changes else DimensionRows(None)
        is_accepted = self.loader.stage_dimension(table, rows, self._source_rows(name, config))
        self.states[name] = LakeState(loaded, scan.snapshot_id if is_accepted else loaded, {})

    def _stage_fact(self, name: str, config: FactConfig) -> None:
        """Stage the run's days, and days that the lake has published again since their load."""
        if not self.lake.table(CURATED, name).exists():
            return  # Never published: the other tables are loaded without it.
        plan = self.plans[name]
        if config.load == "truncate_and_load" and not (plan.days or plan.stale):
            return  # Nothing is stale: do not load the whole table again.
        key, ledger = name_of(curated_key(name)), self.recorder.ledger()
        loaded = ledger.watermarks.loaded_snapshot(name_of(warehouse_key(name)))
        # Read the ledger before the lake: a publication in between is loaded, and recorded with
        # the older version, which costs one more load. In the other order it would be missed.
        states = ledger.states(key)
        open_days = {*plan.days}
        if config.load == "truncate_and_load":
            known = {day: state.data_version for day, state in states.items() if day}
            published = {day: {key: version} for day, version in known.items() if version}
            plan = self.plans[name] = replace(plan, stale={**published, **plan.stale})
            open_days |= {*published}
        retained_from = first_retained_month(config.keep_months)
        open_days |= {day for day in plan.stale if day >= retained_from}
        if self.loader.rebuild:
            # A backfill of old days restores months that retention dropped; a rebuild must not.
            open_days = {day for day in open_days if day >= retained_from}
        scan = self.lake.scan(CURATED, name, sorted(open_days))
        self.loader.stage_fact(config, scan, sorted(open_days))
        of_days = {day: states[day].snapshot_id for day in open_days if day in states}
        self.states[name] = LakeState(loaded, scan.snapshot_id, of_days)

    def _source_rows(self, name: str, config: StarTable) -> dict[date, int]:
        """The partitions of the load, with the number of rows that curated read for each."""
        days = [*self.plans[name].days, *self.plans[name].stale]
        states = self.recorder.ledger().states(name_of(curated_key(config.name)), days)
        return {day: states[day].rows_out for day in days if day in states}


def _of_days(
    reports: Mapping[date, PartitionReport], days: Collection[date]
) -> dict[date, PartitionReport]:
    wanted = frozenset(days)
    return {day: report for day, report in reports.items() if day in wanted}


def _of_others(
    reports: Mapping[date, PartitionReport], days: Collection[date]
) -> dict[date, PartitionReport]:
    unwanted = frozenset(days)
    return {day: report for day, report in reports.items() if day not in unwanted}


def _is_published(states: Mapping[date | None, PartitionState], day: date) -> bool:
    return day in states and states[day].status == "published"


def _table(project: Project, config: StarTable) -> WarehouseTable:
    if isinstance(config, FactConfig):
        return fact_table(project, config)
    if isinstance(config, CalendarConfig):
        return calendar_table(config)
    return dimension_table(project, config)


def _kind_of(fact: FactConfig) -> TableKind:
    return "warehouse_fact_by_upsert" if fact.load == "upsert" else "warehouse_fact"


def _out(config: StarTable, table: WarehouseTable, declarations: Declarations) -> dg.AssetOut:
    return dg.AssetOut(
        key=warehouse_key(config.name),
        io_manager_key="warehouse_io",
        description=config.description,
        owners=[*config.owners],
        tags=config.tags,
        kinds={"postgres"},
        metadata=declarations.table_metadata(table.label, table.schema),
        code_version=code_version(config),
        is_required=False,
    )
