"""What a capture has to read, decided before anything is read.

Belongs here: comparing the landing zone's listing with what raw holds already.
Elsewhere: reading it (headrace.ingestion.capture).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from headrace.config.columns import ColumnConfig
from headrace.config.sources import EntityConfig
from headrace.errors import HeadraceError, SourceMissingError, SourceUnavailableError
from headrace.ingestion.files import files_by_day, is_file_of
from headrace.ingestion.landing import StoredFile
from headrace.ingestion.versions import CapturedVersion, current_versions, short_id

Captured = Mapping[date, Sequence[CapturedVersion]]


@dataclass(frozen=True)
class Delivery:
    """Files that are read one after another.

    Those of one day, or all of an entity whose files hold rows of any day.
    """

    days: tuple[date, ...]
    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class CapturePlan:
    """What to read for some days.

    Attributes:
        deliveries: What must be read; no day is in two of them.
        unchanged: Days for which nothing is new.
        failed: Days that cannot be captured now, with the reason.
        superseded: Paths of files that lie beside a later delivery of the same file, and are not
            read: `a.csv` beside `a.csv.gz`.
    """

    deliveries: tuple[Delivery, ...]
    unchanged: tuple[date, ...]
    failed: Mapping[date, HeadraceError] = field(default_factory=dict)
    superseded: tuple[str, ...] = ()


def plan_capture(
    entity: EntityConfig,
    listing: Iterable[StoredFile],
    captured: Captured,
    days: Sequence[date],
    *,
    settled_before: datetime | None = None,
) -> CapturePlan:
    """Choose the files to read for `days`.

    Args:
        entity: Whose files they are.
        listing: Files of the landing zone; others than the entity's are passed over.
        captured: By day, every version that raw holds.
        days: Partitions, in any order.
        settled_before: Files that arrived at or after this time may still be written, and their
            days fail for now; None takes every file as finished.
    """
    listed = tuple(listing)
    latest = latest_deliveries(listed)
    files = files_by_day(entity.extract, latest, days)
    failed: dict[date, HeadraceError] = {}
    wanted: dict[date, tuple[StoredFile, ...]] = {}
    for day in sorted(set(days)):
        versions = current_versions(captured.get(day, ()))
        if not files[day] and not versions and entity.extract.missing_file == "hold":
            failed[day] = _missing(entity, day)
        elif unsettled := _unsettled(files[day], settled_before):
            failed[day] = _still_written(unsettled)
        else:
            wanted[day] = tuple(f for f in files[day] if not _is_captured(f, entity, versions))
    return CapturePlan(
        deliveries=_deliveries(entity, wanted),
        unchanged=tuple(day for day, new in wanted.items() if not new),
        failed=failed,
        superseded=tuple(
            sorted(
                file.path for file in {*listed} - {*latest} if is_file_of(entity.extract, file.path)
            )
        ),
    )


def latest_deliveries(listing: Iterable[StoredFile]) -> tuple[StoredFile, ...]:
    """Of files that are one file by `StoredFile.logical_path`, the one delivered last."""
    return tuple({f.logical_path: f for f in sorted(listing, key=_order)}.values())


def listing_id(file: StoredFile, entity: EntityConfig) -> str:
    """Stands for a listed file and for how it is read: columns, format and where rows go."""
    form = entity.extract.format
    columns = [_column_id(column) for column in entity.columns]
    how = [form.type, form.delimiter, str(form.quote), form.encoding]
    by = entity.extract.partition_by
    if by is not None:
        column = entity.column(by)
        how += [by, column.type, *column.formats]
        how += [str(option) for option in (column.pivot, entity.timezone) if option is not None]
    written = file.modified_at.isoformat()
    return short_id(file.version, written, str(file.size_bytes), *how, *columns)


def _column_id(column: ColumnConfig) -> str:
    # Ids of files that raw holds must stay the same, so an option at its default is not part of it.
    absence = f"?{column.optional} {column.since} {column.until}" if column.may_be_absent else ""
    return f"{column.name}={'|'.join(column.source_names)}{absence}"


def path_id(file: StoredFile) -> str:
    """Stands for a landing path, whichever of its spellings (`StoredFile.logical_path`)."""
    return short_id(file.logical_path)


def _is_captured(
    file: StoredFile, entity: EntityConfig, versions: Mapping[str, CapturedVersion]
) -> bool:
    version = versions.get(path_id(file))
    return version is not None and version.listing_id == listing_id(file, entity)


def _deliveries(
    entity: EntityConfig, wanted: Mapping[date, tuple[StoredFile, ...]]
) -> tuple[Delivery, ...]:
    new = {day: _by_arrival(files) for day, files in wanted.items() if files}
    if entity.extract.date_fields:
        return tuple(Delivery((day,), files) for day, files in new.items())
    # A day that has all of these files is read again with them: its rows turn out to be the same.
    all_files = {file for files in new.values() for file in files}
    return (Delivery(tuple(new), _by_arrival(all_files)),) if new else ()


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
    return SourceUnavailableError(
        f"{file.path} was written at {file.arrived_at:%H:%M:%S.%f} UTC and may still be written",
        fix="capture the day again once the file has been left alone for a while",
    )


def _missing(entity: EntityConfig, day: date) -> SourceMissingError:
    return SourceMissingError(
        f"{entity.name}: there is no file for {day}: {entity.extract.path_of(day)}",
        fix="deliver it, or declare missing_file: empty if a day may have none",
    )


def settled_time(now: datetime, settle_seconds: float) -> datetime | None:
    """Before when a file must have been written to count as finished; None: any time will do."""
    return now - timedelta(seconds=settle_seconds) if settle_seconds else None
