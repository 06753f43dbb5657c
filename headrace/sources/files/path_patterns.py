"""Maps files of the landing zone to partitions, by the `path` pattern of an entity."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import cache

from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_extract import FileExtract
from headrace.grain import Grain
from headrace.sources.landing.landing_zone import StoredFile

_PART = re.compile(r"\{date:(?P<date>[^{}]+)\}|(?P<any>\*)|(?P<text>[^{*]+|\{)")
_CODES = {"%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%j": r"\d{3}"}
_NAME_OR_NUMBER = r"\w+?"
# The end of an archive in the path of one of its members.
_MEMBERS = re.compile(r"(\.zip!)/?", re.IGNORECASE)


def listing_prefix(
    extract: FileExtract, partitions: Sequence[date], grain: Grain = Grain.DAY
) -> str:
    """The common prefix of the paths of all files of some partitions, for one listing.

    For one day it is often the whole path of its file, for a year the folder.
    """
    codes = {code for field in extract.date_fields for code in _codes(field)}
    if grain == Grain.NONE or not codes <= _CODES.keys():
        # Names of months match in any case, but S3's prefixes are case-sensitive.
        fixed = extract.path.partition("{date:")[0].partition("*")[0]
        return re.split(r"[^\x00-\x7f]", fixed, maxsplit=1)[0]
    days = (day for start in partitions for day in grain.days_of(start))
    starts = {extract.path_of(day).partition("*")[0] for day in days}
    # By characters, not by folders: digits of the month or year narrow S3's listing, too. Text
    # outside ASCII may be stored in another normalization form of Unicode.
    common = os.path.commonprefix(sorted(starts))  # noqa: RUF071
    return re.split(r"[^\x00-\x7f]", common, maxsplit=1)[0]


def files_by_partition(
    extract: FileExtract,
    listing: Iterable[StoredFile],
    partitions: Sequence[date],
    grain: Grain = Grain.DAY,
    existing: PartitionSettings | None = None,
) -> dict[date, tuple[StoredFile, ...]]:
    """The listed files of each partition, by path; empty for a partition without files.

    Without a date in the pattern, a file may hold rows of any day and belongs to all partitions. A
    path matches with `.gz` or `.zst` after it, too.

    Args:
        extract: The entity's pattern.
        listing: Files, other entities' among them.
        partitions: Their first days.
        grain: Of the entity.
        existing: The days that exist: a file of another day belongs to no partition.
    """
    found: dict[date, list[StoredFile]] = {start: [] for start in partitions}
    for file in sorted(listing, key=lambda file: file.path):
        match = _match(extract, file.path)
        if match and not extract.date_fields:
            for files in found.values():
                files.append(file)
        elif match and (day := _day_named(extract, match.groups())):
            start = grain.start_of(day)
            if start in found and (existing is None or _exists(extract, day, existing)):
                found[start].append(file)
    return {start: tuple(files) for start, files in found.items()}


def _exists(extract: FileExtract, day: date, existing: PartitionSettings) -> bool:
    """Whether a day of the period in a file's name exists; `day` is its first day."""
    last = Grain(extract.named_period or "day").end_of(day) - timedelta(days=1)
    return existing.start <= last and (existing.end is None or day < existing.end)


def days_of_file(extract: FileExtract, path: str) -> frozenset[date]:
    """The day in a path; empty if the path does not match, or the pattern has no date.

    An archive that cannot be listed (`a.zip!/`) has a day if the archive's own name says it.
    """
    match = _match(extract, path)
    archive = extract.archive_path
    if path.endswith("!/") and archive and _has_all_dates(extract, archive):
        match = _pattern_of(archive).fullmatch(_normal(path.removesuffix("!/")))
    day = _day_named(extract, match.groups()) if match and extract.date_fields else None
    return frozenset() if day is None else frozenset([day])


def is_file_of(extract: FileExtract, path: str) -> bool:
    """Whether a path matches, with a valid date of any day where the pattern has a date."""
    match = _match(extract, path)
    if match is None:
        return False
    return not extract.date_fields or _day_named(extract, match.groups()) is not None


def is_archive_of(extract: FileExtract, path: str) -> bool:
    """Whether a path is that of an archive whose members may be files of the entity."""
    archive = extract.archive_path
    return archive is not None and _pattern_of(archive).fullmatch(_normal(path)) is not None


def partitions_below(
    extract: FileExtract, folder: str, partitions: Iterable[date], grain: Grain = Grain.DAY
) -> frozenset[date]:
    """The partitions whose files may lie below a folder or an archive; its path ends in `/`."""
    depth = _as_folders(folder).count("/")
    return frozenset(
        start
        for start in partitions
        if grain == Grain.NONE
        or any(_leads_to(extract.path_of(day), folder, depth) for day in grain.days_of(start))
    )


def _leads_to(path: str, folder: str, depth: int) -> bool:
    parts = _as_folders(_normal(path)).split("/")
    wanted = re.escape("/".join(parts[:depth])).replace(r"\*", "[^/]*") + "/"
    is_deeper = len(parts) > depth
    return (
        is_deeper and re.fullmatch(wanted, _as_folders(_normal(folder)), re.IGNORECASE) is not None
    )


def _as_folders(path: str) -> str:
    """The path with a `/` after an archive."""
    return _MEMBERS.sub(r"\1/", path)


def _match(extract: FileExtract, path: str) -> re.Match[str] | None:
    # `*.csv` has the files beside an archive, not its members.
    if extract.archive_path is None and _MEMBERS.search(path):
        return None
    return _pattern(extract).fullmatch(_normal(path))


def _normal(path: str) -> str:
    # A Mac writes paths in decomposed Unicode (NFD).
    return unicodedata.normalize("NFC", path)


def _pattern(extract: FileExtract) -> re.Pattern[str]:
    return _pattern_of(extract.path, r"(?:\.gz|\.zst)?")


def _has_all_dates(extract: FileExtract, path: str) -> bool:
    return path.count("{date:") == len(extract.date_fields)


@cache
def _pattern_of(path: str, ending: str = "") -> re.Pattern[str]:
    regex = ""
    for part in _PART.finditer(_normal(path)):
        if part["date"]:
            regex += _date_regex(part["date"])
        elif part["any"]:
            regex += "[^/]*?"
        else:
            regex += re.escape(part["text"])
    return re.compile(regex + ending)


def _date_regex(field: str) -> str:
    pieces = re.split(r"(%.)", field)
    return "".join(
        f"({_CODES.get(piece, _NAME_OR_NUMBER)})" if piece.startswith("%") else re.escape(piece)
        for piece in pieces
    )


def _day_named(extract: FileExtract, texts: Sequence[str]) -> date | None:
    """The day that the texts of the path's date codes give together; None without a valid one."""
    codes = [code for field in extract.date_fields for code in _codes(field)]
    named: dict[str, str] = {}
    for code, text in zip(codes, texts, strict=True):
        if named.setdefault(code, text) != text:
            return None  # The folder and the file's name have different days.
    try:
        return datetime.strptime(" ".join(named.values()), " ".join(named)).date()  # noqa: DTZ007
    except ValueError:
        return None


def _codes(field: str) -> list[str]:
    return re.findall(r"%.", field)
