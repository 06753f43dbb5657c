"""The connector for files in a landing zone."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import pyarrow as pa

from headrace.config.loader import Project
from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_source import FileEntity
from headrace.errors import HeadraceError, NoFilesError
from headrace.schema import Column
from headrace.sources.base import (
    Captured,
    CapturePlan,
    CaptureRun,
    CaptureState,
    SourceObject,
)
from headrace.sources.files.excel_reader import read_excel
from headrace.sources.files.json_reader import read_json
from headrace.sources.files.parquet_reader import read_parquet
from headrace.sources.files.path_patterns import (
    days_of_file,
    files_by_partition,
    is_archive_of,
    is_file_of,
    listing_prefix,
)
from headrace.sources.files.plan import (
    day_of_version,
    is_captured_as,
    latest_deliveries,
    plan_files,
    source_object,
    with_waiting,
)
from headrace.sources.files.text.csv_reader import read_csv
from headrace.sources.files.text.fixed_width_reader import read_fixed_width
from headrace.sources.files.unclaimed import UnclaimedFile, unclaimed_files, unclaimed_text
from headrace.sources.landing.archive_moves import markers_of, move_to_archive, plan_moves
from headrace.sources.landing.arrival import (
    Arrivals,
    arrival_extracts,
    arrivals_of,
    different_files,
)
from headrace.sources.landing.landing_zone import Landing, StoredFile
from headrace.sources.landing.zip_landing import with_archives

# The longest wait of a run for files to settle: it blocks other runs of its partitions meanwhile.
_LONGEST_WAIT_SECONDS = 15.0
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
LAST_DELIVERY = "last_delivery"
Reader = Callable[..., Iterator[pa.RecordBatch]]
_READERS: Mapping[str, Reader] = {
    "parquet": read_parquet,
    "json": read_json,
    "json_lines": read_json,
    "excel": read_excel,
    "fixed_width": read_fixed_width,
}


def reader_of(entity: FileEntity) -> Reader:
    """What reads the files of an entity, by their format."""
    return _READERS.get(entity.extract.format.type, read_csv)


def files_connector(project: Project, name: str, landing: Landing) -> "FilesConnector":
    """The connector of the entity `name` (`source.entity`), whose files are in `landing`."""
    source, _ = project.entities()[name]
    entities = project.file_entities(getattr(source, "connection", None))
    settings = project.settings
    return FilesConnector(
        entities[name],
        landing,
        settle_seconds=settings.sensor.settle_seconds,
        entities=entities,
        ignore=settings.landing.ignore,
    )


@dataclass(frozen=True)
class FilesConnector:
    """One entity's files in a landing zone. See Connector.

    Attributes:
        settle_seconds: A file that arrived less than this ago may still be being written.
        entities: All entities of the project, by `source.entity`, to find files of none of them.
        ignore: Shell patterns of files that need not belong to an entity.
    """

    entity: FileEntity
    landing: Landing
    settle_seconds: float = 0.0
    entities: Mapping[str, FileEntity] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    # Paths and versions that were read to their end: rows that raw holds already are not stored.
    _read: set[tuple[str, str]] = field(default_factory=set, compare=False, repr=False)

    @property
    def kind(self) -> str:
        """See Connector."""
        return "parquet_files" if self.entity.extract.is_typed else "files"

    @property
    def columns(self) -> tuple[Column, ...]:
        """See Connector."""
        return self.entity.captured_columns()

    def plan(self, partitions: Sequence[date], state: CaptureState, run: CaptureRun) -> CapturePlan:
        """See Connector. Waits up to 15 s for a file that may still be being written."""
        listing = self._settled_listing(partitions, run)
        if error := self._never_a_file(listing, state):
            return CapturePlan((), failed=dict.fromkeys(sorted(set(partitions)), error))
        arrivals = self._arrivals(listing, state.captured)
        plan = self._planned(arrivals, partitions, state, run)
        if arrivals.checksums:
            new = [read.locator for unit in plan.units for read in unit.objects]
            arrivals = arrivals.without(different_files(self._files, new, arrivals.checksums))
            plan = self._planned(arrivals, partitions, state, run)
        remark = unclaimed_text(self._near_misses(listing))
        return replace(plan, remarks=(remark,) if remark else ())

    def read(
        self,
        source_object: SourceObject,
        partition: date | None = None,
        columns: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See Connector."""
        entity, file = self.entity, source_object.locator
        if columns is not None:
            entity = _with_columns(entity, columns)
        # In a partition of several days, the file's own day decides which columns it may lack.
        day = next(iter(days_of_file(entity.extract, file.path)), partition)
        read = reader_of(entity)
        with self._files.open(file) as stream:
            yield from read(stream, file.path, entity, day=day)
        if columns is None:
            self._read.add((file.path, file.version))

    def state_after(
        self,
        plan: CapturePlan,
        state: CaptureState,
        failed: Collection[date],  # noqa: ARG002  # the versions in raw say what was captured
    ) -> Mapping[str, str]:
        """The `_delivery_order` of the last file read, as information: no plan depends on it."""
        read = [o.order for unit in plan.units for o in unit.objects]
        last = max([state.stored.get(LAST_DELIVERY, ""), *read])
        return {LAST_DELIVERY: last} if last else {}

    def pending_partitions(
        self,
        state: CaptureState,  # noqa: ARG002
        run: CaptureRun,  # noqa: ARG002
    ) -> Mapping[date, str]:
        """None: the sensor of the landing zone watches files (`sensors.landing`)."""
        return {}

    def after_commit(
        self,
        captured_of: Callable[[Sequence[date]], Captured],
        failed: Collection[date],
        run: CaptureRun,
    ) -> Sequence[str]:
        """Move the files whose rows raw holds to the archive folder, if there is one."""
        extract, grain = self.entity.extract, self.entity.grain
        if extract.archive_to is None:
            return ()
        listing = self._list([])
        arrived = self._arrivals(listing, {}).files
        own = [file for file in arrived if is_file_of(extract, file.path)]
        days = {f.path: [grain.start_of(d) for d in days_of_file(extract, f.path)] for f in own}
        captured = captured_of(sorted({day for some in days.values() for day in some}))

        def is_captured(file: StoredFile) -> bool:
            partitions = days[file.path] or [
                day_of_version(self.entity, file, captured, run.partitions)
            ]
            if (file.path, file.version) in self._read:
                return not {*partitions} & {*failed}
            held = [v for day in partitions for v in captured.get(day, ())]
            return is_captured_as(file, self.entity, held, run.partitions)

        others = [one.extract for one in self.entities.values() if one is not self.entity]
        moves = plan_moves(extract, arrived, is_captured, others)
        for file in (*moves.files, *markers_of(extract, moves.files, listing)):
            move_to_archive(self._files, file, extract.archive_to)
        moved = [f"{len(moves.files)} files moved to {extract.archive_to}"] if moves.files else []
        kept = [f"{path} stays: another entity reads it, too" for path in moves.shared]
        return [*moved, *kept]

    def sparse_partitions(self, state: CaptureState, run: CaptureRun) -> set[date]:
        """The days of the files as they are now; without any file, the first partition."""
        exist = run.partitions
        try:
            files = self._arrivals(self._list([exist.start]), state.captured).files
        except HeadraceError:
            return {exist.start}  # The plan lists the files again and reports the error.
        own = [file for file in latest_deliveries(files) if _is_claimed(self.entity, file)]
        found = {day_of_version(self.entity, file, state.captured, exist) for file in own}
        return found if found or any(state.captured.values()) else {exist.start}

    def object_of(
        self, file: StoredFile, captured: Captured, exist: PartitionSettings
    ) -> SourceObject:
        """A listed file as an object of this entity; `exist` are the partitions that exist."""
        return source_object(file, self.entity, exist, captured)

    def _list(self, partitions: Sequence[date]) -> tuple[StoredFile, ...]:
        extract, grain = self.entity.extract, self.entity.grain
        named = (extract, *arrival_extracts(extract))
        prefixes = (listing_prefix(one, partitions, grain).rpartition("/")[0] for one in named)
        found: dict[str, StoredFile] = {}
        above: list[str] = []
        for folder in sorted({f"{prefix}/" if prefix else "" for prefix in prefixes}):
            if not any(folder.startswith(other) for other in above):
                above.append(folder)
                found |= {file.path: file for file in self._files.list_files(folder)}
        return tuple(found[path] for path in sorted(found))

    def _planned(
        self,
        arrivals: Arrivals,
        partitions: Sequence[date],
        state: CaptureState,
        run: CaptureRun,
    ) -> CapturePlan:
        entity, captured = self.entity, state.captured
        plan = plan_files(entity, arrivals.files, captured, partitions, run, self.settle_seconds)
        return with_waiting(plan, entity, arrivals, captured, partitions)

    def _arrivals(self, listing: Sequence[StoredFile], captured: Captured) -> Arrivals:
        held = {version.object_id for versions in captured.values() for version in versions}
        return arrivals_of(self.entity.extract, listing, self._files, held)

    @property
    def _files(self) -> Landing:
        """The landing zone with the members of the entity's archives."""
        return with_archives(self.landing, [self.entity.extract])

    def _settled_listing(
        self, partitions: Sequence[date], run: CaptureRun
    ) -> tuple[StoredFile, ...]:
        """The listing, repeated after a short wait if the newest file may be unfinished.

        A run that starts right after a delivery should not fail. Where `settle_seconds` exceeds
        `_LONGEST_WAIT_SECONDS` there is no wait: the partition fails, and is retried.
        """
        extract, grain = self.entity.extract, self.entity.grain
        listing = self._list(partitions)
        by_day = files_by_partition(extract, listing, partitions, grain)
        files = [file for files in by_day.values() for file in files]
        files += [file for file in listing if file.path.endswith("!/")]
        ages = [(run.captured_at - file.arrived_at).total_seconds() for file in files]
        wait = self.settle_seconds - min(ages, default=self.settle_seconds)
        if not 0 < wait <= self.settle_seconds <= _LONGEST_WAIT_SECONDS:
            return listing
        time.sleep(wait)
        before = {file.path: file.version for file in listing}
        # A file that did not change during the wait is settled, even if the clocks differ.
        return tuple(
            replace(file, changed_at=_LONG_AGO) if before.get(file.path) == file.version else file
            for file in self._list(partitions)
        )

    def _never_a_file(
        self, listing: Sequence[StoredFile], state: CaptureState
    ) -> NoFilesError | None:
        """The error of an entity whose `path` matches no file and matched none before."""
        entity = self.entity
        if not state.is_empty or entity.extract.optional:
            return None
        if any(_is_claimed(entity, file) for file in listing):
            return None
        everything = self._files.list_files()
        if any(_is_claimed(entity, file) for file in everything):
            return None
        unclaimed = unclaimed_files(self.entities or {entity.name: entity}, everything, self.ignore)
        # Files that are most similar to this entity's path first.
        near = sorted(unclaimed, key=lambda file: file.pattern != entity.extract.path)
        found = unclaimed_text(near) or f"{len(everything)} files are there, all of other entities"
        return NoFilesError(
            f"no file matches the path of {entity.name}, {entity.extract.path}; {found}",
            fix="correct `path`, deliver the files, or declare `optional: true` if there may be "
            "none",
        )

    def _near_misses(self, listing: Sequence[StoredFile]) -> tuple[UnclaimedFile, ...]:
        """Unclaimed files whose most similar pattern is this entity's."""
        found = unclaimed_files(self.entities, listing, self.ignore) if self.entities else ()
        return tuple(file for file in found if file.pattern == self.entity.extract.path)


def _is_claimed(entity: FileEntity, file: StoredFile) -> bool:
    """Whether it is a file of the entity, or an archive of it that cannot be listed."""
    archive = file.path.removesuffix("!/")
    return is_file_of(entity.extract, file.path) or (
        archive != file.path and is_archive_of(entity.extract, archive)
    )


def _with_columns(entity: FileEntity, names: Collection[str]) -> FileEntity:
    extract = entity.extract.model_copy(update={"extra_columns": "ignore"})
    columns = tuple(column for column in entity.columns if column.name in names)
    return entity.model_copy(update={"columns": columns, "extract": extract})
