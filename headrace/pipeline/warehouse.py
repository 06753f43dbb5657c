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
from headrace.config.star import CalendarConfig, DimensionConfig, FactConfig
from headrace.date_keys import date_key, day_of_key
from headrace.engine.row_diff import differing_keys, rows_with_keys
from headrace.grain import Grain
from headrace.lake.scan import LakeScan
from headrace.pipeline.fact_audit import (
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
        table = replace(fact_table(self.project, config), rebuild=self.rebuild)
        progress.report(f"warehouse/{config.name}", 0, len(days))
        load, totals, refused = self._stage_accepted(table, config, scan, days)
        try:
            # Pandera takes as long as the audit's query in Postgres, so both run at once.
            with ThreadPoolExecutor(1) as pool:
                validation = pool.submit(totals.validate_sample, table)
                accepted = [day for day in days if day not in refused]
                reports = self._audit(config, load, scan, accepted, totals)
                validation.result()
        except BaseException:
            load.discard()
            raise
        reports |= refused
        bad = bad_days(reports)
        if bad and table.column_of_days is None:
            load.discard()
            self._reports[table.name] = _all_held(reports, sorted(bad))
            return
        if {*bad} - {*refused}:
            # A staging table holds a month, so the rows are staged again without the failed days.
            load.discard()
            load = self._stage(table, config, scan, [day for day in days if day not in bad], totals)
        self._loads[table.name] = load
        self._reports[table.name] = reports
        progress.report(f"warehouse/{config.name}", len(days), len(days))

    def audit_published(
        self, config: FactConfig, scan: LakeScan, days: Sequence[date]
    ) -> dict[date, PartitionReport]:
        """Audit a fact's published days as a load audits its staged days."""
        table, totals = fact_table(self.project, config), LakeTotals(self._measures(config))
        for _ in totals.counted(scan.batches(days, table.schema.names)):
            pass
        references, expected = foreign_keys(self.project, config), totals.by_day()
        keys = {*expected, *(date_key(day) for day in self._days_of(table, config, None, days))}
        found = audit_published_facts(self.connect, table, totals.measures, references, keys)
        return self._compared(config, scan, days, expected, found)

    def staged(self) -> AuditedStar:
        """All staged loads and reports."""
        return AuditedStar(dict(self._loads), dict(self._reports))

    def _stage_accepted(
        self, table: WarehouseTable, config: FactConfig, scan: LakeScan, days: Sequence[date]
    ) -> tuple[StagedLoad, LakeTotals, dict[date, PartitionReport]]:
        """Stage the days whose rows Postgres accepts; returns load, totals and rejected days."""
        refused: dict[date, PartitionReport] = {}
        while True:
            totals = LakeTotals(self._measures(config))
            accepted = [day for day in days if day not in refused]
            try:
                return self._stage(table, config, scan, accepted, totals), totals, refused
            except RowsRefusedError as error:
                more = self._refused(table, config, scan, accepted, error)
                if not more:
                    raise
                refused |= more

    def _refused(
        self,
        table: WarehouseTable,
        config: FactConfig,
        scan: LakeScan,
        days: Sequence[date],
        error: RowsRefusedError,
    ) -> dict[date, PartitionReport]:
        """Find the days whose rows Postgres rejects, after it has rejected a load."""
        found = {}
        if table.primary_key:
            faults = key_faults(scan.frame(self.engine(), days), table)
            by_partition = self._by_partition(config, faults)
            for day in days:
                kinds = reduce(add, map(Counter, by_partition.get(day, ())), Counter[str]())
                checks = (check.primary_key(table.primary_key, kinds),)
                if not checks[0].passed:
                    found[day] = PartitionReport(day, rows_in=scan.rows(day), checks=checks)
        if found:
            return found
        for day, why in self._refused_one_by_one(table, config, scan, days, error).items():
            found[day] = PartitionReport(day, rows_in=scan.rows(day), error=f"{why} ({why.fix})")
        return found

    def _refused_one_by_one(
        self,
        table: WarehouseTable,
        config: FactConfig,
        scan: LakeScan,
        days: Sequence[date],
        error: RowsRefusedError,
    ) -> dict[date, RowsRefusedError]:
        """Bisect the days down to those that Postgres rejects."""
        if len(days) == 1:
            return {days[0]: error}
        found: dict[date, RowsRefusedError] = {}
        middle = len(days) // 2
        for half in (days[:middle], days[middle:]):
            try:
                self._stage(table, config, scan, half, LakeTotals(())).discard()
            except RowsRefusedError as refusal:
                found |= self._refused_one_by_one(table, config, scan, half, refusal)
        return found

    def _stage(
        self,
        table: WarehouseTable,
        config: FactConfig,
        scan: LakeScan,
        days: Sequence[date],
        totals: LakeTotals,
    ) -> StagedLoad:
        replaced = self._days_of(table, config, scan, days)
        pieces = (
            (some, totals.counted(scan.batches(read, table.schema.names)))
            for read, some in self._pieces(config, days, replaced)
            if any(scan.rows(day) for day in read)
        )
        return stage(self.connect, table, replaced if table.column_of_days else (), pieces)

    def _pieces(
        self, config: FactConfig, partitions: Sequence[date], days: Sequence[date]
    ) -> Iterator[tuple[Collection[date], Collection[date]]]:
        """Partitions that are copied together, with the days of their rows."""
        grain = self._grain(config)
        if grain == Grain.DAY:
            yield from ((some, some) for some in by_month(partitions).values())
            return
        for partition in partitions:
            yield [partition], [day for day in days if grain.start_of(day) == partition]

    def _days_of(
        self,
        table: WarehouseTable,
        config: FactConfig,
        scan: LakeScan | None,
        partitions: Sequence[date],
    ) -> list[date]:
        """The days that partitions replace; with grain `none`, all that have or had rows."""
        grain = self._grain(config)
        if grain != Grain.NONE:
            return [day for partition in partitions for day in grain.days_of(partition)]
        if not partitions:
            return []
        known = days_with_rows(self.connect, table, DATE_KEY)
        for batch in scan.batches(partitions, [DATE_KEY]) if scan else ():
            known |= {day_of_key(key) for key in batch.column(DATE_KEY).unique().to_pylist()}
        return sorted(known)

    def _grain(self, config: FactConfig) -> Grain:
        return self.project.entities()[config.entity][1].grain

    def _by_partition(
        self, config: FactConfig, found: Mapping[int, Found]
    ) -> dict[date, list[Found]]:
        """Group values by date key into partitions."""
        grain, by_partition = self._grain(config), dict[date, list[Found]]()
        for key, one in found.items():
            by_partition.setdefault(grain.start_of(day_of_key(key)), []).append(one)
        return by_partition

    def _audit(
        self,
        config: FactConfig,
        load: StagedLoad,
        scan: LakeScan,
        days: Sequence[date],
        totals: LakeTotals,
    ) -> dict[date, PartitionReport]:
        measures, references = self._measures(config), foreign_keys(self.project, config)
        found = audit_staged_facts(self.connect, load, measures, references, self._loads)
        return self._compared(config, scan, days, totals.by_day(), found)

    def _compared(
        self,
        config: FactConfig,
        scan: LakeScan,
        days: Sequence[date],
        expected: Mapping[int, Totals],
        found: Mapping[int, DayTotals],
    ) -> dict[date, PartitionReport]:
        measures, references = self._measures(config), foreign_keys(self.project, config)
        nothing = DayTotals(
            dict.fromkeys((ROWS, *measures), Decimal(0)), {r.column: 0 for r in references}
        )
        key = fact_table(self.project, config).primary_key
        # Postgres enforces the primary key while it accepts rows.
        keyed = (check.primary_key(key, {}),) if key else ()
        staged, in_lake = self._by_partition(config, found), self._by_partition(config, expected)
        reports = {}
        for day in days:
            in_postgres = reduce(DayTotals.plus, staged.get(day, ()), nothing)
            wanted = reduce(plus, in_lake.get(day, ()), nothing.totals)
            reports[day] = PartitionReport(
                day,
                rows_in=scan.rows(day),
                rows_out=int(in_postgres.totals[ROWS]),
                checks=(
                    check.same_totals(registry.LOADED_TOTALS, wanted, in_postgres.totals),
                    check.referential_integrity(in_postgres.orphans),
                    *keyed,
                ),
            )
        return reports

    def _measures(self, config: FactConfig) -> list[str]:
        entity = self.project.entities()[config.entity][1]
        # Sums of doubles depend on the order of addition and cannot be compared.
        return [name for name in config.measures if entity.column(name).type != "double"]


def _all_held(
    reports: Mapping[date, PartitionReport], bad: Sequence[date]
) -> dict[date, PartitionReport]:
    """Reports of a table that is loaded as a whole: one failed day holds all."""
    why = f"the table is loaded whole, and {bad[0]} failed its audit"
    return {
        day: report if day in bad else replace(report, error=why) for day, report in reports.items()
    }
