"""Full snapshots: the members present on each day, and the check of days that lack too many.

A truncated file looks like a file from which members were deleted. After publication the two cannot
be distinguished, so a day that lacks too many members is held.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from operator import or_

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import FullSnapshot
from headrace.engine.parquet_writer import write_partitions
from headrace.engine.values.types import spark_schema
from headrace.lake.table import LakeTable
from headrace.pipeline.watermarks import scan_if_published
from headrace.quality import registry
from headrace.quality.report import CheckResult, PartitionReport
from headrace.schema import PARTITION_COLUMN, Column, TableSchema
from headrace.staged import StagedPartition, new_token
from headrace.standardize.quarantine import typed_values
from headrace.standardize.schemas import processed_schema, quarantine_schema

NAMESPACE = "quarantined_keys"
# Defaults for `max_vanished_share`: half of the members; up to 9 members may all vanish.
_MAX_SHARE = 0.5
_FEW = 10

_Staged = Mapping[date, StagedPartition]


def quarantined_keys_schema(entity: EntityConfig, snapshots: Sequence[FullSnapshot]) -> TableSchema:
    """Natural keys of the snapshots' dimensions, NULL where they do not parse, and the day."""
    names = dict.fromkeys(name for snapshot in snapshots for name in snapshot.key)
    return TableSchema(
        (
            *(Column(name, entity.column(name).type, True) for name in names),
            Column(PARTITION_COLUMN, "date", False, "Day of the row, UTC."),
        )
    )


@dataclass(frozen=True)
class SnapshotAudit:
    """Audits days of an entity that delivers all members each day.

    Attributes:
        table: The entity's processed table.
        quarantined_keys: The table of its quarantined rows' keys.
        snapshots: The dimensions for which each day is a full snapshot.
    """

    spark: SparkSession
    entity: EntityConfig
    table: LakeTable
    quarantined_keys: LakeTable
    snapshots: Sequence[FullSnapshot]

    @property
    def schema(self) -> TableSchema:
        """Columns of the keys' table."""
        return quarantined_keys_schema(self.entity, self.snapshots)

    def stage_keys(self, quarantined: _Staged) -> dict[date, StagedPartition]:
        """Stage the keys of staged quarantined rows; every day has an entry."""
        empty = {day: StagedPartition(day) for day in quarantined}
        schema = quarantine_schema(self.entity)
        rows = self._read([*quarantined.values()], schema)
        if rows is None:
            return empty
        names = [name for name in self.schema.names if name != PARTITION_COLUMN]
        token = new_token()
        keys = typed_values(rows, names, self.entity)
        write_partitions(keys, uri=self.quarantined_keys.staging_uri(token))
        return empty | self.quarantined_keys.staged(token)

    def publish_keys(self, staged: _Staged, days: Collection[date]) -> None:
        """Publish the keys of some days, which replace earlier ones of these days."""
        keys = {day: staged[day] for day in days}
        is_empty = not any(partition.rows for partition in keys.values())
        known = scan_if_published(self.quarantined_keys)
        if keys and not (is_empty and (known is None or not {*known.days} & {*days})):
            self.quarantined_keys.replace(keys, schema=self.schema)

    def has_no_keys(self, day: date) -> bool:
        """Whether the keys' table has no row of a day."""
        known = scan_if_published(self.quarantined_keys)
        return known is None or day not in known.days

    def audit(
        self, rows: _Staged, keys: _Staged, reports: Mapping[date, PartitionReport]
    ) -> dict[date, PartitionReport]:
        """Add a check of vanished members to the report of each day that has rows."""
        audited = dict(reports)
        for snapshot in self.snapshots:
            for day, check in self._checks(snapshot, rows, keys, audited):
                audited[day] = replace(audited[day], checks=(*audited[day].checks, check))
        return audited

    def _checks(
        self,
        snapshot: FullSnapshot,
        rows: _Staged,
        keys: _Staged,
        reports: Mapping[date, PartitionReport],
    ) -> list[tuple[date, CheckResult]]:
        """Compare each day with the last day before it that is or will be published.

        A day that fails is held, so the day after it is compared again, with an earlier day.
        """
        passed = [day for day, report in reports.items() if report.outcome == "passed"]
        days = sorted(day for day in passed if rows[day].rows)
        unreadable = self._unreadable(snapshot, {day: keys[day] for day in days})
        published = scan_if_published(self.table)
        others = {*published.days} - {*passed} if published else set()
        open_days, held = list(days), list[date]()
        checks: dict[date, CheckResult] = {}
        while open_days:
            # A held day keeps its published state, with which the next day is compared.
            unchanged = [day for day in held if published and day in published.days]
            before = _days_before(open_days, [*others, *unchanged])
            later = [day for day in open_days if day in before]
            found = self._missing(snapshot, {day: before[day] for day in later}, rows, keys)
            checks |= {
                day: snapshot_check(snapshot, *found.get(day, (0, 0)), unreadable.get(day, 0))
                for day in open_days
            }
            failed = [day for day in open_days if not checks[day].passed]
            # A failure after another failed day is not final: that day is compared again.
            first = [day for day in failed if before.get(day) not in failed]
            held += first
            open_days = [day for day in open_days if day not in first] if first else []
        return sorted(checks.items())

    def _missing(
        self,
        snapshot: FullSnapshot,
        before: Mapping[date, date],
        rows: _Staged,
        keys: _Staged,
    ) -> dict[date, tuple[int, int]]:
        """By day: number of missing members, and of members of the day before."""
        if not before:
            return {}
        present = self._present(snapshot, {*before, *before.values()}, rows, keys)
        days = [(last, day) for day, last in before.items()]
        pairs = self.spark.createDataFrame(days, "_b date, _d date")
        names = [*snapshot.key]
        earlier = pairs.join(present, F.col("_b") == F.col(PARTITION_COLUMN))
        now = present.select(*names, F.col(PARTITION_COLUMN).alias("_d"), F.lit(1).alias("_there"))
        found = now.join(earlier.select(*names, "_d"), [*names, "_d"], "right")
        counted = found.groupBy("_d").agg(
            F.sum(F.col("_there").isNull().cast("bigint")).alias("missing"),
            F.count(F.lit(1)).alias("members"),
        )
        return {row["_d"]: (row["missing"], row["members"]) for row in counted.collect()}

    def _present(
        self, snapshot: FullSnapshot, days: Collection[date], rows: _Staged, keys: _Staged
    ) -> DataFrame:
        """Distinct natural keys and days of good and quarantined rows."""
        staged = [day for day in days if day in rows and rows[day].rows]
        published = [day for day in days if day not in staged]
        tables = (
            (self.table, rows, processed_schema(self.entity)),
            (self.quarantined_keys, keys, self.schema),
        )
        frames = []
        for table, partitions, schema in tables:
            found = self._read([partitions[day] for day in staged], schema)
            frames += [found] if found is not None else []
            scan = scan_if_published(table) if published else None
            known = [day for day in published if scan and day in scan.files_by_day]
            frames += [scan.frame(self.spark, known)] if scan and known else []
        columns = [*snapshot.key, PARTITION_COLUMN]
        present = reduce(DataFrame.unionByName, (frame.select(*columns) for frame in frames))
        for name in snapshot.key:
            present = present.where(F.col(name).isNotNull())
        return present.distinct()

    def _unreadable(self, snapshot: FullSnapshot, keys: _Staged) -> dict[date, int]:
        """By day: number of quarantined rows whose natural key does not parse."""
        rows = self._read([*keys.values()], self.schema)
        if rows is None:
            return {}
        is_unreadable = reduce(or_, (F.col(name).isNull() for name in snapshot.key))
        counted = (
            rows.where(is_unreadable).groupBy(PARTITION_COLUMN).agg(F.count(F.lit(1)).alias("rows"))
        )
        return {row[PARTITION_COLUMN]: row["rows"] for row in counted.collect()}

    def _read(self, partitions: Sequence[StagedPartition], schema: TableSchema) -> DataFrame | None:
        paths = [file.path for partition in partitions for file in partition.files]
        return self.spark.read.schema(spark_schema(schema)).parquet(*paths) if paths else None


def snapshot_check(
    snapshot: FullSnapshot, missing: int, members: int, unreadable: int
) -> CheckResult:
    """Check whether a day may delete the members that it lacks.

    Args:
        snapshot: The dimension and its declared limit.
        missing: Number of members of the snapshot before that the day lacks.
        members: Number of members of the snapshot before.
        unreadable: Number of quarantined rows of the day whose natural key does not parse.
    """
    found = f"{missing} of {members} missing"
    if missing and unreadable:
        return CheckResult(
            registry.VANISHED_MEMBERS,
            passed=False,
            expected=f"no member of {snapshot.dimension} missing while quarantined rows have no "
            "readable key",
            found=f"{found}, {unreadable} rows without a key",
        )
    most = snapshot.max_vanished_share
    if most is None:
        most = _MAX_SHARE if members >= _FEW else 1.0
    return CheckResult(
        registry.VANISHED_MEMBERS,
        passed=missing <= most * members,
        expected=f"at most {most:.2%} of {snapshot.dimension}'s members missing "
        "(max_vanished_share)",
        found=found,
    )


def _days_before(days: Sequence[date], others: Sequence[date]) -> dict[date, date]:
    """Map each of `days` to the last day before it; the first day of all has none."""
    every = sorted({*days, *others})
    before = dict(zip(every[1:], every, strict=False))
    return {day: before[day] for day in days if day in before}
