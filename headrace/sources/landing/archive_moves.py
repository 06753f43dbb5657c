"""Moves of captured files to an archive folder: what is moved, and where to."""

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from headrace.config.sources.file_extract import FileExtract
from headrace.errors import SourceRejectedError
from headrace.sources.files.path_patterns import is_file_of
from headrace.sources.files.plan import latest_deliveries
from headrace.sources.landing.arrival import marker_of
from headrace.sources.landing.landing_zone import Landing, StoredFile
from headrace.sources.landing.zip_landing import delivered_file

# Names that are tried for a file whose path was archived before.
_NAMES = 100


@dataclass(frozen=True)
class ArchiveMoves:
    """The result of `plan_moves`.

    Attributes:
        files: What is moved, in this order.
        shared: Files that another entity reads, too, and that stay for it.
    """

    files: tuple[StoredFile, ...]
    shared: tuple[str, ...] = ()


def plan_moves(
    extract: FileExtract,
    listing: Sequence[StoredFile],
    is_captured: Callable[[StoredFile], bool],
    others: Iterable[FileExtract] = (),
) -> ArchiveMoves:
    """Choose the files whose rows raw holds. Pure.

    Earlier deliveries of a file that lie beside it move before it: alone, one of them would be the
    latest, and replace newer rows.

    Args:
        extract: The entity's.
        listing: Files of the landing zone that have arrived.
        is_captured: Whether raw holds exactly this version.
        others: Extracts of the other entities of the landing zone.
    """
    own = [file for file in listing if is_file_of(extract, file.path)]
    latest = {*latest_deliveries(own)}
    members: dict[str, list[StoredFile]] = {}
    for file in own:
        members.setdefault(delivered_file(file).path, []).append(file)
    waits = {file.logical_path for file in latest if not is_captured(file)}
    rest = [*others]
    earlier: list[StoredFile] = []
    captured: list[StoredFile] = []
    shared: list[str] = []
    for path, files in members.items():
        if any(file.logical_path in waits for file in files):
            continue
        if any(is_file_of(other, file.path) for other in rest for file in files):
            shared.append(path)
        else:
            (captured if {*files} & latest else earlier).append(delivered_file(files[0]))
    return ArchiveMoves((*earlier, *captured), tuple(sorted(shared)))


def move_to_archive(landing: Landing, file: StoredFile, folder: str) -> str:
    """Move exactly this version to a folder; returns where it is.

    A path that was archived before gets the modification time of the file before its extension.

    Raises:
        SourceUnavailableError: The file changed, or the landing zone does not answer.
        SourceRejectedError: We lack the right to move it.
    """
    for number in range(_NAMES):
        target = archived_path(file, folder, number)
        if landing.move(file, target):
            return target
    raise SourceRejectedError(
        f"{file.path} was archived {_NAMES} times in {folder} with one modification time",
        fix="move files out of the archive folder",
    )


def archived_path(file: StoredFile, folder: str, number: int = 0) -> str:
    """The path of a file in an archive folder; `number` counts the names that are taken."""
    if not number:
        return f"{folder}/{file.path}"
    stem, extension = posixpath.splitext(file.path)
    again = f"-{number}" if number > 1 else ""
    return f"{folder}/{stem}.{file.modified_at:%Y%m%dT%H%M%S%f}{again}{extension}"


def markers_of(
    extract: FileExtract, files: Iterable[StoredFile], listing: Iterable[StoredFile]
) -> tuple[StoredFile, ...]:
    """The markers of files that belong to one of them alone."""
    paths = {marker_of(extract, file) for file in files}
    return tuple(file for file in listing if file.path in paths)
