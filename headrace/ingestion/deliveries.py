"""Reading one delivery: which rows of its files are new to raw, and storing those.

Belongs here: the comparison with what raw holds, file by file and day by day.
Elsewhere: which files to read (headrace.ingestion.plan), all deliveries of a window (…capture).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from headrace.config.settings import PartitionSettings
from headrace.config.sources import EntityConfig
from headrace.errors import HeadraceError, StorageRejectedError, StorageUnavailableError
from headrace.ingestion import rows
from headrace.ingestion.csv_reader import read_csv
from headrace.ingestion.drafts import DataFolder, DayDraft, DayDrafts
from headrace.ingestion.landing import Landing, StoredFile
from headrace.ingestion.plan import Captured, Delivery, listing_id, path_id
from headrace.ingestion.rows import FileStamp
from headrace.ingestion.versions import CapturedVersion, current_versions
from headrace.schema import TableSchema
from headrace.staged import StagedFile

_TICK = timedelta(microseconds=1)
_NO_ROWS = "0" * 16
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class CaptureRun:
    """What all files of one capture have in common.

    Attributes:
        source: Source and entity, as `_source` says it.
        batch_id: Names the capture.
        captured_at: Its time, UTC.
        partitions: The days that exist; rows without a day of their own go to the first.
        settle_seconds: A file younger than this may still be written, and its day fails for now.
        asset: Name for progress.
    """

    source: str
    batch_id: str
    captured_at: datetime
    partitions: PartitionSettings
    settle_seconds: float = 0.0
    asset: str = "raw"


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
        """Read the files of a delivery in their order; if one fails, all its days do.

        Raises:
            StorageUnavailableError, StorageRejectedError: What was read could not be stored. No
                day is to blame for that.
        """
        shelf = _Shelf(self, delivery.days)
        try:
            for file in delivery.files:
                shelf.add(file)
        except (StorageUnavailableError, StorageRejectedError):
            shelf.clear()
            raise
        except HeadraceError as error:
            shelf.clear()
            return DeliveryOutcome(failed=dict.fromkeys(delivery.days, error))
        except BaseException:
            shelf.clear()
            raise
        return shelf.outcome()


class _Shelf:
    """What raw will hold for the days of one delivery, file by file."""

    def __init__(self, reader: DeliveryReader, days: Sequence[date]) -> None:
        self._reader = reader
        self._schema = rows.stored_schema(reader.schema)
        self._current = {day: current_versions(reader.captured.get(day, ())) for day in days}
        self._staged: dict[date, list[StagedFile]] = {day: [] for day in days}
        self._duplicates: list[DuplicateDelivery] = []
        self._unplaced: dict[str, int] = {}

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

    def clear(self) -> None:
        """Delete what was stored."""
        self._reader.folder.delete([file for some in self._staged.values() for file in some])

    def outcome(self) -> DeliveryOutcome:
        """What became of the days."""
        counts = {day: sum(v.rows for v in c.values()) for day, c in self._current.items()}
        return DeliveryOutcome(self._staged, counts, {}, self._duplicates, self._unplaced)

    def _stamp(self, file: StoredFile) -> FileStamp:
        run, path = self._reader.run, path_id(file)
        # A clock that was set back must not make the newer version look like the older.
        known = [versions[path] for versions in self._current.values() if path in versions]
        at = max([run.captured_at, *(version.captured_at + _TICK for version in known)])
        return FileStamp(file, run.source, run.batch_id, at)

    def _read(self, file: StoredFile, stamp: FileStamp, drafts: DayDrafts) -> None:
        entity, days = self._reader.entity, self._current.keys()
        partitions = self._reader.run.partitions
        day = next(iter(days)) if entity.extract.date_fields else None
        with self._reader.landing.open(file) as stream:
            for batch in read_csv(stream, file.path, entity, day=day):
                if day is not None:
                    drafts.add(day, rows.of_day(batch, day, stamp, self._schema))
                    continue
                dated, found, lost = rows.with_days(batch, entity, partitions)
                if lost and partitions.start not in days:
                    self._unplaced[file.path] = self._unplaced.get(file.path, 0) + lost
                for day, part in rows.by_day(dated, found, days, stamp, self._schema):
                    drafts.add(day, part)
        drafts.finish()

    def _settle(self, day: date, draft: DayDraft | None, stamp: FileStamp) -> None:
        """Store what a file holds for a day, if that is new."""
        version = _version_of(draft, stamp, self._reader.entity)
        others = dict(self._current[day])
        before = others.pop(version.path_id, None)
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


def _version_of(draft: DayDraft | None, stamp: FileStamp, entity: EntityConfig) -> CapturedVersion:
    return CapturedVersion(
        captured_at=stamp.captured_at,
        path_id=path_id(stamp.file),
        content_id=draft.content_id if draft else _NO_ROWS,
        listing_id=listing_id(stamp.file, entity),
        rows=draft.rows if draft else 0,
        modified_at=stamp.file.modified_at,
    )
