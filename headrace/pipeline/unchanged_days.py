"""Days of processed whose staged rows equal the published ones: their content version stays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.engine.partition_batches import plan_batches
from headrace.engine.row_diff import differing_days
from headrace.errors import PublishedFileMissingError
from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.ledger.records import PartitionState
from headrace.lineage_schema import DELIVERY_ORDER, SOURCE_OBJECT
from headrace.pipeline.full_snapshots import SnapshotAudit
from headrace.pipeline.staged_rows import read_staged
from headrace.quality.report import PartitionReport
from headrace.schema import PARTITION_COLUMN, Column, TableSchema
from headrace.staged import StagedPartition
from headrace.standardize.schemas import processed_schema


@dataclass(frozen=True)
class PublishedRows:
    """The published rows of an entity, to compare staged days with.

    Attributes:
        table: The processed table.
        batch_bytes: Compressed bytes that are compared at once.
        lineage_read: The lineage columns that the star reads; with `_delivery_order` among them,
            a day's content depends on the order of its files.
        snapshots: Of an entity whose days are full snapshots.
    """

    spark: SparkSession
    entity: EntityConfig
    table: LakeTable
    batch_bytes: int
    lineage_read: Sequence[str] = ()
    snapshots: SnapshotAudit | None = None

    def unchanged(
        self,
        staged: Mapping[date, StagedPartition],
        reports: Mapping[date, PartitionReport],
        published: Mapping[date, PartitionState],
    ) -> dict[date, str]:
        """Days whose staged rows equal those of the last recorded publication, with its run.

        Args:
            staged: The staged rows.
            reports: The audits of the staged days.
            published: Published days that the same code built from other captured rows.
        """
        candidates = {
            day: state
            for day, state in published.items()
            if day in reports and self._may_be_unchanged(reports[day], state)
        }
        if not candidates or not self.table.exists():
            return {}
        scan = self.table.scan([*candidates])
        if not self._has_columns(scan.schema):
            return {}
        runs = {day: state.published_run_id or "" for day, state in candidates.items()}
        sizes = {day: _bytes(staged[day]) + scan.size_bytes(day) for day in runs}
        found: dict[date, str] = {}
        for days in plan_batches([*runs], sizes, self.batch_bytes):
            try:
                found |= self._equal_days(staged, scan, {day: runs[day] for day in days})
            except PublishedFileMissingError:
                continue  # Publishing these days again replaces the missing files.
        return found

    def _may_be_unchanged(self, report: PartitionReport, published: PartitionState) -> bool:
        """Whether a day's counts equal the published ones, so that comparing rows is worth it."""
        if report.outcome != "passed" or report.rows_out != published.published_rows:
            return False
        # In a full snapshot, quarantined rows also show which members are present.
        is_clean = not (report.rows_quarantined or published.rows_quarantined)
        return self.snapshots is None or (is_clean and self.snapshots.has_no_keys(report.partition))

    def _equal_days(
        self, staged: Mapping[date, StagedPartition], scan: LakeScan, runs: Mapping[date, str]
    ) -> dict[date, str]:
        before = scan.frame(self.spark, [*runs])
        some = {day: staged[day] for day in runs}
        rows = read_staged(self.spark, some, processed_schema(self.entity))
        # Days whose rows come from a run that was killed after its commit: the ledger does not have
        # that publication, so downstream tables have not read it.
        writers = before.select(PARTITION_COLUMN, "_run_id").distinct().collect()
        unread = {r[PARTITION_COLUMN] for r in writers if r["_run_id"] != runs[r[PARTITION_COLUMN]]}
        differing = differing_days(before, rows, self._contents, PARTITION_COLUMN)
        if DELIVERY_ORDER in self.lineage_read:
            order = _files_in_order(before), _files_in_order(rows)
            differing |= {day for day in runs if order[0].get(day) != order[1].get(day)}
        return {day: run for day, run in runs.items() if day not in unread | differing}

    @property
    def _contents(self) -> list[Column]:
        """The columns that downstream layers read."""
        lineage = [name for name in self.lineage_read if name != DELIVERY_ORDER]
        schema = processed_schema(self.entity)
        return [schema.column(name) for name in (*self.entity.processed_names, *lineage)]

    def _has_columns(self, published: TableSchema) -> bool:
        types = {column.name: column.type for column in published}
        return all(types.get(column.name) == column.type for column in self._contents)


def _files_in_order(rows: DataFrame) -> dict[date, list[str]]:
    """By day, the files that rows come from, in order of delivery."""
    order = [PARTITION_COLUMN, DELIVERY_ORDER, SOURCE_OBJECT]
    found: dict[date, list[str]] = {}
    for row in rows.select(*order).distinct().orderBy(*order).collect():
        found.setdefault(row[PARTITION_COLUMN], []).append(row[SOURCE_OBJECT])
    return found


def _bytes(staged: StagedPartition) -> int:
    return sum(file.size_bytes for file in staged.files)
