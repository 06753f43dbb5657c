"""Manifest of what was captured: names and footers of data files, and a record in the snapshot.

The names alone identify what raw holds, so that no file has to be read.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from headrace.errors import StagedFileRejectedError
from headrace.sources.base import CapturedVersion, current_versions, short_id

CAPTURE_RECORD = "headrace.capture"
MAX_RECORD_BYTES = 4096

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_KEY = "headrace."
_TIME = "%Y%m%dT%H%M%S%f"
_NAME = re.compile(
    r"(?P<captured_at>\d{8}T\d{12})_(?P<object_id>[0-9a-f]{16})_(?P<content_id>[0-9a-f]{16})"
    r"_(?P<read_id>[0-9a-f]{16})(?:_(?P<modified_at>\d{8}T\d{12}))?_(?P<rows>\d+)\.parquet"
)


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


File = TypeVar("File", bound=_HasPath)


def file_name(version: CapturedVersion) -> str:
    """Name of the data file of a version; names sort by the time of capture."""
    ids = f"{version.object_id}_{version.content_id}_{version.read_id}"
    written = "" if version.modified_at is None else f"_{version.modified_at:{_TIME}}"
    return f"{version.captured_at:{_TIME}}_{ids}{written}_{version.rows}.parquet"


def parse_name(path: str) -> CapturedVersion:
    """The version that the data file at `path` (path or URI) holds.

    Raises:
        StagedFileRejectedError: Something other than capture wrote or renamed the file.
    """
    match = _NAME.fullmatch(path.rpartition("/")[2])
    if match is None:
        raise StagedFileRejectedError(
            f"{path} is in raw, but its name is not one that capture gives: another tool has "
            "compacted or renamed the table's files",
            fix="roll the table back to its last snapshot with the property headrace.capture; the "
            "footer of a file that was only renamed has the former name (headrace.file_name)",
        )
    written = match["modified_at"]
    return CapturedVersion(
        _time(match["captured_at"]),
        match["object_id"],
        match["content_id"],
        match["read_id"],
        int(match["rows"]),
        _time(written) if written else None,
    )


def footer_of(version: CapturedVersion, stamp: Mapping[str, str]) -> dict[str, str]:
    """What the Parquet footer of a data file records, as key-value metadata.

    Args:
        version: The version that the file holds.
        stamp: The lineage columns that have one value in the whole file.
    """
    return {
        f"{_KEY}file_name": file_name(version),
        f"{_KEY}content_id": version.content_id,
        f"{_KEY}read_id": version.read_id,
        f"{_KEY}rows": str(version.rows),
        **{_KEY + name.removeprefix("_"): value for name, value in stamp.items()},
    }


def version_in_footer(metadata: Mapping[bytes, bytes]) -> CapturedVersion | None:
    """The version that a footer's key-value metadata records; None: capture did not write it."""
    name = metadata.get(f"{_KEY}file_name".encode())
    return parse_name(name.decode()) if name else None


@dataclass(frozen=True)
class CaptureRecord:
    """What one capture committed; stored in the snapshot's properties (`headrace.capture`).

    Its size does not depend on how many partitions or objects the commit has.

    Attributes:
        connector: The connector's kind.
        batch_id: `_batch_id` of its rows.
        captured_at: When it began, ISO 8601, UTC.
        partitions: How many partitions got data files.
        files: How many data files.
        rows: Their rows.
        state: The connector's own state (`Connector.state_after`).
    """

    connector: str
    batch_id: str
    captured_at: str
    partitions: int
    files: int
    rows: int
    state: Mapping[str, str]

    def dump(self) -> str:
        """As JSON."""
        text = json.dumps(asdict(self), separators=(",", ":"))
        if len(text) > MAX_RECORD_BYTES:
            raise ValueError(f"the record of a capture has {len(text)} of {MAX_RECORD_BYTES} bytes")
        return text

    @classmethod
    def load(cls, text: str | None) -> "CaptureRecord | None":
        """From JSON; None without one, and of one that another release wrote."""
        try:
            return cls(**json.loads(text)) if text else None
        except (ValueError, TypeError):
            return None


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def captured_versions(files: Iterable[_HasPath]) -> tuple[CapturedVersion, ...]:
    """The versions that raw's files of one day hold.

    Raises:
        StagedFileRejectedError: A file was not written by capture.
    """
    return tuple(parse_name(file.path) for file in files)


def current_files(files: Sequence[File]) -> tuple[File, ...]:
    """The files of one day whose rows count: the latest version of each object, if it has rows.

    Raises:
        StagedFileRejectedError: A file was not written by capture.
    """
    parsed = [(file, parse_name(file.path)) for file in files]
    current = current_versions(version for _, version in parsed)
    return tuple(
        f for f, version in parsed if current[version.object_id] == version and version.rows
    )


def captured_content(files: Iterable[_HasPath]) -> str:
    """Identifies the rows of one day that count, however often and whenever they were captured.

    It depends on the order of modification times, which decides which of several rows of a key
    counts.

    Args:
        files: Raw's files of the day, from `current_files` or all of them.

    Raises:
        StagedFileRejectedError: A file was not written by capture.
    """
    current = current_versions(captured_versions(files)).values()
    ordered = sorted(current, key=lambda v: (v.modified_at or _LONG_AGO, v.object_id))
    return short_id(*(f"{v.object_id} {v.content_id}" for v in ordered if v.rows))
