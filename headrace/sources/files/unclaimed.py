"""Files that match no entity's path or no existing day, and the entity they may be meant for."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import SequenceMatcher
from fnmatch import fnmatchcase

from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_source import FileEntity
from headrace.sources.files.path_patterns import days_of_file, is_archive_of, is_file_of
from headrace.sources.landing.arrival import is_arrival_file
from headrace.sources.landing.landing_zone import StoredFile

# Similarity below which a pattern is not suggested.
_NEAR = 0.6
_NAMED = 5
_ANY_DAY = date(2017, 11, 23)


@dataclass(frozen=True)
class UnclaimedFile:
    """A file of the landing zone that no entity's `path` matches.

    Attributes:
        path: Its path there.
        entity: The entity with the most similar pattern; None if none is similar enough.
        pattern: Its pattern.
    """

    path: str
    entity: str | None = None
    pattern: str | None = None

    def __str__(self) -> str:
        """The path, and the pattern that it nearly matches."""
        near = f" (nearest: {self.entity}, {self.pattern})" if self.entity else ""
        return f"{self.path}{near}"


def unclaimed_files(
    entities: Mapping[str, FileEntity], listing: Iterable[StoredFile], ignore: Sequence[str] = ()
) -> tuple[UnclaimedFile, ...]:
    """The listed files that match no entity's path, by path.

    Args:
        entities: All of the project, by `source.entity`.
        listing: Files of the landing zone.
        ignore: Shell patterns of paths to leave out; `*` matches `/`, too.
    """
    extracts = [entity.extract for entity in entities.values()]
    unclaimed = (
        file.path
        for file in listing
        if not any(
            is_file_of(extract, file.path)
            or is_archive_of(extract, file.path)
            or is_arrival_file(extract, file.path)
            or file.path.startswith(f"{extract.archive_to}/")
            for extract in extracts
        )
        and not any(fnmatchcase(file.path, pattern) for pattern in ignore)
        and not file.path.endswith("/")
    )
    return tuple(_with_nearest(path, entities) for path in sorted(unclaimed))


def unclaimed_text(found: Sequence[UnclaimedFile]) -> str:
    """One line with the first few files; empty without any."""
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    one = "1 file in the landing zone matches"
    match = one if len(found) == 1 else f"{len(found)} files in the landing zone match"
    return f"{match} no entity: {'; '.join(map(str, found[:_NAMED]))}{more}"


def outside_text(
    entities: Mapping[str, FileEntity],
    listing: Iterable[StoredFile],
    partitions: PartitionSettings,
    today: date,
) -> str:
    """One line with files of days that do not exist, such as of a mistyped year.

    Args:
        entities: All of the project, by `source.entity`.
        listing: Files of the landing zone.
        partitions: The days that exist.
        today: The current day in UTC. Where the days have no end, files of this day are valid, and
            of the next, which has begun in zones east of UTC.
    """
    end = partitions.end or today + timedelta(days=2)
    extracts = [entity.extract for entity in entities.values()]
    found = sorted(
        file.path
        for file in listing
        if (days := {day for extract in extracts for day in days_of_file(extract, file.path)})
        and not any(partitions.start <= day < end for day in days)
    )
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    are = "1 file is" if len(found) == 1 else f"{len(found)} files are"
    return f"{are} of days outside the partitions: {'; '.join(found[:_NAMED])}{more}"


def _with_nearest(path: str, entities: Mapping[str, FileEntity]) -> UnclaimedFile:
    shape = _shape(path)
    near = {
        name: SequenceMatcher(None, shape, _shape(entity.extract.path_of(_ANY_DAY))).ratio()
        for name, entity in entities.items()
    }
    nearest = max(near, key=lambda name: near[name], default=None)
    if nearest is None or near[nearest] < _NEAR:
        return UnclaimedFile(path)
    return UnclaimedFile(path, nearest, entities[nearest].extract.path)


def _shape(path: str) -> str:
    """A path for comparison, without case and with 0 for every number."""
    return re.sub(r"\d+", "0", path.lower()).replace("*", "")
