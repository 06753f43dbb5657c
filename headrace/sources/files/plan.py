"""Plan of a capture of files: which files are read for which partitions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from headrace.config.entities.columns import ColumnConfig
from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_source import FileEntity
from headrace.errors import HeadraceError, SourceUnavailableError
from headrace.grain import Grain
from headrace.sources.base import (
    Captured,
    CapturedVersion,
    CapturePlan,
    CaptureRun,
    ReadUnit,
    SourceObject,
    current_versions,
    short_id,
)
from headrace.sources.files.path_patterns import (
    days_of_file,
    files_by_partition,
    is_archive_of,
    is_file_of,
    partitions_below,
)
from headrace.sources.landing.arrival import Arrivals
from headrace.sources.landing.landing_zone import StoredFile, problem_error

SUPERSEDED = "files lie beside a later delivery of the same file and are not read"
OTHER_DAYS = "files belong to days that this run does not capture"
WAITING = "files have not arrived whole and are not read"
UNLISTED = "files are not listed by their manifest and are not read"


def plan_files(
    entity: FileEntity,
    listing: Iterable[StoredFile],
    captured: Captured,
    days: Sequence[date],
    run: CaptureRun,
    settle_seconds: float = 0.0,
) -> CapturePlan:
    """Choose the files to read for `days`. A pure function: it reads no file.

    Args:
        entity: The entity whose files they are.
        listing: Files of the landing zone; those of other entities are ignored.
        captured: By partition, every version that raw holds; all partitions are needed where the
            day of a file is that of its modification time.
        days: Partitions by their first days, in any order.
        run: The days that exist, and the time.
        settle_seconds: A file that arrived less than this ago may still be being written: its
            partition fails for now.
    """
    listed = tuple(listing)
    latest = latest_deliveries(listed)
    files, elsewhere = _files_of_days(entity, latest, captured, days, run.partitions)
    plan = _Planned(entity, captured, run, settle_seconds)
    for day in sorted(set(days)):
        plan.add(day, files[day])
    unreadable = [file for file in latest if file.path.endswith("/")]
    for folder in unreadable:
        for day in sorted(_partitions_below(entity, folder, days, run.partitions)):
            plan.fail_listing(day, folder)
    superseded = [f.path for f in {*listed} - {*latest} if is_file_of(entity.extract, f.path)]
    notices = {
        SUPERSEDED: tuple(sorted(superseded)),
        OTHER_DAYS: tuple(f"{path} to {day}" for path, day in elsewhere.items()),
    }
    return CapturePlan(
        units=_units(entity, plan.wanted, captured, run.partitions),
        unchanged=tuple(day for day, new in plan.wanted.items() if not new),
        failed=plan.failed,
        held=plan.held,
        overdue=tuple(plan.overdue),
        notices={text: names for text, names in notices.items() if names},
    )


def with_waiting(
    plan: CapturePlan,
    entity: FileEntity,
    arrivals: Arrivals,
    captured: Captured,
    days: Sequence[date],
) -> CapturePlan:
    """The plan of the files that have arrived, with the partitions held whose files wait. Pure."""
    waiting = _waiting_partitions(entity, arrivals, captured, {*days} - {*plan.failed})
    notices = {
        WAITING: () if waiting else tuple(sorted(set(arrivals.waiting.values()))),
        UNLISTED: arrivals.unlisted,
    }
    return replace(
        plan,
        units=tuple(unit for unit in plan.units if not {*unit.partitions} & {*waiting}),
        unchanged=tuple(day for day in plan.unchanged if day not in waiting),
        overdue=tuple(day for day in plan.overdue if day not in waiting),
        held={**plan.held, **waiting},
        notices={**plan.notices, **{text: names for text, names in notices.items() if names}},
    )


class _Planned:
    """Collects the plan, day by day."""

    def __init__(
        self, entity: FileEntity, captured: Captured, run: CaptureRun, settle_seconds: float
    ) -> None:
        self._entity, self._captured, self._run = entity, captured, run
        self._settled_before = settled_time(run.captured_at, settle_seconds)
        self.wanted: dict[date, tuple[StoredFile, ...]] = {}
        self.failed: dict[date, HeadraceError] = {}
        self.held: dict[date, str] = {}
        self.overdue: list[date] = []

    def add(self, day: date, files: Sequence[StoredFile]) -> None:
        versions = current_versions(self._captured.get(day, ()))
        if not files and not versions and self._is_missed(day):
            return
        if unsettled := _unsettled(files, self._settled_before):
            self.failed[day] = _still_written(unsettled)
        else:
            self.wanted[day] = tuple(f for f in files if not self._is_captured(f, versions))

    def fail_listing(self, day: date, folder: StoredFile) -> None:
        """Fail a day whose files may lie in a folder or an archive that cannot be listed."""
        self.wanted.pop(day, None)
        self.held.pop(day, None)
        is_fresh = _unsettled([folder], self._settled_before) is not None
        self.failed[day] = _still_written(folder) if is_fresh else problem_error(folder)

    def _is_missed(self, day: date) -> bool:
        """Whether the partition is held for lack of a file."""
        extract = self._entity.extract
        waits = extract.day_of_object == "name" and extract.missing_file == "hold"
        if not waits or not self._entity.expects_file(day):
            return False
        until = self._entity.waits_until(day)
        if until is not None and until <= self._run.captured_at:
            self.overdue.append(day)
            return False
        self.held[day] = _missing(extract.path_of(day), until)
        return True

    def _is_captured(self, file: StoredFile, versions: Mapping[str, CapturedVersion]) -> bool:
        found = versions.get(path_id(file))
        held = [found] if found else []
        return is_captured_as(file, self._entity, held, self._run.partitions)


def is_captured_as(
    file: StoredFile,
    entity: FileEntity,
    versions: Iterable[CapturedVersion],
    partitions: PartitionSettings,
) -> bool:
    """Whether the latest of some captured versions of a file is the listed one."""
    version = current_versions(versions).get(path_id(file))
    return version is not None and version.read_id == listing_id(file, entity, partitions)


def latest_deliveries(listing: Iterable[StoredFile]) -> tuple[StoredFile, ...]:
    """Of the files with one `StoredFile.logical_path`, the one delivered last."""
    return tuple({f.logical_path: f for f in sorted(listing, key=_order)}.values())


def day_of_version(
    entity: FileEntity, file: StoredFile, captured: Captured, partitions: PartitionSettings
) -> date:
    """The day of a file that has no day in its path or rows.

    The first version belongs to the first partition: today's product list is the best that is
    known of earlier days. A later version belongs to the day on which it was written, or to the
    previous version's day if that is later.
    """
    before = latest_version(file, captured)
    if before is None:
        return partitions.start
    day, version = before
    if version.read_id == listing_id(file, entity, partitions):
        return day
    written = file.modified_at.date()
    # There will be no day after a declared end; without one, later days will come.
    last = partitions.end - timedelta(days=1) if partitions.end else written
    return max(day, min(written, last))


def latest_version(file: StoredFile, captured: Captured) -> tuple[date, CapturedVersion] | None:
    """The version of a file that was captured last, and its day."""
    path = path_id(file)
    found = [
        (v.captured_at, day, v) for day in captured for v in captured[day] if v.object_id == path
    ]
    return max(found, key=lambda one: one[:2])[1:] if found else None


def listing_id(file: StoredFile, entity: FileEntity, partitions: PartitionSettings) -> str:
    """Identifies a listed version and how it is read: columns, format, partitions of its rows.

    Args:
        file: As it is listed.
        entity: The entity that it belongs to.
        partitions: The days that exist: rows without a readable day go to the first.
    """
    columns = [_column_id(column) for column in entity.columns]
    options = [*entity.extract.format.reading_id]
    by = entity.extract.partition_by
    if by is not None:
        column = entity.column(by)
        options += [by, column.type, *column.formats]
        options += [str(one) for one in (column.pivot, entity.timezone) if one is not None]
        options.append(partitions.start.isoformat())
        if entity.grain != Grain.DAY:
            # A capture of a longer partition left out rows of days that did not exist yet.
            options += [entity.grain, str(partitions.end)]
    written = file.modified_at.isoformat()
    return short_id(file.version, written, str(file.size_bytes), *options, *columns)


def _column_id(column: ColumnConfig) -> str:
    # Ids of files in raw must not change with a release, so options at their default are left out.
    absence = f"?{column.optional} {column.since} {column.until}" if column.may_be_absent else ""
    return f"{column.name}={'|'.join(column.source_names)}{absence}"


def path_id(file: StoredFile) -> str:
    """Identifies a path of the landing zone, in any spelling (`StoredFile.logical_path`)."""
    return short_id(file.logical_path)


def settled_time(now: datetime, settle_seconds: float) -> datetime | None:
    """A file that arrived before this time counts as finished; None: every file does."""
    return now - timedelta(seconds=settle_seconds) if settle_seconds else None


def _files_of_days(
    entity: FileEntity,
    listing: Sequence[StoredFile],
    captured: Captured,
    days: Sequence[date],
    partitions: PartitionSettings,
) -> tuple[dict[date, tuple[StoredFile, ...]], dict[str, date]]:
    """The files of each day, and of files that belong to none of `days`, their day."""
    extract = entity.extract
    if extract.day_of_object != "time":
        return files_by_partition(extract, listing, days, entity.grain, partitions), {}
    of_day: dict[date, list[StoredFile]] = {day: [] for day in days}
    elsewhere: dict[str, date] = {}
    for file in listing:
        if is_file_of(extract, file.path):
            day = day_of_version(entity, file, captured, partitions)
            if day in of_day:
                of_day[day].append(file)
            else:
                elsewhere[file.path] = day
    return {day: tuple(files) for day, files in of_day.items()}, elsewhere


def _waiting_partitions(
    entity: FileEntity, arrivals: Arrivals, captured: Captured, days: Collection[date]
) -> dict[date, str]:
    """The partitions that are held because files of them have not arrived, and why.

    A file without a day is left for a later run. If there is no other, all partitions are held.
    """
    extract = entity.extract
    if extract.day_of_object == "name":
        of_files = {
            day: reason
            for path, reason in arrivals.waiting.items()
            for day in days_of_file(extract, path)
        }
        found = {entity.grain.start_of(d): r for d, r in {**arrivals.held, **of_files}.items()}
        return {day: found[day] for day in sorted({*days} & {*found})}
    is_first = not any(captured.values())
    is_any = any(is_file_of(extract, file.path) for file in arrivals.files)
    if not arrivals.waiting or is_any or not is_first:
        return {}
    return dict.fromkeys(sorted({*days}), min(arrivals.waiting.values()))


def _partitions_below(
    entity: FileEntity, folder: StoredFile, days: Sequence[date], partitions: PartitionSettings
) -> frozenset[date]:
    """The partitions whose files may lie below a folder or in an archive."""
    extract = entity.extract
    if extract.day_of_object == "time" and is_archive_of(extract, folder.path.removesuffix("!/")):
        # As of a file that was not captured before, so that others do not fail with it.
        return frozenset([entity.grain.start_of(partitions.start)]) & {*days}
    return partitions_below(extract, folder.path, days, entity.grain)


def _units(
    entity: FileEntity,
    wanted: Mapping[date, tuple[StoredFile, ...]],
    captured: Captured,
    partitions: PartitionSettings,
) -> tuple[ReadUnit, ...]:
    new = {day: _by_arrival(files) for day, files in wanted.items() if files}

    def objects(files: Iterable[StoredFile]) -> tuple[SourceObject, ...]:
        return tuple(source_object(f, entity, partitions, captured) for f in files)

    if entity.extract.day_of_object != "rows":
        return tuple(ReadUnit((day,), objects(files)) for day, files in new.items())
    if not new:
        return ()
    # Each file is read for every day. On a day whose rows it has not changed, raw stores nothing.
    all_files = {file for files in new.values() for file in files}
    return (ReadUnit(tuple(new), objects(_by_arrival(all_files)), entity.extract.partition_by),)


def source_object(
    file: StoredFile, entity: FileEntity, partitions: PartitionSettings, captured: Captured
) -> SourceObject:
    """A listed file as an object to read."""
    # Where the modification time is a file's day, its previous version may lie on any day.
    by_time = entity.extract.day_of_object == "time"
    before = latest_version(file, captured) if by_time else None
    return SourceObject(
        name=file.path,
        version=file.version,
        order=file.delivery,
        object_id=path_id(file),
        read_id=listing_id(file, entity, partitions),
        modified_at=file.modified_at,
        locator=file,
        replaces=before[1] if before else None,
    )


def _by_arrival(files: Iterable[StoredFile]) -> tuple[StoredFile, ...]:
    """In the order of their deliveries."""
    return tuple(sorted(files, key=_order))


def _order(file: StoredFile) -> tuple[str, str]:
    return file.delivery, file.path


def _unsettled(files: Iterable[StoredFile], settled_before: datetime | None) -> StoredFile | None:
    if settled_before is None:
        return None
    return next((file for file in files if file.arrived_at >= settled_before), None)


def _still_written(file: StoredFile) -> SourceUnavailableError:
    path = file.path.removesuffix("!/")
    return SourceUnavailableError(
        f"{path} was written at {file.arrived_at:%H:%M:%S.%f} UTC and may still be written",
        fix="capture the day again once the file has not changed for a while",
    )


def _missing(path: str, until: datetime | None) -> str:
    waits = "without a limit" if until is None else f"until {until:%Y-%m-%d %H:%M} UTC"
    return (
        f"there is no file {path}; the day waits for it {waits} (deliver it, or declare "
        "expected_by, expected_on, closed_on, or missing_file: empty)"
    )
