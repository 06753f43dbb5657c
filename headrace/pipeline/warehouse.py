"""Curated to warehouse: copies the star to Postgres staging tables, and audits it there."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import reduce
from operator import add
from typing import TypeVar

from pyspark.sql import SparkSession

from headrace import progress
from headrace.config.loader import Project
from headrace.config.star.models import CalendarConfig, DimensionConfig, FactConfig
from headrace.date_keys import date_key, day_of_key
from headrace.engine.row_diff import differing_keys, rows_with_keys
from headrace.grain import Grain
from headrace.lake.scan import LakeScan
from headrace.pipeline.curated.fact_audit import (
    DayTotals,
    LakeTotals,
    Totals,
    audit_published_facts,
    audit_staged_facts,
    key_faults,
    plus,
)
from headrace.quality import partition_checks as check
from headrace.quality import registry
from headrace.quality.pandera_schemas import validate_rows
from headrace.quality.partition_checks import ROWS
from headrace.quality.report import PartitionReport, bad_days
from headrace.star.calendar import calendar_schema
from headrace.star.facts import DATE_KEY, fact_schema
from headrace.star.scd2.dimensions import dimension_schema
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.loading.staging import stage
from headrace.warehouse.reading import days_with_rows
from headrace.warehouse.sessions import Connect, RowsRefusedError
from headrace.warehouse.tables import Reference, WarehouseTable, by_month

Found = TypeVar("Found")

NAMESPACE = "warehouse"
# To compare 90,000 rows takes the engine 0.1 s and Postgres 0.6 s.
_ROWS_TO_COMPARE = 10_000
_INTERVAL = ("valid_from", "valid_to", "is_current", "is_latest")


def dimension_table(project: Project, config: DimensionConfig) -> WarehouseTable:
    """A dimension's table in Postgres, loaded by MERGE."""
    schema = dimension_schema(config, project.dimension_entity(config))
    return WarehouseTable(
        NAMESPACE,
        config.name,
        schema,
        primary_key=(config.key_column,),
        indexes=(tuple(config.natural_key),),
        # Without the validity interval: facts that refer to a version do not change with it.
        attributes=tuple(name for name in schema.names if name not in _INTERVAL),
        mode=config.load,
    )


def calendar_table(config: CalendarConfig) -> WarehouseTable:
    """The calendar's table in Postgres."""
    schema = calendar_schema(config)
    return WarehouseTable(
        NAMESPACE, config.name, schema, primary_key=(config.key_column,), mode="upsert"
    )


def fact_table(project: Project, config: FactConfig) -> WarehouseTable:
    """A fact's table in Postgres; with `partition_replace` it is partitioned by month.

    Every foreign key is indexed.
    """
    entity = project.entities()[config.entity][1]
    dimensions = {j.dimension: project.star.dimension(j.dimension) for j in config.dimensions}
    references = foreign_keys(project, config)
    return WarehouseTable(
        NAMESPACE,
        config.name,
        fact_schema(config, entity, dimensions),
        indexes=tuple((reference.column,) for reference in references),
        references=references,
        # The grain is unique within a day; unchanged rows are not written.
        primary_key=(DATE_KEY, *config.grain) if config.load == "upsert" else (),
        partition_column=DATE_KEY if config.load == "partition_replace" else None,
        day_column=DATE_KEY if config.load == "upsert" else None,
        mode=config.load,
    )


def foreign_keys(project: Project, config: FactConfig) -> tuple[Reference, ...]:
    """A fact's foreign keys: to its dimensions, then to the calendar."""
    calendar = project.star.calendar
    found = [
        Reference(
            join.key_column(project.star.dimension(join.dimension)),
            join.dimension,
            project.star.dimension(join.dimension).key_column,
        )
        for join in config.dimensions
    ]
    dates = [DATE_KEY, *config.dates]
    return (*found, *(Reference(name, calendar.name, calendar.key_column) for name in dates))


@dataclass(frozen=True)
class AuditedStar:
    """Loads to publish together, and the audit reports of each table's days."""

    loads: Mapping[str, StagedLoad]
    reports: Mapping[str, Mapping[date, PartitionReport]]

    def discard(self) -> None:
        """Drop the staging tables."""
        for load in self.loads.values():
            load.discard()


@dataclass(frozen=True)
class DimensionRows:
    """Rows of a load of a dimension.

    Attributes:
        upserts: Rows of added files, or all rows; None if the table is up to date.
        deletes: Rows of removed files; None if `upserts` has all rows.
    """

    upserts: LakeScan | None
    deletes: LakeScan | None = None


@dataclass(frozen=True)
class FactLoad:
    """A load of some partitions of a fact from the lake.

    Attributes:
        table: Its table in Postgres.
        grain: The grain of its partitions.
        measures: The measures whose totals are compared.
        scan: Its rows in the lake.
        partitions: The partitions to load, by their first days.
    """

    table: WarehouseTable
    grain: Grain
    measures: Sequence[str]
    scan: LakeScan
    partitions: Sequence[date]

    def of(self, partitions: Sequence[date]) -> "FactLoad":
        """The load of these partitions only."""
        return replace(self, partitions=partitions)

    def without(self, partitions: Collection[date]) -> "FactLoad":
        """The load without some of its partitions."""
        return self.of([day for day in self.partitions if day not in partitions])

    def by_partition(self, found: Mapping[int, Found]) -> dict[date, list[Found]]:
        """Group values by date key into partitions."""
        by_partition: dict[date, list[Found]] = {}
        for key, one in found.items():
            by_partition.setdefault(self.grain.start_of(day_of_key(key)), []).append(one)
        return by_partition

    def copied_together(
        self, days: Sequence[date]
    ) -> Iterator[tuple[Collection[date], Collection[date]]]:
        """Partitions that are copied together, with those of `days` that lie in them."""
        if self.grain == Grain.DAY:
            yield from ((some, some) for some in by_month(self.partitions).values())
            return
        for partition in self.partitions:
            yield [partition], [day for day in days if self.grain.start_of(day) == partition]

    def days_in_lake(self) -> set[date]:
        """The days of its rows in the lake, which are read for it."""
        days: set[date] = set()
        for batch in self.scan.batches(self.partitions, [DATE_KEY]):
            days |= {day_of_key(key) for key in batch.column(DATE_KEY).unique().to_pylist()}
        return days


@dataclass
class StarLoader:
    """Stages the star's tables, dimensions first, and audits the facts against them.

    Attributes:
        connect: Opens sessions with the warehouse.
        project: The configuration of the tables.
        engine: Returns the engine's session, for comparisons of many rows.
        rebuild: Whether new tables replace the published ones.
    """

    connect: Connect
    project: Project
    engine: Callable[[], SparkSession]
    rebuild: bool = False
    _loads: dict[str, StagedLoad] = field(default_factory=dict)
    _reports: dict[str, Mapping[date, PartitionReport]] = field(default_factory=dict)

    def stage_dimension(
        self, table: WarehouseTable, rows: DimensionRows, source_rows: Mapping[date, int]
    ) -> bool:
        """Stage a dimension: the changes since the last load, or all rows if they are unknown.

        Args:
            table: The target.
            rows: The lake's rows; nothing is staged if they have not changed.
            source_rows: The run's days, with the number of source rows of each.

        Returns:
            Whether Postgres accepted the rows. If not, the dimension keeps its published state and
            its days fail; days of facts are held if the dimension lacks their members.
        """
        try:
            self._stage_rows(replace(table, rebuild=self.rebuild), rows)
        except RowsRefusedError as error:
            why = f"{error} ({error.fix})"
            self._reports[table.name] = {
                day: PartitionReport(day, rows_in=n, error=why) for day, n in source_rows.items()
            }
            return False
        self._reports[table.name] = {
            day: PartitionReport(day, rows_in=n, rows_out=n) for day, n in source_rows.items()
        }
        return True

    def _stage_rows(self, table: WarehouseTable, rows: DimensionRows) -> None:
        if rows.upserts is None:
            return
        names = table.schema.names
        upserts = rows.upserts.batches(columns=names)
        deletes = rows.deletes.batches(columns=table.primary_key) if rows.deletes else None
        validate_rows(table.label, table.schema, rows.upserts.batches(columns=names))
        if rows.deletes and deletes and self._is_worth_comparing(rows.upserts, rows.deletes):
            (key,) = table.primary_key
            spark = self.engine()
            added, removed = rows.upserts.frame(spark), rows.deletes.frame(spark)
            keys = differing_keys(added, removed, names, key)
            upserts, deletes = (rows_with_keys(r, key, keys) for r in (upserts, deletes))
        self._loads[table.name] = stage(self.connect, table, (), [((), upserts)], deletes=deletes)

    def _is_worth_comparing(self, upserts: LakeScan, deletes: LakeScan) -> bool:
        # Loading fewer rows is faster than comparing them.
        return min(upserts.total_rows, deletes.total_rows) >= _ROWS_TO_COMPARE

    def stage_fact(self, config: FactConfig, scan: LakeScan, days: Sequence[date]) -> None:
        """Stage partitions of a fact, without the partitions that fail their audit.

        Args:
            config: The fact.
            scan: The lake's rows.
            days: The partitions, by their first days.
        """
        load = self._fact_load(config, scan, days)
        progress.report(f"warehouse/{config.name}", 0, len(days))
        staged, totals, refused = self._stage_accepted(load)
        try:
            # Pandera takes as long as the audit's query in Postgres, so both run at once.
            with ThreadPoolExecutor(1) as pool:
                validation = pool.submit(totals.validate_sample, load.table)
                reports = self._audit(load.without(refused), staged, totals)
                validation.result()
        except BaseException:
            staged.discard()
            raise
        reports |= refused
        bad = bad_days(reports)
        if bad and load.table.column_of_days is None:
            staged.discard()
            self._reports[config.name] = _all_held(reports, sorted(bad))
            return
        if {*bad} - {*refused}:
            # A staging table holds a month, so the rows are staged again without the failed days.
            staged.discard()
            staged = self._stage(load.without(bad), totals)
        self._loads[config.name] = staged
        self._reports[config.name] = reports
        progress.report(f"warehouse/{config.name}", len(days), len(days))

    def audit_published(
        self, config: FactConfig, scan: LakeScan, days: Sequence[date]
    ) -> dict[date, PartitionReport]:
        """Audit a fact's published days as a load audits its staged days."""
        load = self._fact_load(config, scan, days)
        totals = LakeTotals(load.measures)
        for _ in totals.counted(scan.batches(days, load.table.schema.names)):
            pass
        expected = totals.by_day()
        keys = {*expected, *map(date_key, self._days_of(load))}
        found = audit_published_facts(
            self.connect, load.table, load.measures, load.table.references, keys
        )
        return _compared(load, expected, found)

    def staged(self) -> AuditedStar:
        """All staged loads and reports."""
        return AuditedStar(dict(self._loads), dict(self._reports))

    def _fact_load(self, config: FactConfig, scan: LakeScan, days: Sequence[date]) -> FactLoad:
        entity = self.project.entities()[config.entity][1]
        # Sums of doubles depend on the order of addition and cannot be compared.
        measures = [name for name in config.measures if entity.column(name).type != "double"]
        table = replace(fact_table(self.project, config), rebuild=self.rebuild)
        return FactLoad(table, entity.grain, measures, scan, days)

    def _stage_accepted(
        self, load: FactLoad
    ) -> tuple[StagedLoad, LakeTotals, dict[date, PartitionReport]]:
        """Stage the days whose rows Postgres accepts; returns load, totals and rejected days."""
        refused: dict[date, PartitionReport] = {}
        while True:
            totals, accepted = LakeTotals(load.measures), load.without(refused)
            try:
                return self._stage(accepted, totals), totals, refused
            except RowsRefusedError as error:
                more = self._refused(accepted, error)
                if not more:
                    raise
                refused |= more

    def _refused(self, load: FactLoad, error: RowsRefusedError) -> dict[date, PartitionReport]:
        """Find the days whose rows Postgres rejects, after it has rejected a load."""
        found, key = dict[date, PartitionReport](), load.table.primary_key
        if key:
            faults = key_faults(load.scan.frame(self.engine(), load.partitions), load.table)
            by_partition = load.by_partition(faults)
            for day in load.partitions:
                kinds = reduce(add, map(Counter, by_partition.get(day, ())), Counter[str]())
                checks = (check.primary_key(key, kinds),)
                if not checks[0].passed:
                    found[day] = PartitionReport(day, rows_in=load.scan.rows(day), checks=checks)
        if found:
            return found
        return {
            day: PartitionReport(day, rows_in=load.scan.rows(day), error=f"{why} ({why.fix})")
            for day, why in self._refused_one_by_one(load, error).items()
        }

    def _refused_one_by_one(
        self, load: FactLoad, error: RowsRefusedError
    ) -> dict[date, RowsRefusedError]:
        """Bisect the days down to those that Postgres rejects."""
        days = load.partitions
        if len(days) == 1:
            return {days[0]: error}
        found: dict[date, RowsRefusedError] = {}
        middle = len(days) // 2
        for half in (load.of(days[:middle]), load.of(days[middle:])):
            try:
                self._stage(half, LakeTotals(())).discard()
            except RowsRefusedError as refusal:
                found |= self._refused_one_by_one(half, refusal)
        return found

    def _stage(self, load: FactLoad, totals: LakeTotals) -> StagedLoad:
        table, replaced = load.table, self._days_of(load)
        pieces = (
            (days, totals.counted(load.scan.batches(partitions, table.schema.names)))
            for partitions, days in load.copied_together(replaced)
            if any(load.scan.rows(partition) for partition in partitions)
        )
        return stage(self.connect, table, replaced if table.column_of_days else (), pieces)

    def _days_of(self, load: FactLoad) -> list[date]:
        """The days that partitions replace; with grain `none`, all that have or had rows."""
        if load.grain != Grain.NONE:
            return [day for partition in load.partitions for day in load.grain.days_of(partition)]
        if not load.partitions:
            return []
        return sorted(days_with_rows(self.connect, load.table, DATE_KEY) | load.days_in_lake())

    def _audit(
        self, load: FactLoad, staged: StagedLoad, totals: LakeTotals
    ) -> dict[date, PartitionReport]:
        found = audit_staged_facts(
            self.connect, staged, load.measures, load.table.references, self._loads
        )
        return _compared(load, totals.by_day(), found)


def _compared(
    load: FactLoad, expected: Mapping[int, Totals], found: Mapping[int, DayTotals]
) -> dict[date, PartitionReport]:
    """A report of each partition: the lake's totals against Postgres', and orphans."""
    nothing = DayTotals(
        dict.fromkeys((ROWS, *load.measures), Decimal(0)),
        {reference.column: 0 for reference in load.table.references},
    )
    key = load.table.primary_key
    # Postgres enforces the primary key while it accepts rows.
    keyed = (check.primary_key(key, {}),) if key else ()
    staged, in_lake = load.by_partition(found), load.by_partition(expected)
    reports = {}
    for day in load.partitions:
        in_postgres = reduce(DayTotals.plus, staged.get(day, ()), nothing)
        wanted = reduce(plus, in_lake.get(day, ()), nothing.totals)
        reports[day] = PartitionReport(
            day,
            rows_in=load.scan.rows(day),
            rows_out=int(in_postgres.totals[ROWS]),
            checks=(
                check.same_totals(registry.LOADED_TOTALS, wanted, in_postgres.totals),
                check.referential_integrity(in_postgres.orphans),
                *keyed,
            ),
        )
    return reports


def _all_held(
    reports: Mapping[date, PartitionReport], bad: Sequence[date]
) -> dict[date, PartitionReport]:
    """Reports of a table that is loaded as a whole: one failed day holds all."""
    why = f"the table is loaded whole, and {bad[0]} failed its audit"
    return {
        day: report if day in bad else replace(report, error=why) for day, report in reports.items()
    }
