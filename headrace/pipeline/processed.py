"""Raw to processed: stages and audits typed, deduplicated rows, and quarantines the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import reduce
from operator import or_
from pathlib import Path
from types import MappingProxyType

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.engine.parquet_writer import write_partitions
from headrace.engine.partition_batches import plan_batches, stage_partition_batches
from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.ledger.records import PartitionState
from headrace.pipeline.full_snapshots import SnapshotAudit
from headrace.pipeline.staged_rows import read_files, read_staged
from headrace.pipeline.unchanged_days import PublishedRows
from headrace.quality import partition_checks as check
from headrace.quality import registry
from headrace.quality.conditions import entity_conditions, require_valid_conditions
from headrace.quality.pandera_schemas import validate_files
from headrace.quality.report import CheckResult, PartitionReport
from headrace.quality.rules import REASON_SEPARATOR
from headrace.raw.capture import raw_schema
from headrace.raw.manifest import current_files
from headrace.schema import PARTITION_COLUMN
from headrace.staged import StagedFile, StagedPartition, new_token
from headrace.standardize.calculated_columns import require_valid_calculations
from headrace.standardize.deduplication import latest_rows, repeated_keys, without_duplicates
from headrace.standardize.good_rows import good_rows, left_out_rows
from headrace.standardize.quarantine import quarantined_rows
from headrace.standardize.schemas import RunStamp, processed_schema, quarantine_schema
from headrace.standardize.typed_columns import (
    rounded_values,
    unstorable_values,
    with_references,
)

# Values of a type that Postgres cannot store.
_UNSTORABLE = {
    "string": "a NUL character, or 1 GB",
    "date": "before 4714 BC, or after 5874897",
    "timestamp": "before 4714 BC",
    "timestamptz": "before 4714 BC",
}
_Files = Mapping[date, Sequence[StagedFile]]
_NONE: Mapping[date, PartitionState] = MappingProxyType({})


@dataclass(frozen=True)
class AuditedDays:
    """Days of one entity, staged and audited; `reports` also has the days that failed.

    Attributes:
        quarantined_keys: Natural keys of quarantined rows, for full snapshots (full_snapshots.py).
        unchanged: Days whose staged rows equal the published ones, with the run that published
            them.
    """

    partitions: Mapping[date, StagedPartition]
    quarantined: Mapping[date, StagedPartition]
    reports: Mapping[date, PartitionReport]
    quarantined_keys: Mapping[date, StagedPartition] = field(default_factory=dict)
    unchanged: Mapping[date, str] = field(default_factory=dict)

    def __or__(self, other: "AuditedDays") -> "AuditedDays":
        """The union of two sets of days."""
        return AuditedDays(
            {**self.partitions, **other.partitions},
            {**self.quarantined, **other.quarantined},
            {**self.reports, **other.reports},
            {**self.quarantined_keys, **other.quarantined_keys},
            {**self.unchanged, **other.unchanged},
        )


@dataclass(frozen=True)
class _Written:
    """The good rows of a day.

    Attributes:
        good: Before deduplication.
        latest: After deduplication.
        keys: Number of natural keys.
        rounded: Number of values of captured rows that were rounded.
        unstorable: Error text on values that Postgres cannot store; empty without any.
    """

    good: StagedPartition
    latest: StagedPartition
    keys: int
    rounded: int = 0
    unstorable: str = ""


@dataclass(frozen=True)
class _OtherRows:
    """The other rows of a day.

    Attributes:
        quarantined: Rows with at least one reason.
        reasons: Reason to the number of rows that have it.
        left_out: Number of rows that `where` or `transform` leaves out.
    """

    quarantined: StagedPartition
    reasons: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0


@dataclass(frozen=True)
class ProcessedStep:
    """Stages days of one entity: type, quarantine, deduplicate, audit.

    Attributes:
        snapshots: Audits days that are full snapshots; None for other entities.
        source_order: Columns that decide which row of a key is the latest; its position in the
            source decides between rows that are equal in them.
        lineage_read: The lineage columns that the star reads.
        references: By `source.entity`, the processed rows that the entity looks up.
        folder: The configuration's folder, in which files of enrichments are.
    """

    spark: SparkSession
    entity: EntityConfig
    table: LakeTable
    quarantine: LakeTable
    stamp: RunStamp
    batch_bytes: int
    snapshots: SnapshotAudit | None = None
    source_order: Sequence[str] = ()
    lineage_read: Sequence[str] = ()
    references: Mapping[str, LakeScan] = field(default_factory=dict)
    folder: Path = Path()

    def stage(
        self, asset: str, raw: LakeScan, published: Mapping[date, PartitionState] = _NONE
    ) -> AuditedDays:
        """Stage the scan's days; one without captured rows is staged as empty.

        Args:
            asset: Name of the asset.
            raw: The captured rows.
            published: Published days that the same code built from other captured rows.

        Raises:
            ConfigError: A condition or an expression of the entity cannot be evaluated.
        """
        raw.verify()
        require_valid_calculations(self.entity)
        require_valid_conditions(self.spark, self.entity, entity_conditions(self.entity))
        files = {day: tuple(current_files(raw.files_by_day[day])) for day in raw.days}
        rows_in = {day: _rows(files[day]) for day in files}
        written, failed = self._write_all(asset, files)
        failed |= {day: some.unstorable for day, some in written.items() if some.unstorable}
        missing = {day: rows_in[day] - written[day].good.rows for day in written}
        others, failed_later = self._stage_all_others(files, missing)
        errors = failed | failed_later
        days = [day for day in files if day not in errors]
        reports = {day: self._report(day, rows_in[day], written[day], others[day]) for day in days}
        rows = {day: written[day].latest for day in days}
        quarantined = {day: others[day].quarantined for day in days}
        keys: Mapping[date, StagedPartition] = {}
        if self.snapshots is not None:
            keys = self.snapshots.stage_keys(quarantined)
            reports = self.snapshots.audit(rows, keys, reports)
        failures = {day: PartitionReport(day, error=why) for day, why in errors.items()}
        before = PublishedRows(
            self.spark,
            self.entity,
            self.table,
            self.batch_bytes,
            self.lineage_read,
            self.snapshots,
        )
        unchanged = before.unchanged(rows, reports, published)
        return AuditedDays(rows, quarantined, reports | failures, keys, unchanged)

    def _write_all(self, asset: str, files: _Files) -> tuple[dict[date, _Written], dict[date, str]]:
        sizes = {day: _bytes(files[day]) for day in files}
        batches = plan_batches(list(files), sizes, self.batch_bytes)
        found, failed = stage_partition_batches(
            asset, batches, lambda days: self._write_batch({day: files[day] for day in days})
        )
        return reduce(or_, found, {}), failed

    def _stage_all_others(
        self, files: _Files, missing: Mapping[date, int]
    ) -> tuple[dict[date, _OtherRows], dict[date, str]]:
        """Write the quarantined rows of days whose good rows are fewer than the captured ones.

        Args:
            files: The captured files of all days.
            missing: Number of captured rows that are not among the good ones, by day.
        """
        # Only these rows are written. They are few, so that a year is one batch.
        sizes = {
            day: _bytes(files[day]) * max(count, 1) // max(_rows(files[day]), 1)
            for day, count in missing.items()
            # A transform may add as many rows as are quarantined: the count then shows none.
            if count > 0 or (self.entity.transform is not None and files[day])
        }
        batches = plan_batches(list(sizes), sizes, self.batch_bytes)
        found, failed = stage_partition_batches(
            None,
            batches,
            lambda days: self._stage_others({day: files[day] for day in days}, missing),
        )
        nothing = {day: _OtherRows(StagedPartition(day)) for day in missing}
        return reduce(or_, found, nothing), failed

    def _write_batch(self, files: _Files) -> dict[date, _Written]:
        good = self._write_good(files)
        keys, repeating = self._distinct_keys(good)
        latest = self._rewrite_latest(good, repeating)
        if self.entity.duplicates == "drop" and latest:
            # Dropping rows reduces the number of keys if the key contains the row's position.
            keys |= self._distinct_keys(latest)[0]
        rounded = self._rounded(files)
        unstorable = self._unstorable(good) if self.entity.transform is not None else {}
        return {
            day: _Written(
                good[day],
                latest.get(day, good[day]),
                keys.get(day, 0),
                rounded.get(day, 0),
                unstorable.get(day, ""),
            )
            for day in files
        }

    def _unstorable(self, good: Mapping[date, StagedPartition]) -> dict[date, str]:
        rows = read_staged(self.spark, good, processed_schema(self.entity))
        found: dict[date, str] = {}
        for row in unstorable_values(rows, self.entity).collect():
            problems = [
                f"{column.name}: {count} rows with a value that Postgres does not store "
                f"({_UNSTORABLE[column.type]}), such as {row[f'_place_{column.name}']}"
                for column in self.entity.processed_columns
                if column.type in _UNSTORABLE and (count := row[f"_rows_{column.name}"])
            ]
            if problems:
                fix = f"let {self.entity.transform} leave such values out"
                found[row[PARTITION_COLUMN]] = f"{'; '.join(problems)} ({fix})"
        return found

    def _stage_others(self, files: _Files, missing: Mapping[date, int]) -> dict[date, _OtherRows]:
        left_out = self._left_out(files)
        broken = {day: files[day] for day in files if missing[day] > left_out.get(day, 0)}
        quarantined, reasons = self._write_quarantined(broken)
        return {
            day: _OtherRows(
                quarantined.get(day, StagedPartition(day)),
                reasons.get(day, {}),
                left_out.get(day, 0),
            )
            for day in files
        }

    def _report(
        self, day: date, rows_in: int, written: _Written, others: _OtherRows
    ) -> PartitionReport:
        counts = PartitionReport(
            day,
            rows_in=rows_in,
            rows_out=written.latest.rows,
            rows_quarantined=others.quarantined.rows,
            rows_repeated=written.good.rows - written.latest.rows,
            rows_left_out=others.left_out,
            values_rounded=written.rounded,
            reasons=others.reasons,
        )
        return self._audited(counts, written.latest, written.keys)

    def _audited(
        self, counts: PartitionReport, staged: StagedPartition, keys: int
    ) -> PartitionReport:
        quality = self.entity.quality
        unique = CheckResult(
            registry.UNIQUE_NATURAL_KEY,
            staged.rows == keys,
            f"{keys} natural keys",
            f"{staged.rows} rows",
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
            check.not_null(registry.NOT_NULL, processed_schema(self.entity), staged),
            unique,
        )
        return replace(counts, checks=checks)

    def _write_good(self, files: _Files) -> dict[date, StagedPartition]:
        raw = self._read_raw(files)
        rows_a_day = _rows([file for some in files.values() for file in some]) / len(files)
        written = self._write_rows(good_rows(raw, self.entity, self.stamp), rows_a_day)
        fresh = [file for some in written.values() for file in some.files]
        schema = processed_schema(self.entity)
        validate_files(self.table.name, schema, self.table.storage, fresh)
        return {day: written.get(day, StagedPartition(day)) for day in files}

    def _left_out(self, files: _Files) -> dict[date, int]:
        if self.entity.where is None and self.entity.transform is None:
            return {}
        counted = left_out_rows(self._read_raw(files), self.entity).collect()
        return {row[PARTITION_COLUMN]: row["rows"] for row in counted}

    def _rounded(self, files: _Files) -> dict[date, int]:
        if not any(column.round for column in self.entity.columns):
            return {}
        counted = rounded_values(self._read_raw(files), self.entity).collect()
        return {row[PARTITION_COLUMN]: row["values"] for row in counted}

    def _distinct_keys(
        self, staged: Mapping[date, StagedPartition]
    ) -> tuple[dict[date, int], list[date]]:
        """Number of natural keys by day, and the days with rows to drop."""
        rows = read_staged(self.spark, staged, processed_schema(self.entity))
        counted = repeated_keys(rows, self.entity).collect()
        keys = {row[PARTITION_COLUMN]: row["keys"] for row in counted}
        distinct = ("contents", "keys") if self.entity.duplicates == "drop" else ("keys",)
        repeating = [row for row in counted if min(row[n] for n in distinct) < row["rows"]]
        return keys, [row[PARTITION_COLUMN] for row in repeating]

    def _rewrite_latest(
        self, staged: Mapping[date, StagedPartition], days: Sequence[date]
    ) -> dict[date, StagedPartition]:
        # Most sources repeat no key: only days with repeated keys are rewritten, from their staged
        # files.
        if not days:
            return {}
        some = {day: staged[day] for day in days}
        rows = read_staged(self.spark, some, processed_schema(self.entity))
        rows_a_day = sum(staged[day].rows for day in days) / len(days)
        if self.entity.duplicates == "drop":
            rows = without_duplicates(rows, self.entity)
        return self._write_rows(latest_rows(rows, self.entity, self.source_order), rows_a_day)

    def _write_quarantined(
        self, files: _Files
    ) -> tuple[dict[date, StagedPartition], dict[date, dict[str, int]]]:
        if not files:
            return {}, {}
        raw = self._read_raw(files)
        token = new_token()
        broken = quarantined_rows(raw, self.entity, self.stamp)
        write_partitions(broken, uri=self.quarantine.staging_uri(token))
        staged = dict(self.quarantine.staged(token))
        rows = read_staged(self.spark, staged, quarantine_schema(self.entity))
        reason = F.explode(F.split("_reasons", REASON_SEPARATOR)).alias("reason")
        counted = rows.select(PARTITION_COLUMN, reason).groupBy(PARTITION_COLUMN, "reason").count()
        reasons: dict[date, dict[str, int]] = {}
        for row in counted.collect():
            reasons.setdefault(row[PARTITION_COLUMN], Counter())[row["reason"]] += row["count"]
        return staged, reasons

    def _read_raw(self, files: _Files) -> DataFrame:
        paths = [file.path for some in files.values() for file in some]
        rows = read_files(self.spark, paths, raw_schema(self.entity))
        frames = {name: scan.frame(self.spark) for name, scan in self.references.items()}
        return with_references(rows, self.entity, frames, self.folder)

    def _write_rows(self, rows: DataFrame, rows_a_day: float) -> dict[date, StagedPartition]:
        token = new_token()
        # Lineage and audit columns are texts, too, but constant in a file.
        has_text = any(column.type == "string" for column in self.entity.processed_columns)
        write_partitions(
            rows, uri=self.table.staging_uri(token), has_text=has_text, rows_a_day=rows_a_day
        )
        return dict(self.table.staged(token))


def _rows(files: Sequence[StagedFile]) -> int:
    return sum(file.rows for file in files)


def _bytes(files: Sequence[StagedFile]) -> int:
    return sum(file.size_bytes for file in files)
