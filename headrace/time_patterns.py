"""Patterns of dates and times, such as `M/d/yyyy H:mm`, as regular expressions for both engines.

A subset of Java's `DateTimeFormatter` patterns. The whole text must match the pattern.

    yyyy uuuu  year, 1000 to 9999       HH H  hour, 0 to 23     SSS  fraction, up to so many digits
    yy         year, by the pivot       hh h  hour, 1 to 12     a    AM or PM
    MM M       month                    mm m  minute            XXX  Z, +02:00 or +0200
    MMM        English name of a month  ss s  second            EEE  English name of a day, ignored
    dd d       day                      'T'   literal text      [ ]  optional part

One letter of month, day, hour, minute or second matches one or two digits, two letters match two.
A year of two digits is one of the hundred years that begin with the pivot. A fraction may have
digits below a microsecond only where they are truncated.

`compile_patterns` parses values. `day_regexes` finds the day in a text, even if its value does not
parse.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from headrace.errors import ConfigError

ISO_DATE = ("yyyy-M-d",)
ISO_TIMESTAMP = (
    "yyyy-M-d[ H:mm[:ss[.SSSSSSSSS]]]",
    "yyyy-M-d'T'H:mm[:ss[.SSSSSSSSS]]",
)
ISO_TIMESTAMPTZ = (
    "yyyy-M-d[ H:mm[:ss[.SSSSSSSSS]][XXX]]",
    "yyyy-M-d'T'H:mm[:ss[.SSSSSSSSS]][XXX]",
    "yyyy-M-d H:mm[:ss[.SSSSSSSSS]] XXX",
)
MONTHS = "jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec"

_TOKEN = re.compile(r"'(?P<quoted>[^']*)'|(?P<letters>([A-Za-z])\3*)|(?P<other>.)", re.DOTALL)
# Digits as [0-9]: Rust's \d, unlike Java's, matches digits of every script.
_ONE, _TWO = "[0-9]{1,2}", "[0-9]{2}"
_NUMBERS = {"M": "month", "L": "month", "d": "day", "H": "hour", "h": "hour12"}
_NUMBERS |= {"m": "minute", "s": "second"}
_SHORT_YEARS = ("yy", "uu")
# Digits of a fraction that a value can hold.
_MICROSECONDS = 6
_OTHERS = {
    "yyyy": ("year", "[1-9][0-9]{3}"),
    "uuuu": ("year", "[1-9][0-9]{3}"),
    "a": ("half", "[AaPp][Mm]"),
}
_MONTH_NAME = (
    "(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    "|sep(?:tember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
# UTC-14:00 to UTC+14:00, the largest offsets in use; Spark accepts 18 hours.
_ZONE = "(?:Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9])"
# What `day_regexes` accepts for a part, where that is more than a value may have.
_DAY_PARTS = {
    "year": "[0-9]{4}",
    "short_year": "[0-9]{2}",
    "month_name": "[A-Za-z]{3,9}",
    "fraction": "[0-9]+",
    "zone": "(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)",
}
_NOT_OF_DAY = ("second", "fraction", "weekday")
_ISO_DAY = (
    "(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})"
    "(?:[T ](?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::[0-9]{2}(?:[.,][0-9]+)?)?"
    f" ?(?P<zone>{_DAY_PARTS['zone']})?)?"
)
# Neither engine parses a zone after a blank or after minutes.
_IN_ORDER = re.compile(
    r"<year>-<month>-<day>(?:[ T]<hour>:<minute>(?::<second>(?:\.<fraction>)?(?:<zone>)?)?)?"
)


@dataclass(frozen=True)
class TimePattern:
    """One pattern without optional parts.

    Attributes:
        regex: Matches the texts of the pattern, without anchors; one group a part.
        parts: Names of the groups, in order: year, month, day, hour, ...
        is_iso: Whether both engines parse a matching text without reordering.
        century: The first two digits for a year of two digits.
    """

    regex: str
    parts: tuple[str, ...]
    is_iso: bool
    century: str = ""

    def group(self, part: str) -> int:
        """Number of the group that holds `part`; ValueError if the pattern has none."""
        return self.parts.index(part) + 1

    @property
    def uncaptured(self) -> str:
        """`regex` without capturing groups, which matches several times faster."""
        return re.sub(r"(?<!\\)\((?!\?)", "(?:", self.regex)


@cache
def compile_patterns(
    patterns: tuple[str, ...], *, zone: bool, pivot: int | None = None, truncates: bool = False
) -> tuple[TimePattern, ...]:
    """Expand the optional parts of the patterns, longest variant first, and compile them.

    Args:
        patterns: Patterns of the module's subset, tried in order.
        zone: Whether the value is an instant; only an instant's pattern may have a zone.
        pivot: First of the hundred years of a two-digit year.
        truncates: Whether digits below a microsecond are allowed, and truncated.

    Raises:
        ConfigError: A pattern is outside the subset, repeats a part, lacks a full date, or has a
            two-digit year without a pivot.
    """
    found = []
    for pattern in patterns:
        for plain in _without_options(pattern, pattern):
            for century, years in _centuries(plain, pattern, pivot):
                compiled = _compiled(plain, pattern, _Reading(century, years, truncates))
                if "zone" in compiled.parts and not zone:
                    fix = "drop XXX, or make the column a timestamptz"
                    raise _refused(pattern, "has a zone", fix)
                found.append(compiled)
    return tuple(found)


@cache
def day_regexes(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """A regular expression of each pattern, by default ISO 8601, with groups named by parts.

    They match every text that `compile_patterns` reads, and more, such as `Sept` for a month: the
    day of a text may be readable though its value is not.

    Raises:
        ConfigError: A pattern has letters outside the subset.
    """
    return tuple(map(_day_regex, patterns)) or (_ISO_DAY,)


def _day_regex(pattern: str) -> str:
    regex = ""
    for token in _TOKEN.finditer(pattern):
        if letters := token["letters"]:
            part, part_regex = _part(letters, pattern, _Reading("", "", truncates=True))
            name = "?:" if part in _NOT_OF_DAY else f"?P<{part}>"
            regex += f"({name}{_DAY_PARTS.get(part, part_regex)})"
        else:
            text = _literal(token)
            regex += {"[": "(?:", "]": ")?"}.get(text) or re.escape(text)
    return regex


@dataclass(frozen=True)
class _Reading:
    """How to read two-digit years and long fractions.

    Attributes:
        century: The first two digits of a two-digit year.
        years: Regular expression of the two-digit years in this century.
        truncates: Whether digits below a microsecond are allowed, and truncated.
    """

    century: str
    years: str
    truncates: bool


def has_short_year(pattern: str) -> bool:
    """Whether a pattern has a two-digit year."""
    return any(token["letters"] in _SHORT_YEARS for token in _TOKEN.finditer(pattern))


def _centuries(plain: str, whole: str, pivot: int | None) -> Iterator[tuple[str, str]]:
    """Each century of a two-digit year, with a regular expression of its years."""
    if not has_short_year(plain):
        yield "", ""
        return
    if pivot is None:
        fix = "declare the first of its hundred years, such as pivot: 1970"
        raise _refused(whole, "has a year of two digits", fix)
    century, (tens, ones) = pivot // 100, divmod(pivot % 100, 10)
    later = [f"{tens}[{ones}-9]", *(f"{higher}[0-9]" for higher in range(tens + 1, 10))]
    yield f"{century}", f"(?:{'|'.join(later)})"
    before = [f"{lower}[0-9]" for lower in range(tens)]
    before += [f"{tens}[0-{ones - 1}]"] if ones else []
    if before:
        yield f"{century + 1}", f"(?:{'|'.join(before)})"


def _without_options(pattern: str, whole: str) -> Iterator[str]:
    closing = pattern.find("]")
    opening = pattern.rfind("[", 0, closing if closing >= 0 else None)
    if (closing < 0) != (opening < 0):
        raise _refused(whole, "has an unpaired bracket", "write [ ] around each optional part")
    if closing < 0:
        yield pattern
        return
    before, option, after = (
        pattern[:opening],
        pattern[opening + 1 : closing],
        pattern[closing + 1 :],
    )
    for variant in (before + option + after, before + after):
        yield from _without_options(variant, whole)


def _compiled(pattern: str, whole: str, reading: _Reading) -> TimePattern:
    regex, shape, parts = "", "", []
    for token in _TOKEN.finditer(pattern):
        if letters := token["letters"]:
            part, part_regex = _part(letters, whole, reading)
            regex += part_regex if part == "weekday" else f"({part_regex})"
            shape += f"<{part}>"
            parts += [] if part == "weekday" else [part]
        else:
            text = _literal(token)
            regex += re.escape(text)
            shape += text
    # A pattern may have only one of year and short_year, hour and hour12, month and month_name.
    kinds = [part.replace("short_", "").removesuffix("12").removesuffix("_name") for part in parts]
    if len({*kinds}) < len(kinds):
        raise _refused(whole, "repeats a part", "name each part of the date and time once")
    if not {"year", "month", "day"} <= {*kinds}:
        raise _refused(whole, "lacks a full date", "give it a year, a month and a day")
    if ("hour12" in parts) != ("half" in parts):
        raise _refused(whole, "has only one of hour (h) and AM/PM (a)", "use h with a, or H alone")
    is_iso = _IN_ORDER.fullmatch(shape) is not None
    return TimePattern(regex, tuple(parts), is_iso, reading.century)


def _literal(token: re.Match[str]) -> str:
    return token["other"] if token["quoted"] is None else token["quoted"] or "'"


def _part(letters: str, whole: str, reading: _Reading) -> tuple[str, str]:
    letter, count = letters[0], len(letters)
    others = _OTHERS | dict.fromkeys(_SHORT_YEARS, ("short_year", reading.years))
    if letters in others:
        return others[letters]
    if letter in _NUMBERS and count <= len("MM"):
        return _NUMBERS[letter], _ONE if count == 1 else _TWO
    if letter in "ML":
        return "month_name", _MONTH_NAME
    if letter == "S":
        return "fraction", _fraction(min(count, 9), truncates=reading.truncates)
    if letter in "XxZ":
        return "zone", _ZONE
    if letter == "E":
        return "weekday", "[A-Za-z]+"
    raise _refused(
        whole,
        f"has the unknown letters '{letters}'",
        "use letters such as yyyy MM dd HH mm ss; docs/reference lists them",
    )


def _fraction(digits: int, *, truncates: bool) -> str:
    if truncates or digits <= _MICROSECONDS:
        return f"[0-9]{{1,{digits}}}"
    # Zeros below a microsecond do not change the value.
    return f"[0-9]{{1,{_MICROSECONDS}}}0{{0,{digits - _MICROSECONDS}}}"


def _refused(pattern: str, why: str, fix: str) -> ConfigError:
    return ConfigError(f"the date pattern '{pattern}' {why}", fix=fix)
