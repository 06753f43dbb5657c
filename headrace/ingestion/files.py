"""Which files of the landing zone belong to which days.

Belongs here: matching listed paths against an entity's pattern.
Elsewhere: listing (headrace.ingestion.landing), the pattern itself (headrace.config.sources).
"""

import os
import re
from collections.abc import Iterable, Sequence
from datetime import date

from headrace.config.sources import FileExtract
from headrace.ingestion.landing import StoredFile

_PART = re.compile(r"\{date:(?P<date>[^{}]+)\}|(?P<any>\*)|(?P<text>[^{*]+|\{)")
_CODES = {
    "%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%j": r"\d{3}",
    "%b": r"\w+?", "%B": r"\w+?", "%a": r"\w+?", "%A": r"\w+?", "%U": r"\d{2}", "%W": r"\d{2}",
    "%u": r"\d", "%w": r"\d", "%G": r"\d{4}", "%V": r"\d{2}",
}  # fmt: skip
_NAMES = ("%b", "%B", "%a", "%A")


def listing_prefix(extract: FileExtract, days: Sequence[date]) -> str:
    """What the paths of all files of `days` begin with: one listing of it finds them all.

    One day's prefix is often the file itself, a year's its folder.
    """
    if any(name in field for field in extract.date_fields for name in _NAMES):
        # Names of months are matched in any case.
        return extract.path.partition("{date:")[0].partition("*")[0]
    starts = {extract.path_of(day).partition("*")[0] for day in days}
    # Characters, not folders: the month's or the year's digits narrow S3's listing too.
    return os.path.commonprefix(sorted(starts))  # noqa: RUF071


def files_by_day(
    extract: FileExtract, listing: Iterable[StoredFile], days: Sequence[date]
) -> dict[date, tuple[StoredFile, ...]]:
    """The listed files of each of `days`, by path; a day without a file has none.

    Where the path has no date, a file may hold rows of any day and belongs to all of them. A path
    matches with `.gz` after it, too.
    """
    fields = extract.date_fields
    pattern = _pattern(extract)
    # strftime says how a day is written, so two-digit years are read as the window's.
    days_by_text: dict[tuple[str, ...], list[date]] = {}
    for day in days:
        text = tuple(day.strftime(field).casefold() for field in fields)
        days_by_text.setdefault(text, []).append(day)
    found: dict[date, list[StoredFile]] = {day: [] for day in days}
    for file in sorted(listing, key=lambda file: file.path):
        if match := pattern.fullmatch(file.path):
            text = tuple(group.casefold() for group in match.groups())
            for day in days_by_text.get(text, ()):
                found[day].append(file)
    return {day: tuple(files) for day, files in found.items()}


def _pattern(extract: FileExtract) -> re.Pattern[str]:
    regex = ""
    for part in _PART.finditer(extract.path):
        if part["date"]:
            regex += f"({_date_regex(part['date'])})"
        elif part["any"]:
            regex += "[^/]*?"
        else:
            regex += re.escape(part["text"])
    return re.compile(regex + r"(?:\.gz)?")


def _date_regex(field: str) -> str:
    codes = re.split(r"(%.)", field)
    return "".join(_CODES.get(code, re.escape(code)) for code in codes)
