"""Captured versions: what the name of a raw data file records.

The table's own list of files is the only record of what was captured; so the names tell it.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from headrace.errors import StagedFileRejectedError

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_TIME = "%Y%m%dT%H%M%S%f"
_NAME = re.compile(
    r"(?P<captured_at>\d{8}T\d{12})_(?P<path_id>[0-9a-f]{16})_(?P<content_id>[0-9a-f]{16})"
    r"_(?P<listing_id>[0-9a-f]{16})(?:_(?P<modified_at>\d{8}T\d{12}))?_(?P<rows>\d+)\.parquet"
)


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


File = TypeVar("File", bound=_HasPath)


@dataclass(frozen=True)
class CapturedVersion:
    """One landing file as it was at one capture, restricted to one day.

    Attributes:
        captured_at: When it was read, UTC; later versions of a path have later times.
        path_id: Stands for the landing path; see `path_id`.
        content_id: Stands for the rows, in their order: equal for equal deliveries, whatever
            their compression or line ends.
        listing_id: Stands for the file as listed (version and size) and for how it was read
            (columns and format): while it is the same, reading again cannot bring anything new.
        rows: Rows of the day. 0 marks a version without any that follows one that had some: its
            data file then holds one marker row, `_source_position` 0.
        modified_at: When the file was written, UTC, as in `_delivery_order`; None of a version
            that was captured before this was kept.
    """

    captured_at: datetime
    path_id: str
    content_id: str
    listing_id: str
    rows: int
    modified_at: datetime | None = None

    @property
    def file_name(self) -> str:
        """Name of its data file; sorts by time."""
        ids = f"{self.path_id}_{self.content_id}_{self.listing_id}"
        written = "" if self.modified_at is None else f"_{self.modified_at:{_TIME}}"
        return f"{self.captured_at:{_TIME}}_{ids}{written}_{self.rows}.parquet"

    @classmethod
    def parse(cls, path: str) -> "CapturedVersion":
        """The version that the data file at `path` (path or URI) holds.

        Raises:
            StagedFileRejectedError: Something other than capture wrote the file.
        """
        match = _NAME.fullmatch(path.rpartition("/")[2])
        if match is None:
            raise StagedFileRejectedError(
                f"{path} is in raw, but its name is not one that capture gives",
                fix="restore raw's files: it is written by capture alone and never compacted",
            )
        written = match["modified_at"]
        return cls(
            _time(match["captured_at"]),
            match["path_id"],
            match["content_id"],
            match["listing_id"],
            int(match["rows"]),
            _time(written) if written else None,
        )


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def short_id(*parts: str) -> str:
    """16 hexadecimal digits that stand for some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def captured_versions(files: Iterable[_HasPath]) -> tuple[CapturedVersion, ...]:
    """The versions that raw's files of one day hold.

    Raises:
        StagedFileRejectedError: A file was not written by capture.
    """
    return tuple(CapturedVersion.parse(file.path) for file in files)


def current_versions(versions: Iterable[CapturedVersion]) -> dict[str, CapturedVersion]:
    """By `path_id`, the latest version of each landing file of one day."""
    return {v.path_id: v for v in sorted(versions, key=lambda v: (v.captured_at, v.content_id))}


def current_files(files: Sequence[File]) -> tuple[File, ...]:
    """Those of raw's files of one day whose rows count: of each landing file the latest version.

    A version without rows stands for nothing to read, and is left out.

    Raises:
        StagedFileRejectedError: A file was not written by capture.
    """
    parsed = [(file, CapturedVersion.parse(file.path)) for file in files]
    current = current_versions(version for _, version in parsed)
    return tuple(f for f, version in parsed if current[version.path_id] == version and version.rows)


def captured_content(files: Iterable[_HasPath]) -> str:
    """Stands for the rows of one day that count: equal however often and when they were captured.

    The order of the files' own times is part of it: it says which of rows with one key counts.

    Args:
        files: Raw's files of the day, from `current_files` or all of them.

    Raises:
        StagedFileRejectedError: A file was not written by capture.
    """
    current = current_versions(captured_versions(files)).values()
    ordered = sorted(current, key=lambda v: (v.modified_at or _LONG_AGO, v.path_id))
    return short_id(*(f"{v.path_id} {v.content_id}" for v in ordered if v.rows))
