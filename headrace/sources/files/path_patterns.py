"""Which files of the landing zone belong to which days."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import cache

from headrace.config.file_extract import FileExtract
from headrace.config.settings import PartitionSettings
from headrace.grain import Grain
from headrace.sources.files.landing import StoredFile

_PART = re.compile(r"\{date:(?P<date>[^{}]+)\}|(?P<any>\*)|(?P<text>[^{*]+|\{)")
_CODES = {"%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%j": r"\d{3}"}
_NAME_OR_NUMBER = r"\w+?"


def listing_prefix(
    extract: FileExtract, partitions: Sequence[date], grain: Grain = Grain.DAY
) -> str:
    """What the paths of all files of some partitions begin with: one listing of it finds them all.

    One day's prefix is often the file itself, a year's its folder.
    """
    codes = {code for field in extract.date_fields for code in _codes(field)}
    if grain == Grain.NONE or not codes <= _CODES.keys():
        # A month's name is matched in any case, and S3 compares exactly.
        fixed = extract.path.partition("{date:")[0].partition("*")[0]
        return re.split(r"[^\x00-\x7f]", fixed, maxsplit=1)[0]
    days = (day for start in partitions for day in grain.days_of(start))
    starts = {extract.path_of(day).partition("*")[0] for day in days}
    # Characters, not folders: the month's or the year's digits narrow S3's listing too. What is
    # not ASCII may be there in another form of Unicode.
    common = os.path.commonprefix(sorted(starts))  # noqa: RUF071
    return re.split(r"[^\x00-\x7f]", common, maxsplit=1)[0]


def files_by_partition(
    extract: FileExtract,
    listing: Iterable[StoredFile],
    partitions: Sequence[date],
    grain: Grain = Grain.DAY,
    existing: PartitionSettings | None = None,
) -> dict[date, tuple[StoredFile, ...]]:
    """The listed files of each of some partitions, by path; one without a file has none.

    Where the path has no date, a file may hold rows of any day and belongs to all of them. A path
    matches with `.gz` after it, too.

    Args:
        extract: The entity's pattern.
        listing: Files, other entities' among them.
        partitions: Their first days.
        grain: Of the entity.
        existing: The days that exist: a file that names another one belongs to none.
    """
    found: dict[date, list[StoredFile]] = {start: [] for start in partitions}
    pattern = _pattern(extract)
    for file in sorted(listing, key=lambda file: file.path):
        match = pattern.fullmatch(_normal(file.path))
        if match and not extract.date_fields:
            for files in found.values():
                files.append(file)
        elif match and (day := _day_named(extract, match.groups())):
            start = grain.start_of(day)
            if start in found and (existing is None or _exists(extract, day, existing)):
                found[start].append(file)
    return {start: tuple(files) for start, files in found.items()}


def _exists(extract: FileExtract, day: date, existing: PartitionSettings) -> bool:
    """Whether some of the period that a file names exists; it is named by its first day."""
    last = Grain(extract.named_period or "day").end_of(day) - timedelta(days=1)
    return existing.start <= last and (existing.end is None or day < existing.end)


def days_of_file(extract: FileExtract, path: str) -> frozenset[date]:
    """The day that a path names: none if it is no file of the entity, or its rows say the day."""
    match = _pattern(extract).fullmatch(_normal(path))
    day = _day_named(extract, match.groups()) if match and extract.date_fields else None
    return frozenset() if day is None else frozenset([day])


def is_file_of(extract: FileExtract, path: str) -> bool:
    """Whether a path is one of the entity's, whatever day it names; it has to name one."""
    match = _pattern(extract).fullmatch(_normal(path))
    if match is None:
        return False
    return not extract.date_fields or _day_named(extract, match.groups()) is not None


def partitions_below(
    extract: FileExtract, folder: str, partitions: Iterable[date], grain: Grain = Grain.DAY
) -> frozenset[date]:
    """Those of some partitions of which files may lie in a folder, whose path ends in `/`."""
    depth = folder.count("/")
    return frozenset(
        start
        for start in partitions
        if grain == Grain.NONE
        or any(_leads_to(extract.path_of(day), folder, depth) for day in grain.days_of(start))
    )


def _leads_to(path: str, folder: str, depth: int) -> bool:
    parts = _normal(path).split("/")
    wanted = re.escape("/".join(parts[:depth])).replace(r"\*", "[^/]*") + "/"
    is_deeper = len(parts) > depth
    return is_deeper and re.fullmatch(wanted, _normal(folder), re.IGNORECASE) is not None


def _normal(path: str) -> str:
    # A Mac writes an accent as a character of its own.
    return unicodedata.normalize("NFC", path)


@cache
def _pattern(extract: FileExtract) -> re.Pattern[str]:
    regex = ""
    for part in _PART.finditer(_normal(extract.path)):
        if part["date"]:
            regex += _date_regex(part["date"])
        elif part["any"]:
            regex += "[^/]*?"
        else:
            regex += re.escape(part["text"])
    return re.compile(regex + r"(?:\.gz)?")


def _date_regex(field: str) -> str:
    pieces = re.split(r"(%.)", field)
    return "".join(
        f"({_CODES.get(piece, _NAME_OR_NUMBER)})" if piece.startswith("%") else re.escape(piece)
        for piece in pieces
    )


def _day_named(extract: FileExtract, texts: Sequence[str]) -> date | None:
    """The day that the texts of the path's date codes name together."""
    codes = [code for field in extract.date_fields for code in _codes(field)]
    named: dict[str, str] = {}
    for code, text in zip(codes, texts, strict=True):
        if named.setdefault(code, text) != text:
            return None  # The folder says one day and the name another.
    try:
        return datetime.strptime(" ".join(named.values()), " ".join(named)).date()  # noqa: DTZ007
    except ValueError:
        return None


def _codes(field: str) -> list[str]:
    return re.findall(r"%.", field)
