"""Manifests of deliveries: the files that a source says it has delivered."""

import csv
import hashlib
import io
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.config.sources.file_arrival import ManifestArrival
from headrace.config.sources.file_formats import member_path
from headrace.errors import SourceRejectedError
from headrace.sources.files.text.decoding import read_chunks
from headrace.sources.landing.landing_zone import Landing, StoredFile

_MOST_BYTES = 16 * 2**20
_CHECKSUM_LINE = re.compile(r"(?P<sum>[0-9A-Fa-f]+) [ *](?P<name>.+)")
# By the number of hexadecimal digits.
_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256"}


@dataclass(frozen=True)
class ListedFile:
    """One file of a manifest.

    Attributes:
        path: Its path in the landing zone.
        size_bytes: Its size; None if the manifest does not say.
        checksum: Hexadecimal digits, in lower case; None if the manifest does not say.
    """

    path: str
    size_bytes: int | None = None
    checksum: str | None = None


def read_manifest(
    landing: Landing, file: StoredFile, form: ManifestArrival
) -> tuple[ListedFile, ...]:
    """The files that a manifest lists.

    Raises:
        SourceRejectedError: It is not as declared.
        SourceUnavailableError: It changed, or the connection was lost.
    """
    content = bytearray()
    with landing.open(file) as stream:
        for chunk in read_chunks(stream):
            content += chunk
            if len(content) > _MOST_BYTES:
                raise _bad(file, f"has more than {_MOST_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _bad(file, "is no text in utf-8") from None
    entries = _ENTRIES[form.format](text, file, form)
    return tuple(_listed(file, entry, form.name) for entry in entries)


def checksum_of(landing: Landing, file: StoredFile, like: str) -> str:
    """The checksum of a file's bytes, by the algorithm of another."""
    digest = hashlib.new(_ALGORITHMS[len(like)], usedforsecurity=False)
    with landing.open(file) as stream:
        for chunk in read_chunks(stream):
            digest.update(chunk)
    return digest.hexdigest()


# Position in the manifest, name, size, checksum.
_Entry = tuple[str, Any, Any, Any]


def _lines(text: str, file: StoredFile, form: ManifestArrival) -> Iterator[_Entry]:  # noqa: ARG001
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            yield f"line {number}", line.strip(), None, None


def _checksums(text: str, file: StoredFile, form: ManifestArrival) -> Iterator[_Entry]:  # noqa: ARG001
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        found = _CHECKSUM_LINE.fullmatch(line.rstrip())
        if found is None:
            raise _bad(file, f"line {number} is no checksum, blank, and name")
        yield f"line {number}", found["name"], None, found["sum"]


def _csv(text: str, file: StoredFile, form: ManifestArrival) -> Iterator[_Entry]:
    rows = csv.DictReader(io.StringIO(text))
    if form.name not in (rows.fieldnames or ()):
        raise _bad(file, f"its header has no column '{form.name}'")
    for row in rows:
        where = f"line {rows.line_num}"
        yield where, row[form.name], row.get(form.size) or None, row.get(form.checksum) or None


def _json(text: str, file: StoredFile, form: ManifestArrival) -> Iterator[_Entry]:
    try:
        found = json.loads(text)
        for step in member_path(form.records):
            found = found[step]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _bad(file, f"is no JSON with an array at {form.records}") from None
    if not isinstance(found, list):
        raise _bad(file, f"has no array at {form.records}")
    for number, entry in enumerate(found, start=1):
        if isinstance(entry, Mapping):
            yield (
                f"entry {number}",
                entry.get(form.name),
                entry.get(form.size),
                entry.get(form.checksum),
            )
        else:
            yield f"entry {number}", entry, None, None


_ENTRIES = {"lines": _lines, "checksums": _checksums, "csv": _csv, "json": _json}


def _listed(file: StoredFile, entry: _Entry, member: str) -> ListedFile:
    where, name, size, checksum = entry
    if not isinstance(name, str) or not name:
        raise _bad(file, f"{where} has no name ('{member}')")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), name))
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise _bad(file, f"{where} names a file that is not below its folder")
    if size is not None and not (str(size).isascii() and str(size).strip().isdigit()):
        raise _bad(file, f"{where} has a size that is no number of bytes")
    digits = None if checksum is None else str(checksum).strip().lower()
    if digits is not None and not _is_checksum(digits):
        raise _bad(file, f"{where} has a checksum that is no MD5, SHA-1 or SHA-256")
    return ListedFile(path, None if size is None else int(size), digits)


def _is_checksum(digits: str) -> bool:
    return len(digits) in _ALGORITHMS and re.fullmatch(r"[0-9a-f]+", digits) is not None


def _bad(file: StoredFile, what: str) -> SourceRejectedError:
    return SourceRejectedError(
        f"the manifest {file.path} cannot be read: {what}",
        fix="deliver it as arrival declares, or correct arrival",
    )
