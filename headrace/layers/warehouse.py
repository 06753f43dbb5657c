"""Curated to warehouse: the star copied to Postgres, judged there before it is visible.

Belongs here: which tables a load brings, and the set-based audit of what is staged.
Elsewhere: copying and publishing (headrace.warehouse), the star in the lake (headrace.layers).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

import pyarrow as pa
from psycopg import sql

from headrace import progress
from headrace.config.loading import Project
from headrace.config.star import CalendarConfig, DimensionConfig, FactConfig, FactDimension
from headrace.lake.scan import LakeScan
from headrace.layers.guarding import guard_rows
from headrace.quality import partitions as check
from headrace.quality.report import PartitionReport, bad_days
from headrace.star.calendar import calendar_schema, date_key
from headrace.star.dimensions import dimension_schema
from headrace.star.facts import DATE_KEY, fact_schema
from headrace.warehouse.sessions import Connect
from headrace.warehouse.staged import StagedLoad
from headrace.warehouse.staging import stage
from headrace.warehouse.tables import Reference, WarehouseTable, by_month

NAMESPACE = "warehouse"
_INTERVAL = ("valid_from", "valid_to", "is_current")


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
    """A fact in Postgres: partitioned by month of its date key, every foreign key indexed."""
    entity = project.entities()[config.entity][1]
    dimensions = {j.dimension: project.star.dimension(j.dimension) for j in config.dimensions}
    references = foreign_keys(project, config)
    return WarehouseTable(
        NAMESPACE,
        config.name,
        fact_schema(config, entity, dimensions),
        indexes=tuple((reference.column,) for reference in references),
        references=references,
        partition_column=DATE_KEY if config.load == "partition_replace" else None,
        mode=config.load,
    )


def foreign_keys(project: Project, config: FactConfig) -> tuple[Reference, ...]:
    """What a fact's columns point to: its dimensions, then the calendar."""
    calendar = project.star.calendar
    found = [
        Reference(
            _key_of(join, project.star.dimension(join.dimension)),
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
    """Stages the star's tables, dimensions first, and judges the facts against them."""

    connect: Connect
    project: Project
    _loads: dict[str, StagedLoad] = field(default_factory=dict)
    _reports: dict[str, Mapping[date, PartitionReport]] = field(default_factory=dict)

    def stage_dimension(
        self, table: WarehouseTable, rows: DimensionRows, brought: Mapping[date, int]
    ) -> None:
        """Stage a dimension: what came and went since the last load, or all where that is unknown.

        Args:
            table: Where it goes.
            rows: What the lake has; where nothing changed, there is nothing to stage.
            brought: The run's days, and how many rows of the source each brought.
        """
        if rows.come is not None:
            names = table.schema.names
            guard_rows(table.label, table.schema, rows.come.batches(columns=names))
            gone = rows.gone.batches(columns=table.primary_key) if rows.gone else None
            slices = [((), rows.come.batches(columns=names))]
            self._loads[table.name] = stage(self.connect, table, (), slices, gone=gone)
        self._reports[table.name] = {
            day: PartitionReport(day, rows_in=rows, rows_out=rows) for day, rows in brought.items()
        }

    def stage_fact(self, config: FactConfig, scan: LakeScan, days: Sequence[date]) -> None:
        """Stage days of a fact; days that fail their audit are left out and staged no more."""
        table = fact_table(self.project, config)
        progress.report(f"warehouse/{config.name}", 0, len(days))
        expected = _lake_totals(scan, days, self._measures(config))
        load = self._stage(table, scan, days)
        reports = self._audit(config, load, scan, days, expected)
        bad = bad_days(reports)
        if bad and table.partition_column is None:
            load.discard()
            self._reports[table.name] = _held_together(reports, sorted(bad))
            return
        if bad:
            # Seldom, so simple: what is staged is one piece a month; stage it again without them.
            load.discard()
            load = self._stage(table, scan, [day for day in days if day not in bad])
        self._loads[table.name] = load
        self._reports[table.name] = reports
        progress.report(f"warehouse/{config.name}", len(days), len(days))

    def staged(self) -> StagedStar:
        """All that was staged."""
        return StagedStar(dict(self._loads), dict(self._reports))

    def _stage(self, table: WarehouseTable, scan: LakeScan, days: Sequence[date]) -> StagedLoad:
        names = table.schema.names
        guard_rows(table.label, table.schema, scan.batches(days, names))
        months = by_month(days).values()
        slices = ((some, scan.batches(some, names)) for some in months if _rows(scan, some))
        return stage(self.connect, table, days if table.partition_column else (), slices)

    def _audit(
        self,
        config: FactConfig,
        load: StagedLoad,
        scan: LakeScan,
        days: Sequence[date],
        expected: Mapping[int, Mapping[str, Decimal]],
    ) -> dict[date, PartitionReport]:
        measures = self._measures(config)
        found = _staged_totals(load, measures)
        orphans = self._orphans(config, load)
        reports = {}
        for day in days:
            key = date_key(day)
            nothing = dict.fromkeys(("rows", *measures), Decimal(0))
            counts = {column: by_day.get(key, 0) for column, by_day in orphans.items()}
            reports[day] = PartitionReport(
                day,
                rows_in=scan.rows(day),
                rows_out=int(found.get(key, nothing)["rows"]),
                checks=(
                    check.same_totals(
                        "same_totals", expected.get(key, nothing), found.get(key, nothing)
                    ),
                    check.referential_integrity(counts),
                ),
            )
        return reports

    def _orphans(self, config: FactConfig, load: StagedLoad) -> dict[str, dict[int, int]]:
        """Per foreign key: date key to number of staged facts without a member.

        Members are those of the dimension as it will be once this load is published.
        """
        counts: dict[str, dict[int, int]] = {}
        for reference in foreign_keys(self.project, config):
            # By distinct keys: a day's facts must not cost a look at every version there is.
            query = sql.SQL(
                "select f.day, sum(f.rows)::bigint from"
                " (select {date} as day, {column} as key, count(*) as rows from {facts} as staged"
                " where {column} is not null group by 1, 2) as f where {lacking} group by 1"
            ).format(
                date=sql.Identifier(DATE_KEY),
                column=sql.Identifier(reference.column),
                facts=load.relation(),
                lacking=self._lacking(reference),
            )
            counts[reference.column] = dict(load.owner.execute(query).fetchall())
        return counts

    def _lacking(self, reference: Reference) -> sql.Composed:
        """Condition: once this load is published, no member will have the key `f.key`."""
        key = sql.Identifier(reference.key)
        among = sql.SQL("exists (select from {} as d where d.{} = f.key)")
        published = sql.Identifier(NAMESPACE, reference.table)
        load = self._loads.get(reference.table)
        if load is None:
            return sql.SQL("not {}").format(among.format(published, key))
        staged = among.format(load.relation(), key)
        if load.gone is None:
            return sql.SQL("not {}").format(staged)
        return sql.SQL("not {} and (not {} or {})").format(
            staged, among.format(published, key), among.format(load.gone_relation(), key)
        )

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


def _key_of(join: FactDimension, dimension: DimensionConfig) -> str:
    return f"{join.role}_key" if join.role else dimension.key_column


def _rows(scan: LakeScan, days: Iterator[date] | frozenset[date]) -> int:
    return sum(scan.rows(day) for day in days)


def _lake_totals(
    scan: LakeScan, days: Sequence[date], measures: Sequence[str]
) -> dict[int, dict[str, Decimal]]:
    """Rows and sums of each measure by date key, from the lake's files, a batch at a time."""
    partial: list[pa.Table] = []
    sums = [(name, "sum") for name in measures]
    for batch in scan.batches(days, [DATE_KEY, *measures]):
        grouped = pa.Table.from_batches([batch]).group_by(DATE_KEY)
        partial.append(grouped.aggregate([*sums, ([], "count_all")]))
    if not partial:
        return {}
    names = [f"{name}_sum" for name in measures]
    together = pa.concat_tables(partial).group_by(DATE_KEY)
    totals = together.aggregate([(name, "sum") for name in (*names, "count_all")])
    return {
        row[DATE_KEY]: {
            "rows": Decimal(row["count_all_sum"]),
            **{name: Decimal(row[f"{name}_sum_sum"] or 0) for name in measures},
        }
        for row in totals.to_pylist()
    }


def _staged_totals(load: StagedLoad, measures: Sequence[str]) -> dict[int, dict[str, Decimal]]:
    query = sql.SQL("select {date}, count(*){sums} from {facts} f group by 1").format(
        date=sql.Identifier(DATE_KEY),
        sums=sql.SQL("").join(sql.SQL(", sum({})").format(sql.Identifier(m)) for m in measures),
        facts=load.relation(),
    )
    names = ("rows", *measures)
    return {
        row[0]: {name: Decimal(value or 0) for name, value in zip(names, row[1:], strict=True)}
        for row in load.owner.execute(query)
    }
