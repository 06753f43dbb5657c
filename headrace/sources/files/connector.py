"""The connector for files in a landing zone."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import pyarrow as pa

from headrace.config.file_source import FileEntity
from headrace.config.loader import Project
from headrace.config.settings import PartitionSettings
from headrace.errors import HeadraceError, NoFilesError
from headrace.schema import Column
from headrace.sources.base import (
    Captured,
    CapturePlan,
    CaptureRun,
    CaptureState,
    SourceObject,
)
from headrace.sources.files.csv_reader import read_csv
from headrace.sources.files.excel_reader import read_excel
from headrace.sources.files.fixed_width_reader import read_fixed_width
from headrace.sources.files.json_reader import read_json
from headrace.sources.files.landing import Landing, StoredFile
from headrace.sources.files.parquet_reader import read_parquet
from headrace.sources.files.path_patterns import (
    days_of_file,
    files_by_partition,
    is_file_of,
    listing_prefix,
)
from headrace.sources.files.plan import (
    day_of_version,
    latest_deliveries,
    plan_files,
    source_object,
)
from headrace.sources.files.unclaimed import UnclaimedFile, unclaimed_files, unclaimed_text

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
    """The connector of the entity `name` (`source.entity`) of a project."""
    entities = project.file_entities()
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
        plan = plan_files(
            self.entity, listing, state.captured, partitions, run, self.settle_seconds
        )
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
        with self.landing.open(file) as stream:
            yield from read(stream, file.path, entity, day=day)

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

    def sparse_partitions(self, state: CaptureState, run: CaptureRun) -> set[date]:
        """The days of the files as they are now; without any file, the first partition."""
        exist = run.partitions
        try:
            files = self._list([exist.start])
        except HeadraceError:
            return {exist.start}  # The plan lists the files again and reports the error.
        own = [f for f in latest_deliveries(files) if is_file_of(self.entity.extract, f.path)]
        found = {day_of_version(self.entity, file, state.captured, exist) for file in own}
        return found if found or any(state.captured.values()) else {exist.start}

    def object_of(
        self, file: StoredFile, captured: Captured, exist: PartitionSettings
    ) -> SourceObject:
        """A listed file as an object of this entity; `exist` are the partitions that exist."""
        return source_object(file, self.entity, exist, captured)

    def _list(self, partitions: Sequence[date]) -> tuple[StoredFile, ...]:
        prefix = listing_prefix(self.entity.extract, partitions, self.entity.grain)
        folder = prefix.rpartition("/")[0]
        return self.landing.list_files(f"{folder}/" if folder else "")

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
        ages = [
            (run.captured_at - file.arrived_at).total_seconds()
            for files in by_day.values()
            for file in files
        ]
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
        if any(is_file_of(entity.extract, file.path) for file in listing):
            return None
        everything = self.landing.list_files()
        if any(is_file_of(entity.extract, file.path) for file in everything):
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


def _with_columns(entity: FileEntity, names: Collection[str]) -> FileEntity:
    extract = entity.extract.model_copy(update={"extra_columns": "ignore"})
    columns = tuple(column for column in entity.columns if column.name in names)
    return entity.model_copy(update={"columns": columns, "extract": extract})
