"""Sources to raw: what was delivered, captured as it is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import structlog

from headrace.config.settings import Settings
from headrace.config.sources import EntityConfig
from headrace.errors import TransientError
from headrace.lake.table import LakeTable
from headrace.quality.pandera_schemas import validate_files
from headrace.quality.report import AuditedOutput, PartitionReport, bad_days
from headrace.raw.capture import CapturedWindow, capture, raw_schema
from headrace.raw.manifest import CapturedVersion, captured_content, captured_versions
from headrace.raw.plan import CaptureRun
from headrace.raw.writer import DataFolder
from headrace.sources.files.landing import Landing
from headrace.sources.files.unclaimed import unclaimed_text

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RawStep:
    """Captures days of one entity into its raw table."""

    asset: str
    source: str
    entity: EntityConfig
    landing: Landing
    table: LakeTable
    settings: Settings
    run_id: str
    entities: Mapping[str, EntityConfig] = field(default_factory=dict)

    def stage(self, days: Sequence[date], properties: Mapping[str, str]) -> AuditedOutput:
        """Capture what is new for `days`; a day without anything new is staged as it is.

        What a day holds is known after its publication: another run may capture it at once.

        Raises:
            SourceUnavailableError: The landing zone itself does not answer.
        """
        captured = self._captured(days)
        is_first = not any(captured.values()) and not self._captured_ever()
        window = capture(
            self.entity, self.landing, self._folder(), captured, days, self._run(is_first=is_first)
        )
        for warning in window.warnings():
            log.warning("look_at_the_files", entity=self.source, what=warning)
        reports = {day: self._report(day, window) for day in days}
        bad = bad_days(reports)
        staged = {day: some for day, some in window.staged.items() if day not in bad}
        schema, storage = raw_schema(self.entity), self.table.storage
        files = [file for some in staged.values() for file in some.files]
        validate_files(self.table.name, schema, storage, files)
        return AuditedOutput(
            schema,
            staged,
            bad,
            properties,
            mode="append",
            reports=reports,
            # On the command line, those that no entity claims are named once at the end.
            warnings=(*window.warnings(), *filter(None, [unclaimed_text(window.unclaimed)])),
            versions=self._versions,
        )

    def _captured(self, days: Sequence[date]) -> dict[date, Sequence[CapturedVersion]]:
        if not self.table.exists():
            return {}
        # Where a file's own time says its day, its version before may be of any day.
        by_time = self.entity.extract.day_of_file == "time"
        held = self.table.scan(None if by_time else days).files_by_day
        return {day: captured_versions(files) for day, files in held.items()}

    def _captured_ever(self) -> bool:
        return self.table.exists() and bool(self.table.scan().files)

    def _run(self, *, is_first: bool) -> CaptureRun:
        return CaptureRun(
            asset=self.asset,
            source=self.source,
            batch_id=self.run_id,
            captured_at=datetime.now(UTC),
            partitions=self.settings.partitions,
            settle_seconds=self.settings.sensor.settle_seconds,
            is_first=is_first,
            entities=self.entities,
            ignore=self.settings.landing.ignore,
        )

    def _versions(self, days: Collection[date]) -> dict[date, str]:
        held = self.table.scan(days).files_by_day if self.table.exists() else {}
        return {day: captured_content(held.get(day, ())) for day in days}

    def _folder(self) -> DataFolder:
        uri = f"{self.table.location}/data"
        storage = self.table.storage
        return DataFolder(storage.filesystem, storage.path(uri), uri)

    def _report(self, day: date, window: CapturedWindow) -> PartitionReport:
        if error := window.failed.get(day):
            passes = isinstance(error, TransientError)
            return PartitionReport(day, error=f"{error} ({error.fix})", is_transient=passes)
        if waits := window.held.get(day):
            # The file may come before the schedule has given up trying.
            return PartitionReport(day, error=waits, is_transient=True, waits=True)
        rows = window.rows[day]
        return PartitionReport(day, rows_in=rows, rows_out=rows)
