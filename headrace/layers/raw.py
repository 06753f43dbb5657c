"""Sources to raw: what was delivered, captured as it is.

Belongs here: capturing days of an entity into its raw table, and judging what came.
Elsewhere: reading sources (headrace.ingestion), publication (the IO managers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from headrace.config.settings import PartitionSettings
from headrace.config.sources import EntityConfig
from headrace.errors import SourceMissingError, TransientError
from headrace.ingestion.capture import CapturedWindow, capture, raw_schema
from headrace.ingestion.deliveries import CaptureRun
from headrace.ingestion.drafts import DataFolder
from headrace.ingestion.landing import Landing
from headrace.ingestion.versions import captured_versions
from headrace.lake.table import LakeTable
from headrace.layers.guarding import guard_files
from headrace.quality.report import AuditedOutput, PartitionReport, bad_days


@dataclass(frozen=True)
class RawStep:
    """Captures days of one entity into its raw table."""

    asset: str
    source: str
    entity: EntityConfig
    landing: Landing
    table: LakeTable
    partitions: PartitionSettings
    run_id: str

    def stage(self, days: Sequence[date], properties: Mapping[str, str]) -> AuditedOutput:
        """Capture what is new for `days`; a day without anything new is staged as it is.

        Raises:
            SourceUnavailableError: The landing zone itself does not answer.
        """
        held = self.table.scan(days).files_by_day if self.table.exists() else {}
        captured = {day: captured_versions(files) for day, files in held.items()}
        window = capture(
            self.entity,
            self.landing,
            self._folder(),
            captured,
            days,
            CaptureRun(
                asset=self.asset,
                source=self.source,
                batch_id=self.run_id,
                captured_at=datetime.now(UTC),
                partitions=self.partitions,
            ),
        )
        reports = {day: self._report(day, window) for day in days}
        bad = bad_days(reports)
        staged = {day: some for day, some in window.staged.items() if day not in bad}
        schema, storage = raw_schema(self.entity), self.table.storage
        files = [file for some in staged.values() for file in some.files]
        guard_files(self.table.name, schema, storage, files)
        return AuditedOutput(schema, staged, bad, properties, mode="append", reports=reports)

    def _folder(self) -> DataFolder:
        uri = f"{self.table.location}/data"
        storage = self.table.storage
        return DataFolder(storage.filesystem, storage.path(uri), uri)

    def _report(self, day: date, window: CapturedWindow) -> PartitionReport:
        if error := window.failed.get(day):
            passes = isinstance(error, TransientError)
            waits = isinstance(error, SourceMissingError)
            why = f"{error} ({error.fix})"
            return PartitionReport(day, error=why, is_transient=passes, waits=waits)
        rows = window.rows[day]
        return PartitionReport(day, rows_in=rows, rows_out=rows)
