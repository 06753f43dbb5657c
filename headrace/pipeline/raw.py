"""Sources to raw: captures what is new in a source, unchanged."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import structlog

from headrace.config.entities.entity import EntityConfig
from headrace.config.settings import PartitionSettings
from headrace.errors import ConfigError, TransientError
from headrace.grain import Grain
from headrace.lake.table import LakeTable
from headrace.quality.pandera_schemas import validate_files
from headrace.quality.report import AuditedOutput, PartitionReport, bad_days
from headrace.raw.capture import Capture, CapturedWindow, raw_schema
from headrace.raw.manifest import (
    CAPTURE_RECORD,
    CaptureRecord,
    captured_content,
    captured_versions,
)
from headrace.raw.writer import DataFolder
from headrace.schema import TableSchema
from headrace.sources.base import AfterCommit, CapturedVersion, CaptureRun, CaptureState, Connector

# Snapshot property: the grain of the table's partitions.
_GRAIN = "headrace.grain"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RawStep:
    """Captures partitions of one entity into its raw table."""

    asset: str
    source: str
    entity: EntityConfig
    connector: Connector
    table: LakeTable
    partitions: PartitionSettings
    run_id: str

    def stage(self, days: Sequence[date], properties: Mapping[str, str]) -> AuditedOutput:
        """Capture the new objects of `days`; a day without any is staged with no files.

        Content versions are computed after the publication, because another run may capture the
        same day at the same time.

        Raises:
            SourceUnavailableError: The source does not answer.
            ConfigError: The table was captured with partitions of another grain.
        """
        self._require_grain()
        run = self._run()
        window = Capture(
            self.connector,
            self.entity,
            self._folder(),
            run,
            lambda part: self._commit(part, run, properties),
        ).read(days, self._state(days))
        for warning in window.warnings():
            log.warning("files_suspected", entity=self.source, what=warning)
        reports = {day: self._report(day, window) for day in days}
        bad = bad_days(reports)
        staged = {day: some for day, some in window.staged.items() if day not in bad}
        return AuditedOutput(
            self._validated(window),
            staged,
            bad,
            self._properties(window, run, properties),
            mode="append",
            reports=reports,
            # The command line lists files that no entity claims once, at its end.
            warnings=(*window.warnings(), *window.remarks),
            versions=self._versions,
        )

    def _commit(self, part: CapturedWindow, run: CaptureRun, properties: Mapping[str, str]) -> None:
        """Publish a part of a first load. The ledger has its partitions once the run records them.

        After a kill the next run finds them captured.
        """
        self.table.append(
            part.staged,
            schema=self._validated(part),
            properties=self._properties(part, run, properties),
        )
        log.info("capture_committed", entity=self.source, partitions=len(part.staged))

    def _validated(self, window: CapturedWindow) -> TableSchema:
        schema, storage = raw_schema(self.entity), self.table.storage
        files = [file for some in window.staged.values() for file in some.files]
        validate_files(self.table.name, schema, storage, files)
        return schema

    def _properties(
        self, window: CapturedWindow, run: CaptureRun, properties: Mapping[str, str]
    ) -> dict[str, str]:
        record = window.record(self.connector, run).dump()
        return {**properties, _GRAIN: self.entity.grain, CAPTURE_RECORD: record}

    def sparse_partitions(self) -> set[date]:
        """The partitions that the source has itself; see Connector."""
        return self.connector.sparse_partitions(self._state(()), self._run())

    def pending_partitions(self) -> Mapping[date, str]:
        """The partitions with rows that no capture has read; see Connector."""
        if not self._captured_ever():
            return {}
        return self.connector.pending_partitions(self._state(()), self._run())

    def after_commit(self, failed: Collection[date]) -> Sequence[str]:
        """What the connector does to its source once the rows are committed; lines for the log.

        Args:
            failed: Partitions that were not committed.
        """
        if not isinstance(self.connector, AfterCommit):
            return ()
        return self.connector.after_commit(self._captured, failed, self._run())

    def _state(self, partitions: Sequence[date]) -> CaptureState:
        captured = self._captured(partitions)
        is_empty = not any(captured.values()) and not self._captured_ever()
        record = CaptureRecord.load(self.table.snapshot_properties().get(CAPTURE_RECORD))
        return CaptureState(captured, is_empty, record.state if record else {})

    def _captured(self, days: Sequence[date]) -> dict[date, Sequence[CapturedVersion]]:
        if not self.table.exists():
            return {}
        # If an object's time gives its day, its earlier version may be on any day.
        by_time = self.entity.extract.day_of_object == "time"
        captured = self.table.scan(None if by_time else days).files_by_day
        return {day: captured_versions(files) for day, files in captured.items()}

    def _require_grain(self) -> None:
        before = self.table.snapshot_properties().get(_GRAIN, Grain.DAY)
        # With either grain, a version of an undated file is in the partition of a day.
        days = {Grain.DAY, Grain.SPARSE}
        if before == self.entity.grain or {before, self.entity.grain} <= days:
            return
        if not self._captured_ever():
            return
        table = self.source.replace(".", "_")
        raise ConfigError(
            f"{self.source} was captured with partition: {before}, and has now "
            f"{self.entity.grain}: rows would be in two partitions",
            fix=f"say partition: {before}; or reset the assets that are built from it, one by one "
            f"(headrace reset raw/{table}, headrace reset processed/{table}, then curated/… and "
            "warehouse/… of its facts and dimensions, and marts/… that read them), and run all "
            "days again: rows of files that are no longer in the landing zone are lost",
        )

    def _captured_ever(self) -> bool:
        return self.table.exists() and bool(self.table.scan().files)

    def _run(self) -> CaptureRun:
        return CaptureRun(
            asset=self.asset,
            source=self.source,
            batch_id=self.run_id,
            captured_at=datetime.now(UTC),
            partitions=self.partitions,
        )

    def _versions(self, days: Collection[date]) -> dict[date, str]:
        files = self.table.scan(days).files_by_day if self.table.exists() else {}
        return {day: captured_content(files.get(day, ())) for day in days}

    def _folder(self) -> DataFolder:
        uri = f"{self.table.location}/data"
        storage = self.table.storage
        return DataFolder(storage.filesystem, storage.path(uri), uri)

    def _report(self, day: date, window: CapturedWindow) -> PartitionReport:
        if error := window.failed.get(day):
            is_transient = isinstance(error, TransientError)
            return PartitionReport(day, error=f"{error} ({error.fix})", is_transient=is_transient)
        if waits := window.held.get(day):
            # Transient: the file may arrive before the last retry.
            return PartitionReport(day, error=waits, is_transient=True, waits=True)
        rows = window.rows[day]
        return PartitionReport(day, rows_in=rows, rows_out=rows)
