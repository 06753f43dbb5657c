"""Files that no entity claims, or that are of no day, and what they may have been meant for."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import SequenceMatcher
from fnmatch import fnmatchcase

from headrace.config.settings import PartitionSettings
from headrace.config.sources import EntityConfig
from headrace.sources.files.landing import StoredFile
from headrace.sources.files.path_patterns import days_of_file, is_file_of

# Less than this in common, and a pattern is no suggestion.
_NEAR = 0.6
_NAMED = 5
_ANY_DAY = date(2017, 11, 23)


@dataclass(frozen=True)
class UnclaimedFile:
    """A file of the landing zone that no entity's `path` matches.

    Attributes:
        path: Its path there.
        entity: The entity whose pattern is the nearest; None if none is near.
        pattern: That pattern.
    """

    path: str
    entity: str | None = None
    pattern: str | None = None

    def __str__(self) -> str:
        """The path, and the pattern that it nearly matches."""
        near = f" (nearest: {self.entity}, {self.pattern})" if self.entity else ""
        return f"{self.path}{near}"


def unclaimed_files(
    entities: Mapping[str, EntityConfig], listing: Iterable[StoredFile], ignore: Sequence[str] = ()
) -> tuple[UnclaimedFile, ...]:
    """The listed files that no entity claims, by path.

    Args:
        entities: All of the project, by `source.entity`.
        listing: What lies in the landing zone.
        ignore: Shell patterns of paths that nobody has to claim; `*` stands for `/` too.
    """
    extracts = [entity.extract for entity in entities.values()]
    lost = (
        file.path
        for file in listing
        if not any(is_file_of(extract, file.path) for extract in extracts)
        and not any(fnmatchcase(file.path, pattern) for pattern in ignore)
        and not file.path.endswith("/")
    )
    return tuple(_with_nearest(path, entities) for path in sorted(lost))


def unclaimed_text(found: Sequence[UnclaimedFile]) -> str:
    """One line that names the first of them; empty without any."""
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    are = (
        "1 file in the landing zone is"
        if len(found) == 1
        else (f"{len(found)} files in the landing zone are")
    )
    return f"{are} no entity's: {'; '.join(map(str, found[:_NAMED]))}{more}"


def outside_text(
    entities: Mapping[str, EntityConfig],
    listing: Iterable[StoredFile],
    partitions: PartitionSettings,
    today: date,
) -> str:
    """One line that names files of days that do not exist, such as of a mistyped year.

    Args:
        entities: All of the project, by `source.entity`.
        listing: What lies in the landing zone.
        partitions: The days that exist.
        today: Where the days have no end, a file may be of this day, and of the next in the east.
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


def _with_nearest(path: str, entities: Mapping[str, EntityConfig]) -> UnclaimedFile:
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
    """What makes paths alike: neither case nor which numbers they have."""
    return re.sub(r"\d+", "0", path.lower()).replace("*", "")
