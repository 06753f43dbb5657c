"""Finds the days of files whose names have none, for the sensor of the landing zone."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import structlog

from headrace.config.loader import Project
from headrace.config.sources.file_source import FileEntity
from headrace.errors import SourceUnavailableError
from headrace.raw.manifest import captured_versions
from headrace.raw.units import partitions_of_rows, partitions_with_object
from headrace.sources.base import Captured
from headrace.sources.files.connector import FilesConnector
from headrace.sources.files.path_patterns import is_file_of
from headrace.sources.files.plan import day_of_version
from headrace.sources.landing.landing_zone import Landing, StoredFile
from platform_assets.keys import RAW, table_of
from resources.lake import LakeResource

log = structlog.get_logger(__name__)

# Dagster ends a tick after 60 s. Reading a file of this size takes about two seconds. A larger file
# is not read: all days are requested, and the capture finds those that changed.
_READ_BYTES = 64 * 2**20
_TICK_SECONDS = 20


@dataclass(frozen=True)
class UndatedFiles:
    """Finds the days of files without a day in their names, by their rows or modification time.

    Attributes:
        project: The configuration.
        entities: The entities of the landing zone, by `source.entity`.
        landing: The landing zone.
        lake: The lake, whose raw tables say what was captured of them before.
        known: The days that exist.
    """

    project: Project
    entities: Mapping[str, FileEntity]
    landing: Landing
    lake: LakeResource
    known: Sequence[date]

    def days(self, files: Iterable[StoredFile]) -> Mapping[StoredFile, frozenset[date]]:
        """The days of those of the `files` whose names have none.

        They include days on which the file had rows and has none now. A file that is not in the
        result waits for a later tick: it is still being written, or this tick has no time left.
        """
        found: dict[StoredFile, frozenset[date]] = {}
        ends_at = time.monotonic() + _TICK_SECONDS
        captured = cache(self._captured)
        for file in files:
            entities = self._entities_of(file)
            if entities and time.monotonic() < ends_at:
                try:
                    days = [self._days_of(n, e, file, captured) for n, e in entities.items()]
                except SourceUnavailableError:
                    continue
                found[file] = frozenset().union(*days)
        return found

    def _entities_of(self, file: StoredFile) -> dict[str, FileEntity]:
        return {
            name: entity
            for name, entity in self.entities.items()
            if entity.extract.day_of_object != "name" and is_file_of(entity.extract, file.path)
        }

    def _days_of(
        self, name: str, entity: FileEntity, file: StoredFile, captured: Callable[[str], Captured]
    ) -> frozenset[date]:
        partitions, grain = self.project.settings.partitions, entity.grain
        if not grain.has_periods:
            # Every run builds an asset without periods.
            return frozenset(self.known[-1:])
        if entity.extract.day_of_object == "time":
            return frozenset([day_of_version(entity, file, captured(name), partitions)])
        connector = FilesConnector(entity, self.landing)
        read = connector.object_of(file, captured(name), partitions)
        before = partitions_with_object(captured(name), read.object_id)
        if file.size_bytes > _READ_BYTES:
            return before | frozenset(self.known)
        try:
            found = before | partitions_of_rows(connector, read, entity, partitions)
            # A period may begin before the first day that exists.
            return frozenset(max(day, partitions.start) for day in found)
        except SourceUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001  # one bad file must not stop the others
            log.warning("file_unreadable", file=file.path, error=type(error).__name__)
            # A day is requested all the same: its run reports the error.
            return before | {partitions.start}

    def _captured(self, name: str) -> Captured:
        table = self.lake.table(RAW, table_of(name))
        files_by_day = table.scan(self.known).files_by_day if table.exists() else {}
        return {day: captured_versions(files) for day, files in files_by_day.items()}
