"""Files whose names say no day: which days their rows ask for."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import structlog

from headrace.config.loader import Project
from headrace.config.sources import EntityConfig
from headrace.errors import SourceUnavailableError
from headrace.raw.manifest import captured_versions
from headrace.raw.units import partitions_held, partitions_of_rows
from headrace.sources.base import Captured
from headrace.sources.files.connector import FilesConnector
from headrace.sources.files.landing import Landing, StoredFile
from headrace.sources.files.path_patterns import is_file_of
from headrace.sources.files.plan import day_of_version
from platform_assets.keys import RAW, table_of
from resources.lake import LakeResource

log = structlog.get_logger(__name__)

# Dagster ends a tick after 60 s. A file of this size takes about two; a larger one is not read
# but asks for all days, which raw then tells apart by itself.
_READ_BYTES = 64 * 2**20
_TICK_SECONDS = 20


@dataclass(frozen=True)
class UndatedFiles:
    """Finds the days of files that have none in their names: by their rows, or their own time.

    Attributes:
        project: Whose entities they belong to.
        landing: Where they lie.
        lake: Whose raw tables say what was captured of them before.
        known: The days that exist.
    """

    project: Project
    landing: Landing
    lake: LakeResource
    known: Sequence[date]

    def days(self, files: Iterable[StoredFile]) -> Mapping[StoredFile, frozenset[date]]:
        """The days of those of `files` whose names say none, the days that they leave included.

        A file that is left out has to wait for a later tick: the budget is spent, or it is still
        being written.
        """
        found: dict[StoredFile, frozenset[date]] = {}
        ends_at = time.monotonic() + _TICK_SECONDS
        captured = cache(self._captured)
        for file in files:
            entities = self._entities_of(file)
            if entities and time.monotonic() < ends_at:
                try:
                    asked = [self._asked(n, e, file, captured) for n, e in entities.items()]
                except SourceUnavailableError:
                    continue
                found[file] = frozenset().union(*asked)
        return found

    def _entities_of(self, file: StoredFile) -> dict[str, EntityConfig]:
        return {
            name: entity
            for name, (_, entity) in self.project.entities().items()
            if entity.extract.day_of_file != "name" and is_file_of(entity.extract, file.path)
        }

    def _asked(
        self, name: str, entity: EntityConfig, file: StoredFile, captured: Callable[[str], Captured]
    ) -> frozenset[date]:
        partitions, grain = self.project.settings.partitions, entity.grain
        if not grain.has_periods:
            # Any run builds what has no periods.
            return frozenset(self.known[-1:])
        if entity.extract.day_of_file == "time":
            return frozenset([day_of_version(entity, file, captured(name), partitions)])
        connector = FilesConnector(entity, self.landing)
        read = connector.object_of(file, captured(name), partitions)
        before = partitions_held(captured(name), read.object_id)
        if file.size_bytes > _READ_BYTES:
            return before | frozenset(self.known)
        try:
            found = before | partitions_of_rows(connector, read, entity, partitions)
            # The day on which a period begins may lie before the first that exists.
            return frozenset(max(day, partitions.start) for day in found)
        except SourceUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, other files are not to blame
            log.warning("file_unreadable", file=file.path, error=type(error).__name__)
            # It asks for a day all the same, whose run says what is wrong with it.
            return before | {partitions.start}

    def _captured(self, name: str) -> Captured:
        table = self.lake.table(RAW, table_of(name))
        files_by_day = table.scan(self.known).files_by_day if table.exists() else {}
        return {day: captured_versions(files) for day, files in files_by_day.items()}
