"""Stages the calendar (date dimension) in the lake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from headrace.config.star.models import CalendarConfig
from headrace.grain import Grain
from headrace.lake.staging import stage_batches
from headrace.lake.table import LakeTable
from headrace.quality.report import AuditedTable, PartitionReport
from headrace.staged import StagedFile, new_token
from headrace.star.calendar import build_calendar, calendar_schema

# Snapshot property: version of the configuration that the files were computed from.
_CODE = "headrace.code-version"


@dataclass(frozen=True)
class CalendarStep:
    """Stages the calendar.

    It has the partitions of the facts, because Dagster splits a backfill over assets with and
    without partitions into several runs.
    """

    config: CalendarConfig
    table: LakeTable
    grain: Grain = Grain.DAY

    def stage(self, days: Sequence[date], properties: Mapping[str, str]) -> AuditedTable:
        """Stage the whole table, with a report of each partition.

        A partition outside the calendar is reported as empty.

        Args:
            days: The first days of the run's partitions.
            properties: Snapshot properties.
        """
        rows = {day: self.rows_of(day) for day in days}
        reports = {
            day: PartitionReport(day, rows_in=count, rows_out=count) for day, count in rows.items()
        }
        files = self._files(properties.get(_CODE))
        return AuditedTable(calendar_schema(self.config), files, properties, reports=reports)

    def rows_of(self, partition: date) -> int:
        """Number of days of the calendar in a partition."""
        first = self.config.start if self.grain == Grain.NONE else partition
        end = min(self.grain.end_of(partition), self.config.end + timedelta(days=1))
        return max((end - max(first, self.config.start)).days, 0)

    def _files(self, code_version: str | None) -> tuple[StagedFile, ...]:
        if code_version and self.table.snapshot_properties().get(_CODE) == code_version:
            return self.table.scan().files
        token = new_token()
        rows = build_calendar(self.config).to_reader()
        folder = self.table.staging_uri(token)
        stage_batches(rows, self.table.storage, folder, partition_column=None)
        return self.table.staged_files(token)
