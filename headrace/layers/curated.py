"""Processed to curated: dimensions rebuilt whole, facts by day, both audited before publication.

Belongs here: staging and auditing the star's tables in the lake.
Elsewhere: what a version or a fact is (headrace.star), publication (the IO managers).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig, FactConfig
from headrace.engine.staging import write_partitions, write_table
from headrace.engine.types import spark_schema
from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.layers.guarding import guard_files
from headrace.layers.processed import StagedDays
from headrace.layers.slices import plan_slices, stage_slices
from headrace.quality import partitions as check
from headrace.quality.report import CheckResult, PartitionReport
from headrace.staged import StagedPartition, StagedTable, new_token
from headrace.standardize.rows import PARTITION_COLUMN
from headrace.star.dimensions import build_dimension, dimension_rows, dimension_schema
from headrace.star.facts import build_fact, lake_fact_schema

# Property of a dimension's snapshot: the files and the code that it was built from.
_INPUTS = "headrace.inputs"


@dataclass(frozen=True)
class StagedDimension:
    """A whole dimension, staged, and what its audit says of the days that a run brings."""

    table: StagedTable
    reports: Mapping[date, PartitionReport]


@dataclass(frozen=True)
class DimensionStep:
    """Stages a dimension from every published row of its entity.

    It reads all days, not those of the run: so the result cannot depend on the order of runs.
    """

    spark: SparkSession
    config: DimensionConfig
    entity: EntityConfig
    table: LakeTable
    code_version: str

    def stage(self, processed: LakeScan, days: Sequence[date]) -> StagedDimension:
        """Stage the dimension; `days` are those whose changes the run brings.

        The files that are published are staged again as they are, where they came from the same
        files by the same code: most days bring no change, and need no build.
        """
        schema = dimension_schema(self.config, self.entity)
        inputs = self._inputs(processed)
        if self.table.snapshot_properties().get(_INPUTS) == inputs:
            staged = self.table.scan().files
        else:
            token = new_token()
            versions = build_dimension(processed.frame(self.spark), self.config, self.entity)
            rows = dimension_rows(versions, self.config, self.entity)
            write_table(rows, uri=self.table.staging_uri(token))
            staged = self.table.staged_files(token)
            key = (self.config.key_column,)
            guard_files(self.table.name, schema, self.table.storage, staged, key)
        counts = {d: sum(f.rows for f in processed.files_by_day.get(d, ())) for d in days}
        checks = self._audit([file.path for file in staged]) if any(counts.values()) else ()
        reports = {}
        for day, count in counts.items():
            # Only a day that brings rows is judged: the others change nothing.
            reports[day] = PartitionReport(
                day, rows_in=count, rows_out=count, checks=checks if count else ()
            )
        return StagedDimension(StagedTable(schema, staged, {_INPUTS: inputs}), reports)

    def _inputs(self, processed: LakeScan) -> str:
        # A file never changes once it is written, so that its name stands for its rows.
        names = "\n".join([self.code_version, *sorted(processed.paths())])
        return hashlib.sha256(names.encode()).hexdigest()

    def _audit(self, paths: Sequence[str]) -> tuple[CheckResult, ...]:
        schema = dimension_schema(self.config, self.entity)
        rows = self.spark.read.schema(spark_schema(schema)).parquet(*paths)
        natural = [F.col(name) for name in self.config.natural_key]
        found = rows.agg(
            F.count(F.lit(1)).alias("rows"),
            F.countDistinct(self.config.key_column).alias("keys"),
            F.countDistinct(*natural).alias("members"),
            F.sum(F.col("is_current").cast("bigint")).alias("current"),
        ).collect()[0]
        return (
            CheckResult(
                "unique_key",
                found["rows"] == found["keys"],
                f"{found['rows']} surrogate keys",
                f"{found['keys']}",
            ),
            CheckResult(
                "one_current_version",
                found["current"] == found["members"],
                f"{found['members']} current versions, one a member",
                f"{found['current']}",
            ),
        )


@dataclass(frozen=True)
class FactStep:
    """Stages days of a fact: as-of join, then totals against the rows it came from."""

    spark: SparkSession
    config: FactConfig
    entity: EntityConfig
    dimensions: Mapping[str, tuple[DimensionConfig, LakeScan]]
    table: LakeTable
    slice_bytes: int

    def stage(self, asset: str, processed: LakeScan, days: Sequence[date]) -> StagedDays:
        """Stage some of the scan's days; one without rows is staged as empty."""
        versions = {
            name: (config, scan.frame(self.spark))
            for name, (config, scan) in self.dimensions.items()
        }
        sizes = {day: processed.size_bytes(day) for day in days}
        slices = plan_slices(days, sizes, self.slice_bytes)
        results, failed = stage_slices(
            asset, slices, lambda some: self._stage_slice(processed, versions, some)
        )
        errors = {day: PartitionReport(day, error=why) for day, why in failed.items()}
        return reduce(StagedDays.__or__, results, StagedDays({}, {}, errors))

    def _stage_slice(
        self,
        processed: LakeScan,
        versions: Mapping[str, tuple[DimensionConfig, DataFrame]],
        days: Sequence[date],
    ) -> StagedDays:
        source = processed.frame(self.spark, days)
        token = new_token()
        rows = build_fact(source, self.config, self.entity, versions)
        write_partitions(rows, uri=self.table.staging_uri(token))
        written = self.table.staged(token)
        files = [file for some in written.values() for file in some.files]
        schema = lake_fact_schema(self.config, self.entity, self._configs())
        guard_files(self.table.name, schema, self.table.storage, files)
        staged = {day: written.get(day, StagedPartition(day)) for day in days}
        expected, found = self._totals(source), self._totals(self._read(staged))
        reports = {}
        for day in days:
            counts = PartitionReport(
                day,
                rows_in=processed.rows(day),
                rows_out=staged[day].rows,
            )
            checks = self._audit(staged[day], expected.get(day, {}), found.get(day, {}))
            reports[day] = replace(counts, checks=checks)
        return StagedDays(staged, {}, reports)

    def _audit(
        self, staged: StagedPartition, expected: Mapping[str, Decimal], found: Mapping[str, Decimal]
    ) -> tuple[CheckResult, ...]:
        schema = lake_fact_schema(self.config, self.entity, self._configs())
        return (
            check.same_totals("same_totals", expected, found),
            check.not_null(schema, staged),
        )

    def _totals(self, rows: DataFrame) -> dict[date, dict[str, Decimal]]:
        sums = [
            F.sum(F.col(name).cast("decimal(38,6)")).alias(name) for name in self._exact_measures()
        ]
        counted = rows.groupBy(PARTITION_COLUMN).agg(F.count(F.lit(1)).alias("rows"), *sums)
        return {
            row[PARTITION_COLUMN]: {
                name: Decimal(row[name] or 0) for name in ("rows", *self._exact_measures())
            }
            for row in counted.collect()
        }

    def _exact_measures(self) -> list[str]:
        # Sums of doubles depend on the order of addition; they are no proof of anything.
        return [m for m in self.config.measures if self.entity.column(m).type != "double"]

    def _configs(self) -> dict[str, DimensionConfig]:
        return {name: config for name, (config, _) in self.dimensions.items()}

    def _read(self, staged: Mapping[date, StagedPartition]) -> DataFrame:
        schema = spark_schema(lake_fact_schema(self.config, self.entity, self._configs()))
        paths = [file.path for some in staged.values() for file in some.files]
        if not paths:
            return self.spark.createDataFrame([], schema)
        return self.spark.read.schema(schema).parquet(*paths)
