"""Raw to processed: typed, deduplicated rows, and a quarantine for the rest.

Belongs here: staging and auditing days of one entity.
Elsewhere: what happens to a row (headrace.standardize.rows), publication (the IO managers).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.sources import EntityConfig
from headrace.engine.staging import write_partitions
from headrace.engine.types import spark_schema
from headrace.ingestion.capture import raw_schema
from headrace.ingestion.versions import current_files
from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.layers.guarding import guard_files
from headrace.layers.slices import plan_slices, stage_slices
from headrace.quality import partitions as check
from headrace.quality.report import CheckResult, PartitionReport
from headrace.quality.rules import BETWEEN_REASONS
from headrace.schema import TableSchema
from headrace.staged import StagedFile, StagedPartition, new_token
from headrace.standardize.rows import (
    PARTITION_COLUMN,
    RunStamp,
    good_rows,
    latest_rows,
    left_out_rows,
    processed_schema,
    quarantine_schema,
    quarantined_rows,
    repeated_keys,
)


@dataclass(frozen=True)
class StagedDays:
    """Days of one entity, staged and audited; `reports` also names the days that failed."""

    partitions: Mapping[date, StagedPartition]
    quarantined: Mapping[date, StagedPartition]
    reports: Mapping[date, PartitionReport]

    def __or__(self, other: "StagedDays") -> "StagedDays":
        """Both, of different days."""
        return StagedDays(
            {**self.partitions, **other.partitions},
            {**self.quarantined, **other.quarantined},
            {**self.reports, **other.reports},
        )


@dataclass(frozen=True)
class ProcessedStep:
    """Stages days of one entity: parse, judge, deduplicate, count."""

    spark: SparkSession
    entity: EntityConfig
    table: LakeTable
    quarantine: LakeTable
    stamp: RunStamp
    slice_bytes: int

    def stage(self, asset: str, raw: LakeScan) -> StagedDays:
        """Stage the scan's days; one without captured rows is staged as empty."""
        raw.verify()
        files = {day: current_files(raw.files_by_day[day]) for day in raw.days}
        sizes = {day: sum(file.size_bytes for file in files[day]) for day in raw.days}
        slices = plan_slices(raw.days, sizes, self.slice_bytes)
        results, failed = stage_slices(
            asset, slices, lambda some: self._stage_slice({day: files[day] for day in some})
        )
        errors = {day: PartitionReport(day, error=why) for day, why in failed.items()}
        return reduce(StagedDays.__or__, results, StagedDays({}, {}, errors))

    def _stage_slice(self, files: Mapping[date, Sequence[StagedFile]]) -> StagedDays:
        rows_in = {day: sum(file.rows for file in files[day]) for day in files}
        good = self._write_good(files)
        keys = self._distinct_keys(good)
        latest = self._rewrite_latest(good, [d for d in keys if keys[d] < good[d].rows])
        left_out = self._left_out(files)
        bad_days = [day for day in files if rows_in[day] > good[day].rows + left_out.get(day, 0)]
        quarantined, reasons = self._write_quarantined({day: files[day] for day in bad_days})
        reports = {}
        for day in files:
            staged = latest.get(day, good[day])
            set_aside = quarantined.get(day, StagedPartition(day))
            counts = PartitionReport(
                day,
                rows_in=rows_in[day],
                rows_out=staged.rows,
                rows_quarantined=set_aside.rows,
                rows_repeated=good[day].rows - staged.rows,
                rows_left_out=left_out.get(day, 0),
                reasons=reasons.get(day, {}),
            )
            reports[day] = self._audited(counts, staged, keys.get(day, 0))
        nothing = {day: StagedPartition(day) for day in files}
        return StagedDays({**good, **latest}, {**nothing, **quarantined}, reports)

    def _audited(
        self, counts: PartitionReport, staged: StagedPartition, keys: int
    ) -> PartitionReport:
        quality = self.entity.quality
        unique = CheckResult(
            "unique_key", staged.rows == keys, f"{keys} natural keys", f"{staged.rows} rows"
        )
        checks = (
            check.row_balance(
                rows_in=counts.rows_in,
                rows_out=counts.rows_out,
                quarantined=counts.rows_quarantined,
                repeated=counts.rows_repeated,
                left_out=counts.rows_left_out,
            ),
            check.row_count(quality, counts.rows_out),
            check.quarantined_share(
                quality,
                rows_in=counts.rows_in - counts.rows_left_out,
                quarantined=counts.rows_quarantined,
            ),
            check.not_null(processed_schema(self.entity), staged),
            unique,
        )
        return replace(counts, checks=checks)

    def _write_good(
        self, files: Mapping[date, Sequence[StagedFile]]
    ) -> dict[date, StagedPartition]:
        raw = self._read_raw(files)
        written = self._write(good_rows(raw, self.entity, self.stamp), self.table)
        fresh = [file for some in written.values() for file in some.files]
        schema = processed_schema(self.entity)
        guard_files(self.table.name, schema, self.table.storage, fresh)
        return {day: written.get(day, StagedPartition(day)) for day in files}

    def _left_out(self, files: Mapping[date, Sequence[StagedFile]]) -> dict[date, int]:
        if self.entity.where is None:
            return {}
        counted = left_out_rows(self._read_raw(files), self.entity).collect()
        return {row[PARTITION_COLUMN]: row["rows"] for row in counted}

    def _distinct_keys(self, staged: Mapping[date, StagedPartition]) -> dict[date, int]:
        rows = self._read_staged(staged, processed_schema(self.entity))
        counted = repeated_keys(rows, self.entity).collect()
        return {row[PARTITION_COLUMN]: row["keys"] for row in counted}

    def _rewrite_latest(
        self, staged: Mapping[date, StagedPartition], days: Sequence[date]
    ) -> dict[date, StagedPartition]:
        # Most sources repeat nothing: what is written is looked at, and only days in which keys
        # do repeat are written again, from their staged files.
        if not days:
            return {}
        some = {day: staged[day] for day in days}
        rows = self._read_staged(some, processed_schema(self.entity))
        return self._write(latest_rows(rows, self.entity), self.table)

    def _write_quarantined(
        self, files: Mapping[date, Sequence[StagedFile]]
    ) -> tuple[dict[date, StagedPartition], dict[date, dict[str, int]]]:
        if not files:
            return {}, {}
        raw = self._read_raw(files)
        staged = self._write(quarantined_rows(raw, self.entity, self.stamp), self.quarantine)
        rows = self._read_staged(staged, quarantine_schema(self.entity))
        reason = F.explode(F.split("_reasons", BETWEEN_REASONS)).alias("reason")
        counted = rows.select(PARTITION_COLUMN, reason).groupBy(PARTITION_COLUMN, "reason").count()
        reasons: dict[date, dict[str, int]] = {}
        for row in counted.collect():
            reasons.setdefault(row[PARTITION_COLUMN], Counter())[row["reason"]] += row["count"]
        return staged, reasons

    def _read_raw(self, files: Mapping[date, Sequence[StagedFile]]) -> DataFrame:
        paths = [file.path for some in files.values() for file in some]
        return self._read(paths, raw_schema(self.entity))

    def _write(self, rows: DataFrame, table: LakeTable) -> dict[date, StagedPartition]:
        token = new_token()
        write_partitions(rows, uri=table.staging_uri(token))
        return dict(table.staged(token))

    def _read_staged(
        self, staged: Mapping[date, StagedPartition], schema: TableSchema
    ) -> DataFrame:
        return self._read([file.path for some in staged.values() for file in some.files], schema)

    def _read(self, paths: Sequence[str], schema: TableSchema) -> DataFrame:
        if not paths:
            return self.spark.createDataFrame([], spark_schema(schema))
        return self.spark.read.schema(spark_schema(schema)).parquet(*paths)
