"""Audit of the star: compares the published tables with a rebuild from all processed rows."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace import progress
from headrace.config.loader import Project
from headrace.config.star.models import DimensionConfig, FactConfig
from headrace.engine.parquet_writer import write_table
from headrace.engine.partition_batches import plan_batches
from headrace.engine.row_diff import COPIES, differing_rows
from headrace.engine.values.types import spark_schema
from headrace.errors import UnpublishedTableError
from headrace.grain import Grain
from headrace.lake.scan import LakeScan
from headrace.lake.staging import stage_batches
from headrace.lake.table import LakeTable
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionState
from headrace.pipeline.curated.dimensions import all_inputs, dimension_sources, now_of
from headrace.pipeline.curated.inferred_members import inferring_facts
from headrace.pipeline.full_snapshots import NAMESPACE as QUARANTINED_KEYS
from headrace.pipeline.watermarks import changes_since_read, scan_if_published
from headrace.project.lineage import CURATED, PROCESSED, WAREHOUSE, table_of
from headrace.schema import PARTITION_COLUMN, TableSchema
from headrace.staged import new_token
from headrace.star.facts import build_fact, fact_schema, lake_fact_schema, present_rows
from headrace.star.periodic_snapshots import state_changes, states
from headrace.star.scd2.dimensions import all_versions, dimension_schema

_EXAMPLES = 5

ReadWarehouse = Callable[[str, Collection[date] | None], pa.RecordBatchReader]


@dataclass(frozen=True)
class TableAudit:
    """Comparison of one published table with its rebuild.

    Attributes:
        table: namespace.name, of the lake or the warehouse.
        rows: Number of rows expected.
        missing: Number of rows of the rebuild that are not published.
        unexpected: Number of published rows that the rebuild lacks.
        examples: The first differences, by key: `missing product_id 7, valid_from …`.
        days_behind: Days of a fact that were not compared, because their processed rows were
            published again and the fact has not been built from them yet, or because a dimension
            that it joins has never been published.
        is_published: False if nothing was ever published to it: there is nothing to compare.
    """

    table: str
    rows: int
    missing: int
    unexpected: int
    examples: tuple[str, ...] = ()
    days_behind: tuple[date, ...] = ()
    is_published: bool = True

    @property
    def is_equal(self) -> bool:
        """Whether both have the same rows."""
        return not (self.missing or self.unexpected)


@dataclass(frozen=True)
class StarAudit:
    """Rebuilds the star from all processed rows, and compares it with the published tables.

    Attributes:
        lake_table: Returns a table of the lake by namespace and name.
        warehouse_rows: Returns a warehouse table's rows of some days, or of all (None).
    """

    spark: SparkSession
    project: Project
    lake_table: Callable[[str, str], LakeTable]
    warehouse_rows: ReadWarehouse
    ledger: Ledger

    def run(self) -> list[TableAudit]:
        """Audit every dimension and fact, in the lake and in the warehouse."""
        star = self.project.star
        found: list[TableAudit] = []
        versions: dict[str, DataFrame] = {}
        with temp_tables(self.spark) as temp:
            for number, config in enumerate(star.dimensions):
                progress.report("audit of dimensions", number, len(star.dimensions))
                found += self._dimension(config, versions, temp)
            progress.report("audit of dimensions", len(star.dimensions), len(star.dimensions))
            for fact in star.facts:
                found += self._fact(fact, versions, temp)
        return found

    def _rebuilt(self, config: DimensionConfig, temp: "TempTables") -> DataFrame:
        """The rebuilt dimension, materialized because each batch of facts joins it."""
        entity = self.project.dimension_entity(config)
        keys = None
        if config.infers_deletes:
            keys = self.lake_table(QUARANTINED_KEYS, table_of(config.entity))
        references = inferring_facts(self.project, config, self._processed)
        # The rebuild uses the published state's current time.
        now = now_of(self.lake_table(CURATED, config.name).snapshot_properties())
        sources = dimension_sources(self.project, config, self._processed)
        inputs = all_inputs(self.spark, (config, entity), sources, references, keys, now)
        versions = all_versions(inputs, config, entity)
        names = dimension_schema(config, entity).names
        return temp.materialize(self.lake_table(CURATED, config.name), versions.select(*names))

    def _dimension(
        self, config: DimensionConfig, versions: dict[str, DataFrame], temp: "TempTables"
    ) -> Iterator[TableAudit]:
        """Both tables of a dimension; its rebuild is added to `versions`."""
        table = self.lake_table(CURATED, config.name)
        published = scan_if_published(table)
        if published is None:
            yield from _unpublished(f"{CURATED}.{config.name}", f"{WAREHOUSE}.{config.name}")
            return
        versions[config.name] = expected = self._rebuilt(config, temp)
        schema = dimension_schema(config, self.project.dimension_entity(config))
        key = (*config.natural_key, "valid_from")
        yield _compared(
            f"{CURATED}.{config.name}",
            [(expected, published.frame(self.spark))],
            schema,
            key,
            published.total_rows,
        )
        lake, name = published.frame(self.spark), f"{WAREHOUSE}.{config.name}"
        try:
            loaded = temp.from_arrow(table, self.warehouse_rows(config.name, None))
        except UnpublishedTableError:
            yield from _unpublished(name)
        else:
            yield _compared(name, [(lake, loaded)], schema, key, published.total_rows)

    def _fact(
        self, config: FactConfig, versions: Mapping[str, DataFrame], temp: "TempTables"
    ) -> Iterator[TableAudit]:
        project = self.project
        entity = project.entities()[config.entity][1]
        dimensions = {j.dimension: project.star.dimension(j.dimension) for j in config.dimensions}
        joined = {name: (dimensions[name], versions[name]) for name in dimensions & versions.keys()}
        table = self.lake_table(CURATED, config.name)
        published = scan_if_published(table)
        if published is None:
            yield from _unpublished(table.name, f"{WAREHOUSE}.{config.name}")
            return
        days, behind = self._comparable(config, published)
        if len(joined) < len(dimensions):
            days, behind = [], tuple(sorted({*days, *behind}))
        batches = self._batches(config, published, days)
        rows = sum(published.rows(day) for day in days if day in published.files_by_day)

        def rebuilt() -> Iterator[tuple[DataFrame, DataFrame]]:
            sources = self._sources(config, table, batches, temp)
            for number, (some, source) in enumerate(zip(batches, sources, strict=True)):
                progress.report(f"audit of {table.name}", number, len(batches))
                facts = build_fact(source, config, entity, joined)
                yield facts, table.scan(some).frame(self.spark)
            progress.report(f"audit of {table.name}", len(batches), len(batches))

        def loaded() -> Iterator[tuple[DataFrame, DataFrame]]:
            for some in batches:
                loaded_days = _days_of(entity.grain, some)
                stored = temp.from_arrow(table, self.warehouse_rows(config.name, loaded_days))
                yield table.scan(some).frame(self.spark), stored

        in_lake = lake_fact_schema(config, entity, dimensions)
        yield _compared(table.name, rebuilt(), in_lake, config.grain, rows, behind)
        in_warehouse = fact_schema(config, entity, dimensions)
        key, name = in_warehouse.names, f"{WAREHOUSE}.{config.name}"
        try:
            yield _compared(name, loaded(), in_warehouse, key, rows, behind)
        except UnpublishedTableError:
            yield from _unpublished(name)

    def _batches(
        self, config: FactConfig, published: LakeScan, days: Sequence[date]
    ) -> list[list[date]]:
        # A periodic snapshot has rows on days without rows of its source.
        source = published if config.accumulates else self._processed(config.entity).scan(days)
        sizes = {day: source.size_bytes(day) for day in days if day in source.files_by_day}
        return plan_batches(days, sizes, self.project.settings.engine.batch_bytes)

    def _sources(
        self,
        config: FactConfig,
        table: LakeTable,
        batches: Sequence[Sequence[date]],
        temp: "TempTables",
    ) -> Iterator[DataFrame]:
        """The source rows of each batch; of a periodic snapshot, the states at its days' ends."""
        entity = self.project.entities()[config.entity][1]
        processed = self._processed(config.entity).scan()
        last, before = date.min, None
        for some in batches:
            if not config.accumulates:
                rows = self._processed(config.entity).scan(some).frame(self.spark)
                yield present_rows(rows, entity)
                continue
            since = [day for day in processed.days if last < day <= some[-1]]
            changes = state_changes(before, processed.frame(self.spark, since), config, entity)
            current = temp.materialize(table, states(changes, some, config, entity))
            yield current
            last, before = some[-1], current.where(F.col(PARTITION_COLUMN) == F.lit(some[-1]))

    def _comparable(
        self, config: FactConfig, published: LakeScan
    ) -> tuple[list[date], tuple[date, ...]]:
        """The days that were built from the rows published now, and the other days."""
        if config.accumulates:
            return self._comparable_states(config, published)
        days = sorted(published.days)
        source = f"{PROCESSED}/{table_of(config.entity)}"
        above = self.ledger.states(f"{CURATED}/{config.name}", days)
        below = self.ledger.states(source, days)
        behind = [d for d in days if _is_behind(above.get(d), source, below.get(d))]
        return [day for day in days if day not in set(behind)], tuple(behind)

    def _comparable_states(
        self, config: FactConfig, published: LakeScan
    ) -> tuple[list[date], tuple[date, ...]]:
        """The same for periodic snapshots, whose days depend on all rows before.

        Empty days are known from the ledger only.
        """
        known = self.ledger.states(f"{CURATED}/{config.name}")
        days = sorted({*published.days, *(d for d, s in known.items() if d and s.published_at)})
        properties = self.lake_table(CURATED, config.name).snapshot_properties()
        changes = changes_since_read(properties, self._processed(config.entity))
        unread = [*changes.added.days, *changes.removed.days] if changes else []
        current = [day for day in days if not unread or day < min(unread)]
        return current, tuple(day for day in days if day not in current)

    def _processed(self, entity: str) -> LakeTable:
        return self.lake_table(PROCESSED, table_of(entity))


@contextmanager
def temp_tables(spark: SparkSession) -> Iterator["TempTables"]:
    """Temporary tables for the duration of the block."""
    temp = TempTables(spark, [])
    try:
        yield temp
    finally:
        temp.delete()


@dataclass(frozen=True)
class TempTables:
    """Frames written to staging folders of the lake and deleted at the end."""

    spark: SparkSession
    stagings: list[tuple[LakeTable, str]]

    def materialize(self, table: LakeTable, rows: DataFrame) -> DataFrame:
        """Compute a frame once, and return a frame that reads the result."""
        token = self._token(table)
        write_table(rows, uri=table.staging_uri(token))
        paths = [file.path for file in table.staged_files(token)]
        return self.spark.read.schema(rows.schema).parquet(*paths) if paths else rows

    def from_arrow(self, table: LakeTable, rows: pa.RecordBatchReader) -> DataFrame:
        """Write Arrow batches, and return a frame that reads them."""
        token = self._token(table)
        folder = table.staging_uri(token)
        schema = spark_schema(stage_batches(rows, table.storage, folder, partition_column=None))
        paths = [file.path for file in table.staged_files(token)]
        if not paths:
            return self.spark.createDataFrame([], schema)
        return self.spark.read.schema(schema).parquet(*paths)

    def delete(self) -> None:
        """Delete every file that was written."""
        for table, token in self.stagings:
            found = table.storage.list_files(table.staging_uri(token))
            table.storage.delete(file.uri for file in found)

    def _token(self, table: LakeTable) -> str:
        token = new_token()
        self.stagings.append((table, token))
        return token


def _days_of(grain: Grain, partitions: Sequence[date]) -> list[date] | None:
    """The days of some partitions; None: all days."""
    if grain == Grain.NONE:
        return None
    return [day for partition in partitions for day in grain.days_of(partition)]


def _unpublished(*names: str) -> Iterator[TableAudit]:
    for name in names:
        yield TableAudit(name, rows=0, missing=0, unexpected=0, is_published=False)


def _compared(
    name: str,
    pairs: Iterable[tuple[DataFrame, DataFrame]],
    schema: TableSchema,
    key: Sequence[str],
    rows: int,
    behind: tuple[date, ...] = (),
) -> TableAudit:
    """Compare pairs of expected and found rows that together make up a table."""
    missing = unexpected = 0
    examples: list[str] = []
    for expected, found in pairs:
        differing = differing_rows(expected, found, schema)
        # One pass for the sums of both signs.
        counted = differing.agg(
            F.sum(F.greatest(F.col(COPIES), F.lit(0))).alias("missing"),
            F.sum(F.greatest(-F.col(COPIES), F.lit(0))).alias("unexpected"),
        ).collect()[0]
        missing += counted["missing"] or 0
        unexpected += counted["unexpected"] or 0
        if (counted["missing"] or counted["unexpected"]) and len(examples) < _EXAMPLES:
            some = differing.orderBy(*key).limit(_EXAMPLES - len(examples)).collect()
            examples += [_described(row.asDict(), key) for row in some]
    return TableAudit(name, rows, missing, unexpected, tuple(examples), behind)


def _described(row: Mapping[str, object], key: Sequence[str]) -> str:
    # Keys only: attributes may be personal data.
    sign = "missing" if int(str(row[COPIES])) > 0 else "unexpected"
    return f"{sign}: " + ", ".join(f"{name} {row[name]}" for name in key)


def _is_behind(above: PartitionState | None, source: str, below: PartitionState | None) -> bool:
    """Whether a fact's day was built from another content version of its source."""
    if below is None or below.published_at is None:
        return False
    return above is None or (above.inputs or {}).get(source) != below.data_version
