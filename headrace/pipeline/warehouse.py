"""Curated to warehouse: the star copied to Postgres, judged there before it is visible."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import reduce
from operator import add
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace import progress
from headrace.config.loading import Project
from headrace.config.star import CalendarConfig, DimensionConfig, FactConfig
from headrace.engine import functions as parse
from headrace.grain import Grain
from headrace.lake.scan import LakeScan
from headrace.pipeline.fact_audit import (
    LakeTotals,
    StagedDay,
    Totals,
    judge,
    judge_published,
    key_faults,
    plus,
)
from headrace.quality import partition_checks as check
from headrace.quality.pandera_schemas import validate_rows
from headrace.quality.partition_checks import ROWS
from headrace.quality.report import PartitionReport, bad_days
from headrace.schema import Column
from headrace.star.calendar import calendar_schema, date_key, day_of_key
from headrace.star.facts import DATE_KEY, fact_schema
from headrace.star.scd2.dimensions import dimension_schema
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.loading.staging import stage
from headrace.warehouse.reading import days_with_rows
from headrace.warehouse.sessions import Connect, RowsRefusedError
from headrace.warehouse.tables import Reference, WarehouseTable, by_month

_SIDE = "_side"


def keys_of_differences(
    spark: SparkSession, come: LakeScan, gone: LakeScan, columns: Sequence[str], key: str
) -> pa.Array:
    """Keys of the rows that only one side has, each once; eight bytes a difference.

    Args:
        spark: Compares; it needs room for the rows of one side.
        come: Files on one side.
        gone: Files on the other.
        columns: What makes rows equal; NULLs do not differ.
        key: The column that is returned.
    """

    def side(scan: LakeScan, sign: int) -> DataFrame:
        return scan.frame(spark).select(*columns).withColumn(_SIDE, F.lit(sign))

    counted = side(come, 1).unionAll(side(gone, -1)).groupBy(*columns).agg(F.sum(_SIDE).alias("_n"))
    found = counted.where(F.col("_n") != 0).select(key).distinct().toArrow()
    return found[key].combine_chunks()


def days_of_differences(
    one: DataFrame, other: DataFrame, columns: Sequence[Column], day: str
) -> set[date]:
    """Days on which two frames have other rows, in whatever order; by 64-bit hashes of the rows.

    Args:
        one: Rows.
        other: Rows, with the same columns.
        columns: What makes rows equal; NULLs do not differ.
        day: The column that says which day a row is of.
    """
    contents = parse.row_hash([(F.col(column.name), column.type) for column in columns])

    def side(rows: DataFrame, sign: int) -> DataFrame:
        return rows.select(day, contents.alias("_hash"), F.lit(sign).alias(_SIDE))

    counted = side(one, 1).unionAll(side(other, -1)).groupBy(day, "_hash")
    differing = counted.agg(F.sum(_SIDE).alias("_n")).where(F.col("_n") != 0)
    return {row[day] for row in differing.select(day).distinct().collect()}


def with_keys(rows: pa.RecordBatchReader, key: str, keys: pa.Array) -> pa.RecordBatchReader:
    """The rows whose key is among `keys`, in their order, as they are read."""

    def chosen() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            among = pc.is_in(batch.column(key), value_set=keys)
            if among.true_count:
                yield batch.filter(among)

    return pa.RecordBatchReader.from_batches(rows.schema, chosen())


Found = TypeVar("Found")

NAMESPACE = "warehouse"
# The engine takes 0.1 s to compare 90,000 rows, which Postgres takes 0.6 s to find equal.
_ROWS_TO_COMPARE = 10_000
_INTERVAL = ("valid_from", "valid_to", "is_current", "is_latest")


def dimension_table(project: Project, config: DimensionConfig) -> WarehouseTable:
    """A dimension in Postgres: made equal to the lake's, row by row."""
    entity = project.entities()[config.entity][1]
    schema = dimension_schema(config, entity)
    return WarehouseTable(
        NAMESPACE,
        config.name,
        schema,
        primary_key=(config.key_column,),
        indexes=(tuple(config.natural_key),),
        # When a version ends and whether it is the latest changes no fact's meaning.
        attributes=tuple(name for name in schema.names if name not in _INTERVAL),
        mode=config.load,
    )


def calendar_table(config: CalendarConfig) -> WarehouseTable:
    """The date dimension in Postgres."""
    schema = calendar_schema(config)
    return WarehouseTable(
        NAMESPACE, config.name, schema, primary_key=(config.key_column,), mode="upsert"
    )


def fact_table(project: Project, config: FactConfig) -> WarehouseTable:
    """A fact in Postgres: partitioned by month of its date key unless it is loaded otherwise.

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
        # A row's grain is its own within its day; rows that stay as they are are not written.
        primary_key=(DATE_KEY, *config.grain) if config.load == "upsert" else (),
        partition_column=DATE_KEY if config.load == "partition_replace" else None,
        day_column=DATE_KEY if config.load == "upsert" else None,
        mode=config.load,
    )


def foreign_keys(project: Project, config: FactConfig) -> tuple[Reference, ...]:
    """What a fact's columns point to: its dimensions, then the calendar."""
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
class StagedStar:
    """Loads to publish together, and the audit of each table's days."""

    loads: Mapping[str, StagedLoad]
    reports: Mapping[str, Mapping[date, PartitionReport]]

    def discard(self) -> None:
        """Drop what is staged."""
        for load in self.loads.values():
            load.discard()


@dataclass(frozen=True)
class DimensionRows:
    """What a load of a dimension brings.

    Attributes:
        come: Rows of files that are new, or all rows; None where the table holds them already.
        gone: Rows of files that are no more; None where `come` has all rows.
    """

    come: LakeScan | None
    gone: LakeScan | None = None


@dataclass
class StarLoader:
    """Stages the star's tables, dimensions first, and judges the facts against them.

    Attributes:
        connect: Opens sessions with the warehouse.
        project: What the tables are.
        engine: Asked for its session where many rows are compared.
        rebuild: New tables take the place of those that are published.
    """

    connect: Connect
    project: Project
    engine: Callable[[], SparkSession]
    rebuild: bool = False
    _loads: dict[str, StagedLoad] = field(default_factory=dict)
    _reports: dict[str, Mapping[date, PartitionReport]] = field(default_factory=dict)

    def stage_dimension(
        self, table: WarehouseTable, rows: DimensionRows, brought: Mapping[date, int]
    ) -> bool:
        """Stage a dimension: what came and went since the last load, or all where that is unknown.

        Args:
            table: Where it goes.
            rows: What the lake has; where nothing changed, there is nothing to stage.
            brought: The run's days, and how many rows of the source each brought.

        Returns:
            Whether Postgres took the rows. If not, the dimension keeps what it has and its days
            fail; of the facts, those days are held whose members it lacks.
        """
        try:
            self._stage_rows(replace(table, rebuild=self.rebuild), rows)
        except RowsRefusedError as error:
            why = f"{error} ({error.fix})"
            failed = {day: PartitionReport(day, rows_in=n, error=why) for day, n in brought.items()}
            self._reports[table.name] = failed
            return False
        self._reports[table.name] = {
            day: PartitionReport(day, rows_in=n, rows_out=n) for day, n in brought.items()
        }
        return True

    def _stage_rows(self, table: WarehouseTable, rows: DimensionRows) -> None:
        if rows.come is not None:
            come = rows.come.batches(columns=table.schema.names)
            gone = rows.gone.batches(columns=table.primary_key) if rows.gone else None
            validate_rows(table.label, table.schema, rows.come.batches(columns=table.schema.names))
            if rows.gone and gone and self._is_worth_comparing(rows.come, rows.gone):
                (key,) = table.primary_key
                keys = keys_of_differences(
                    self.engine(), rows.come, rows.gone, table.schema.names, key
                )
                come, gone = with_keys(come, key, keys), with_keys(gone, key, keys)
            self._loads[table.name] = stage(self.connect, table, (), [((), come)], gone=gone)

    def _is_worth_comparing(self, come: LakeScan, gone: LakeScan) -> bool:
        # Fewer are loaded sooner than compared.
        return min(come.total_rows, gone.total_rows) >= _ROWS_TO_COMPARE

    def stage_fact(self, config: FactConfig, scan: LakeScan, days: Sequence[date]) -> None:
        """Stage partitions of a fact; those that fail their audit are left out again.

        Args:
            config: The fact.
            scan: The lake's rows.
            days: The partitions, by their first days.
        """
        table = replace(fact_table(self.project, config), rebuild=self.rebuild)
        progress.report(f"warehouse/{config.name}", 0, len(days))
        load, totals, refused = self._stage_accepted(table, config, scan, days)
        try:
            # Beside the audit, for which Postgres works: pandera takes as long as a day's query.
            with ThreadPoolExecutor(1) as pool:
                guarded = pool.submit(totals.guard, table)
                accepted = [day for day in days if day not in refused]
                reports = self._audit(config, load, scan, accepted, totals)
                guarded.result()
        except BaseException:
            load.discard()
            raise
        reports |= refused
        bad = bad_days(reports)
        if bad and table.column_of_days is None:
            load.discard()
            self._reports[table.name] = _held_together(reports, sorted(bad))
            return
        if {*bad} - {*refused}:
            # Seldom, so simple: what is staged is one piece a month; stage it again without them.
            load.discard()
            load = self._stage(table, config, scan, [day for day in days if day not in bad], totals)
        self._loads[table.name] = load
        self._reports[table.name] = reports
        progress.report(f"warehouse/{config.name}", len(days), len(days))

    def audit_published(
        self, config: FactConfig, scan: LakeScan, days: Sequence[date]
    ) -> dict[date, PartitionReport]:
        """Judge what readers see of a fact's days as a load judges what it staged."""
        table, totals = fact_table(self.project, config), LakeTotals(self._measures(config))
        for _ in totals.watched(scan.batches(days, table.schema.names)):
            pass
        references, expected = foreign_keys(self.project, config), totals.by_day()
        keys = {*expected, *(date_key(day) for day in self._days_of(table, config, None, days))}
        found = judge_published(self.connect, table, totals.measures, references, keys)
        return self._compared(config, scan, days, expected, found)

    def staged(self) -> StagedStar:
        """All that was staged."""
        return StagedStar(dict(self._loads), dict(self._reports))

    def _stage_accepted(
        self, table: WarehouseTable, config: FactConfig, scan: LakeScan, days: Sequence[date]
    ) -> tuple[StagedLoad, LakeTotals, dict[date, PartitionReport]]:
        """Stage the days whose rows Postgres accepts: with their totals, and the other days."""
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
        """The days that have rows which Postgres refuses, and why; found only after it did."""
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
        """Halve the days until those are left that are refused by themselves."""
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
        slices = (
            (some, totals.watched(scan.batches(read, table.schema.names)))
            for read, some in self._slices(config, days, replaced)
            if any(scan.rows(day) for day in read)
        )
        return stage(self.connect, table, replaced if table.column_of_days else (), slices)

    def _slices(
        self, config: FactConfig, partitions: Sequence[date], days: Sequence[date]
    ) -> Iterator[tuple[Collection[date], Collection[date]]]:
        """Partitions that are copied together, each with the days that their rows are of."""
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
        """The days that partitions replace: of one without end, all that have rows or had some."""
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
        """What is known by date key, by partition."""
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
        found = judge(self.connect, load, measures, references, self._loads)
        return self._compared(config, scan, days, totals.by_day(), found)

    def _compared(
        self,
        config: FactConfig,
        scan: LakeScan,
        days: Sequence[date],
        expected: Mapping[int, Totals],
        found: Mapping[int, StagedDay],
    ) -> dict[date, PartitionReport]:
        measures, references = self._measures(config), foreign_keys(self.project, config)
        nothing = StagedDay(
            dict.fromkeys((ROWS, *measures), Decimal(0)), {r.column: 0 for r in references}
        )
        key = fact_table(self.project, config).primary_key
        # Rows that Postgres has have their key: it found each once.
        keyed = (check.primary_key(key, {}),) if key else ()
        staged, in_lake = self._by_partition(config, found), self._by_partition(config, expected)
        reports = {}
        for day in days:
            here = reduce(StagedDay.plus, staged.get(day, ()), nothing)
            there = reduce(plus, in_lake.get(day, ()), nothing.totals)
            reports[day] = PartitionReport(
                day,
                rows_in=scan.rows(day),
                rows_out=int(here.totals[ROWS]),
                checks=(
                    check.same_totals("same_totals", there, here.totals),
                    check.referential_integrity(here.orphans),
                    *keyed,
                ),
            )
        return reports

    def _measures(self, config: FactConfig) -> list[str]:
        entity = self.project.entities()[config.entity][1]
        # Sums of doubles depend on the order of addition; they are no proof of anything.
        return [name for name in config.measures if entity.column(name).type != "double"]


def _held_together(
    reports: Mapping[date, PartitionReport], bad: Sequence[date]
) -> dict[date, PartitionReport]:
    """Reports of a table that is loaded whole or not at all."""
    why = f"the table is loaded whole, and {bad[0]} failed its audit"
    return {
        day: report if day in bad else replace(report, error=why) for day, report in reports.items()
    }
