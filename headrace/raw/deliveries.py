"""Reading one delivery: which rows of its files are new to raw, and storing those."""

import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import structlog

from headrace.config.sources import EntityConfig
from headrace.errors import (
    HeadraceError,
    SourceRejectedError,
    StorageRejectedError,
    StorageUnavailableError,
)
from headrace.raw import lineage as rows
from headrace.raw.lineage import FileStamp
from headrace.raw.manifest import CapturedVersion, current_versions
from headrace.raw.plan import (
    Captured,
    CaptureRun,
    Delivery,
    latest_version,
    listing_id,
    path_id,
)
from headrace.raw.undated_files import days_of_rows
from headrace.raw.writer import DataFolder, DayDraft, DayDrafts
from headrace.schema import TableSchema
from headrace.sources.files.csv_reader import read_csv
from headrace.sources.files.landing import Landing, StoredFile
from headrace.sources.files.path_patterns import days_of_file
from headrace.staged import StagedFile

log = structlog.get_logger(__name__)

_TICK = timedelta(microseconds=1)
_NO_ROWS = "0" * 16
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class DuplicateDelivery:
    """A file that holds, for a day, the same rows as another one; both count (decisions/0022)."""

    day: date
    path: str


@dataclass(frozen=True)
class DeliveryOutcome:
    """What became of the days of one delivery; see CapturedWindow."""

    staged: Mapping[date, Sequence[StagedFile]] = field(default_factory=dict)
    rows: Mapping[date, int] = field(default_factory=dict)
    failed: Mapping[date, HeadraceError] = field(default_factory=dict)
    duplicates: Sequence[DuplicateDelivery] = ()
    unplaced: Mapping[str, int] = field(default_factory=dict)
    outside: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DeliveryReader:
    """Reads deliveries, on any thread; holds nothing that changes."""

    entity: EntityConfig
    landing: Landing
    folder: DataFolder
    captured: Captured
    schema: TableSchema
    run: CaptureRun

    def read(self, delivery: Delivery) -> DeliveryOutcome:
        """Read the files of a delivery in their order; one that fails fails the days it is about.

        Raises:
            StorageUnavailableError, StorageRejectedError: What was read could not be stored. No
                day is to blame for that.
        """
        shelf = _Shelf(self, delivery.days)
        try:
            for file in delivery.files:
                self._read_into(shelf, file)
        except BaseException:
            shelf.clear()
            raise
        return shelf.outcome()

    def _read_into(self, shelf: "_Shelf", file: StoredFile) -> None:
        try:
            shelf.add(file)
        except (StorageUnavailableError, StorageRejectedError):
            raise
        except HeadraceError as error:
            shelf.fail(self._days_of(file, shelf.days), error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this file's
            # The text of an error that nobody foresaw may quote a row: frames quote only code.
            frames = "".join(traceback.format_tb(error.__traceback__))
            kind = type(error).__name__
            log.error("file_unreadable", file=file.path, error=kind, frames=frames)  # noqa: TRY400
            shelf.fail(self._days_of(file, shelf.days), _unforeseen(file, kind))

    def _days_of(self, file: StoredFile, days: Collection[date]) -> frozenset[date]:
        """The days that a file is about which cannot be captured: all of them if nobody knows."""
        by, path = self.entity.extract.partition_by, path_id(file)
        if by is None:
            return frozenset(days)
        only_days = self.entity.model_copy(
            update={
                "columns": (self.entity.column(by),),
                "extract": self.entity.extract.model_copy(update={"extra_columns": "ignore"}),
            }
        )
        try:
            named = days_of_rows(only_days, self.landing, file, self.run.partitions)
        except Exception:  # noqa: BLE001  # why it fails is known already
            return frozenset(days)
        held = {day for day in days if path in current_versions(self.captured.get(day, ()))}
        return frozenset((named | held) & {*days})


class _Shelf:
    """What raw will hold for the days of one delivery, file by file."""

    def __init__(self, reader: DeliveryReader, days: Sequence[date]) -> None:
        self._reader = reader
        self._schema = rows.stored_schema(reader.schema)
        self._current = {day: current_versions(reader.captured.get(day, ())) for day in days}
        self._staged: dict[date, list[StagedFile]] = {day: [] for day in days}
        self._duplicates: list[DuplicateDelivery] = []
        self._unplaced: dict[str, int] = {}
        self._outside: dict[str, int] = {}
        self._failed: dict[date, HeadraceError] = {}

    @property
    def days(self) -> tuple[date, ...]:
        """The days that nothing has failed yet."""
        return tuple(self._current)

    def add(self, file: StoredFile) -> None:
        """Read a file and store what is new in it."""
        stamp = self._stamp(file)
        drafts = DayDrafts(self._schema)
        try:
            self._read(file, stamp, drafts)
            for day in self._current:
                self._settle(day, drafts.by_day.get(day), stamp)
        finally:
            drafts.discard()

    def fail(self, days: Collection[date], error: HeadraceError) -> None:
        """Give days up, and what was stored for them."""
        for day in days:
            self._reader.folder.delete(self._staged.pop(day))
            del self._current[day]
            self._failed[day] = error

    def clear(self) -> None:
        """Delete what was stored."""
        self._reader.folder.delete([file for some in self._staged.values() for file in some])

    def outcome(self) -> DeliveryOutcome:
        """What became of the days."""
        counts = {day: sum(v.rows for v in c.values()) for day, c in self._current.items()}
        equal = [one for one in self._duplicates if one.day in self._staged]
        return DeliveryOutcome(
            self._staged, counts, self._failed, equal, self._unplaced, self._outside
        )

    def _before_that_day(self, file: StoredFile) -> CapturedVersion | None:
        """Of a file whose own time says its day, the version before, of whatever day."""
        if self._reader.entity.extract.day_of_file != "time":
            return None
        found = latest_version(file, self._reader.captured)
        return found[1] if found else None

    def _stamp(self, file: StoredFile) -> FileStamp:
        run, path = self._reader.run, path_id(file)
        # A clock that was set back must not make the newer version look like the older.
        known = [versions[path] for versions in self._current.values() if path in versions]
        at = max([run.captured_at, *(version.captured_at + _TICK for version in known)])
        return FileStamp(file, run.source, run.batch_id, at)

    def _read(self, file: StoredFile, stamp: FileStamp, drafts: DayDrafts) -> None:
        entity, days = self._reader.entity, self._current.keys()
        partitions = self._reader.run.partitions
        day = None if entity.extract.day_of_file == "rows" else next(iter(days))
        # Of several files in a partition, each may lack the columns that its own day had not.
        named = next(iter(days_of_file(entity.extract, file.path)), day)
        first = entity.grain.start_of(partitions.start)
        with self._reader.landing.open(file) as stream:
            for batch in read_csv(stream, file.path, entity, day=named):
                if day is not None:
                    drafts.add(day, rows.of_day(batch, day, stamp, self._schema))
                    continue
                dated = rows.with_days(batch, entity, partitions)
                if dated.without_day and first not in days:
                    _add(self._unplaced, file.path, dated.without_day)
                _add(self._outside, file.path, dated.outside)
                for day, part in rows.by_day(dated, days, stamp, self._schema):
                    drafts.add(day, part)
        drafts.finish()

    def _version(self, draft: DayDraft | None, stamp: FileStamp) -> CapturedVersion:
        reader = self._reader
        return CapturedVersion(
            captured_at=stamp.captured_at,
            path_id=path_id(stamp.file),
            content_id=draft.content_id if draft else _NO_ROWS,
            listing_id=listing_id(stamp.file, reader.entity, reader.run.partitions),
            rows=draft.rows if draft else 0,
            modified_at=stamp.file.modified_at,
        )

    def _settle(self, day: date, draft: DayDraft | None, stamp: FileStamp) -> None:
        """Store what a file holds for a day, if that is new."""
        version = self._version(draft, stamp)
        others = dict(self._current[day])
        before = others.pop(version.path_id, None) or self._before_that_day(stamp.file)
        with_rows = [other for other in others.values() if other.rows]
        if before is not None and _says_nothing_new(version, before, alone=not with_rows):
            return
        if not version.rows and not (before and before.rows):
            return  # A file that never had rows for the day leaves no trace in it.
        if version.rows and any(v.content_id == version.content_id for v in with_rows):
            self._duplicates.append(DuplicateDelivery(day, stamp.file.path))
        if draft is None or not version.rows:
            draft = DayDraft(self._schema)
            draft.write([rows.marker(day, stamp, self._schema)])
        name = f"_pd={day}/{version.file_name}"
        self._staged[day].append(draft.store(self._reader.folder, name))
        self._current[day][version.path_id] = version


def _add(counts: dict[str, int], path: str, more: int) -> None:
    if more:
        counts[path] = counts.get(path, 0) + more


def _unforeseen(file: StoredFile, kind: str) -> SourceRejectedError:
    return SourceRejectedError(
        f"{file.path} cannot be read: {kind}",
        fix="the run's log shows where; correct the file or its `format`, or report the error",
    )


def _says_nothing_new(version: CapturedVersion, before: CapturedVersion, *, alone: bool) -> bool:
    """Whether a version says what the one before it said.

    When it was written counts only among several files of a day: it says whose rows are the later.
    """
    if (version.content_id, version.rows) != (before.content_id, before.rows):
        return False
    if not version.rows or version.modified_at == before.modified_at:
        return True
    # Files are read as they were written: one that is alone yet, and later than it was, stays
    # behind those that are read after it.
    return alone and (before.modified_at or _LONG_AGO) < (version.modified_at or _LONG_AGO)
