"""Processed to curated: stages days of a fact, and days whose surrogate keys changed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from functools import reduce

from pyiceberg.expressions import GreaterThan, IsNull, Or
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig, FactConfig
from headrace.engine.parquet_writer import write_partitions
from headrace.engine.partition_batches import plan_batches, stage_partition_batches
from headrace.lake.scan import EVERYTHING, LakeScan
from headrace.lake.table import LakeTable
from headrace.pipeline.curated.fact_audit import Totals, engine_sums, exact_measures, totals_of
from headrace.pipeline.curated.rekeying import MovedKeys, is_of_its_day, moved_keys
from headrace.pipeline.processed import AuditedDays
from headrace.pipeline.staged_rows import read_staged
from headrace.pipeline.watermarks import as_read
from headrace.quality import partition_checks as check
from headrace.quality import registry
from headrace.quality.pandera_schemas import validate_files
from headrace.quality.report import CheckResult, PartitionReport, bad_days, passed_days
from headrace.schema import PARTITION_COLUMN
from headrace.staged import StagedPartition, new_token
from headrace.star.facts import build_fact, lake_fact_schema, present_rows

# By name: the dimension and its versions.
JoinedDimensions = Mapping[str, tuple[DimensionConfig, DataFrame]]


@dataclass(frozen=True)
class AuditedFact:
    """Days of a fact, staged and audited.

    Attributes:
        days: The requested days.
        rekeyed: Published days whose surrogate keys changed: the same rows with current keys. A
            requested day that failed may be among them, in its published state. For a periodic
            snapshot also later published days whose rows changed.
        read: Watermarks of the input tables, for the publication's properties.
        renewed: Requested days whose rows may differ from the published ones although their inputs
            are equal.
        is_current: Whether every published day has current keys.
    """

    days: AuditedDays
    rekeyed: AuditedDays
    read: Mapping[str, str]
    renewed: frozenset[date] = frozenset()
    is_current: bool = True


@dataclass(frozen=True)
class FactStep:
    """Stages days of a fact: as-of join, then a comparison of totals with the source rows.

    Attributes:
        dimensions: By name: the dimension and its table in the lake.
    """

    spark: SparkSession
    config: FactConfig
    entity: EntityConfig
    dimensions: Mapping[str, tuple[DimensionConfig, LakeTable]]
    table: LakeTable
    batch_bytes: int

    def stage(self, asset: str, processed: LakeScan, days: Sequence[date]) -> AuditedFact:
        """Stage some of the scan's days, and published days whose keys changed since.

        A day without rows is staged as empty.
        """
        before = self.table.snapshot_properties()
        scans = self.dimensions_since(min(days, default=None))
        staged = self._in_batches(asset, processed, days, scans)
        moved = self.moved()
        rekeyed = self.rekeyed(asset, moved, passed_days(staged.reports))
        read = self.dimensions_read(scans)
        bad = bad_days(rekeyed.reports)
        if bad:
            # These days keep their old keys; with the old watermarks the next run retries them.
            read = {name: before[name] for name in read if name in before}
        renewed = frozenset({*days} & {*(moved.rows if moved else ())})
        return AuditedFact(staged, rekeyed, read, renewed, not bad)

    def moved(self) -> MovedKeys | None:
        """Published rows whose keys changed since their join; None if nothing is published."""
        return moved_keys(self.spark, self.config, self.entity, self.dimensions, self.table)

    def rekeyed(
        self, asset: str, moved: MovedKeys | None, excluded: Collection[date]
    ) -> AuditedDays:
        """Stage published days whose keys changed, except days that are staged anyway."""
        days = sorted({*(moved.rows if moved else ())} - {*excluded})
        if moved is None or not days:
            return AuditedDays({}, {}, {})
        # Joined from the fact's own rows, which have every column that the join needs: re-keying
        # must not read newer processed rows, which the run of their day publishes.
        staged = self._in_batches(asset, moved.facts, days, self.dimensions_since(days[0]))
        reports = {
            day: replace(report, rows_rekeyed=moved.rows[day])
            for day, report in staged.reports.items()
        }
        return replace(staged, reports=reports)

    def dimensions_since(self, first: date | None) -> dict[str, LakeScan]:
        """The dimensions' files, except files whose versions all end before the first event."""
        where = EVERYTHING
        if first is not None and is_of_its_day(self.config, self.entity):
            start = datetime.combine(first, time())
            where = Or(
                IsNull(term="valid_to"), GreaterThan(term="valid_to", value=start.isoformat())
            )
        return {name: table.scan(where=where) for name, (_, table) in self.dimensions.items()}

    def dimensions_read(self, scans: Mapping[str, LakeScan]) -> dict[str, str]:
        """The watermarks of a publication whose keys come from these states."""
        read: dict[str, str] = {}
        for name, (_, table) in self.dimensions.items():
            read |= as_read(table, scans[name])
        return read

    def versions_of(self, scans: Mapping[str, LakeScan]) -> JoinedDimensions:
        """The dimensions with their rows."""
        return {
            name: (self.dimensions[name][0], scan.frame(self.spark)) for name, scan in scans.items()
        }

    def _in_batches(
        self,
        asset: str,
        source: LakeScan,
        days: Sequence[date],
        scans: Mapping[str, LakeScan],
    ) -> AuditedDays:
        if not days:
            return AuditedDays({}, {}, {})
        versions = self.versions_of(scans)
        sizes = {day: source.size_bytes(day) for day in days}
        batches = plan_batches(days, sizes, self.batch_bytes)
        results, failed = stage_partition_batches(
            asset, batches, lambda some: self._stage_batch(source, versions, some)
        )
        errors = {day: PartitionReport(day, error=why) for day, why in failed.items()}
        return reduce(AuditedDays.__or__, results, AuditedDays({}, {}, errors))

    def _stage_batch(
        self,
        processed: LakeScan,
        versions: JoinedDimensions,
        days: Sequence[date],
    ) -> AuditedDays:
        source = present_rows(processed.frame(self.spark, days), self.entity)
        rows_in = {day: processed.rows(day) for day in days}
        return self.stage_rows(source, versions, rows_in, self.totals(source))

    def stage_rows(
        self,
        source: DataFrame,
        versions: JoinedDimensions,
        rows_in: Mapping[date, int],
        expected: Mapping[date, Totals],
    ) -> AuditedDays:
        """Write rows with their keys, and audit each day.

        Args:
            source: Rows as `build_fact` takes them.
            versions: The dimensions.
            rows_in: The days of the rows, with the number of rows read for each.
            expected: Expected number of rows and sums of measures; a day without an entry must
                have no rows.
        """
        token = new_token()
        schema = lake_fact_schema(self.config, self.entity, self._configs())
        rows = build_fact(source, self.config, self.entity, versions)
        has_text = any(column.type == "string" for column in schema)
        write_partitions(rows, uri=self.table.staging_uri(token), has_text=has_text)
        written = self.table.staged(token)
        files = [file for some in written.values() for file in some.files]
        validate_files(self.table.name, schema, self.table.storage, files)
        staged = {day: written.get(day, StagedPartition(day)) for day in rows_in}
        rows = self.read(staged)
        found = self.totals(rows)
        repeated = self._repeated(rows) if self.config.is_snapshot else None
        reports = {}
        for day, count in rows_in.items():
            report = PartitionReport(day, rows_in=count, rows_out=staged[day].rows)
            checks = self._audit(staged[day], expected.get(day, {}), found.get(day, {}))
            if repeated is not None:
                checks += (check.one_row_a_key(self.config.grain, repeated.get(day, 0)),)
            reports[day] = replace(report, checks=checks)
        return AuditedDays(staged, {}, reports)

    def _audit(
        self, staged: StagedPartition, expected: Totals, found: Totals
    ) -> tuple[CheckResult, ...]:
        schema = lake_fact_schema(self.config, self.entity, self._configs())
        return (
            check.same_totals(registry.SAME_TOTALS, expected, found),
            check.not_null(registry.FACT_NOT_NULL, schema, staged),
        )

    def _repeated(self, rows: DataFrame) -> dict[date, int]:
        """By day, the number of keys of the grain that occur more than once."""
        each = rows.groupBy(PARTITION_COLUMN, *self.config.grain)
        repeated = each.agg(F.count(F.lit(1)).alias("_rows")).where(F.col("_rows") > 1)
        found = repeated.groupBy(PARTITION_COLUMN).agg(F.count(F.lit(1)).alias("_keys")).collect()
        return {row[PARTITION_COLUMN]: row["_keys"] for row in found}

    def totals(self, rows: DataFrame) -> dict[date, Totals]:
        """By day, the number of rows and the sum of each exact measure."""
        schema = lake_fact_schema(self.config, self.entity, self._configs())
        measures = exact_measures(self.config.measures, schema)
        counted = rows.groupBy(PARTITION_COLUMN).agg(*engine_sums(measures, schema))
        return {
            row[PARTITION_COLUMN]: totals_of(row, measures, schema) for row in counted.collect()
        }

    def _configs(self) -> dict[str, DimensionConfig]:
        return {name: config for name, (config, _) in self.dimensions.items()}

    def read(self, staged: Mapping[date, StagedPartition]) -> DataFrame:
        """The rows of staged days."""
        schema = lake_fact_schema(self.config, self.entity, self._configs())
        return read_staged(self.spark, staged, schema)
