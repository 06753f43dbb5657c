"""Ways in which the texts of a column could be read: numbers and times, as options of a column."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from headrace.config.entities.columns import ColumnConfig
from headrace.engine.values.numbers import BLANKS
from headrace.time_patterns import (
    ISO_DATE,
    ISO_TIMESTAMP,
    ISO_TIMESTAMPTZ,
    compile_patterns,
)

# The widest types: which texts are numbers is asked first, how many digits they have after that.
WIDE_DECIMAL = "decimal(38,12)"
PIVOT, BIRTH_PIVOT = 1970, 1930

_CLOCKS = ("", " H:mm", " H:mm:ss", " H:mm[:ss]", " H:mm:ss.SSSSSS", " h:mm a", " h:mm:ss a")
_ORDERS = ("d{0}M{0}yyyy", "M{0}d{0}yyyy", "d{0}M{0}yy", "M{0}d{0}yy", "yyyy{0}M{0}d")
_NAMED = ("d{0}MMM{0}yyyy", "d{0}MMM{0}yy", "MMM{0}d{0}yyyy", "yyyy{0}MMM{0}d")
_OTHERS = ("MMM d, yyyy", "EEE, d MMM yyyy", "d. MMM yyyy", "d. M. yyyy")
_COMPACT = ("yyyyMMdd", "yyyyMMddHHmmss", "yyyyMMddHHmm", "yyyyMMdd HHmmss", "yyyyMMdd'T'HHmmss")
_SEPARATORS = ("/", ".", "-", " ")
# So many texts are looked at before the engine is asked.
_PROBED = 40
_AFFIX = re.compile(
    rf"[(+-]*[{BLANKS}]*(?P<before>[^\d{BLANKS}.,'()+-]{{1,4}})?[{BLANKS}]*[+-]?"
    rf"[\d.,'{BLANKS}]*\d[.,]?"
    rf"[{BLANKS}]*(?P<after>[^\d{BLANKS}.,'()+-]{{1,4}})?\)?"
)
# Letters beside digits are most often part of a code: only these are units of a number.
_UNITS = {"eur", "usd", "gbp", "chf", "jpy", "sek", "nok", "dkk", "pln", "czk", "cad", "aud", "inr"}
_UNITS |= {"kg", "g", "km", "m", "cm", "mm", "l", "ml", "h", "min", "s", "ms", "kwh", "kw", "pcs"}
_DIGITS = re.compile(r"\d")
_NUMERIC = re.compile(rf"[-+(]*[\d.,'{BLANKS}]*\d[.,]?(?:[eE][+-]?\d+)?\)?")
_TIME_LIKE = re.compile(
    r"(?i)\d{1,4}([/.\- ])\s?(?:\d{1,2}|[a-z]{3,9})\1\s?\d{1,4}.*|\d{8}(?:[ T]?\d{4,6})?"
    r"|(?:[a-z]{3}, )?\d{1,2}\.? [a-z]{3,9} \d{2,4}.*|[a-z]{3,9} \d{1,2}, \d{4}.*"
)
_DAY_FIRST, _MONTH_FIRST = re.compile(r"^d([/.\- ])M"), re.compile(r"^M([/.\- ])d")


@dataclass(frozen=True)
class Candidate:
    """A type with its options, as a column declares them."""

    type: str
    options: tuple[tuple[str, Any], ...] = ()

    def column(self, name: str = "value") -> ColumnConfig:
        """A column that is read this way."""
        return ColumnConfig.model_validate({"name": name, "type": self.type, **dict(self.options)})

    @property
    def pattern(self) -> str:
        """The pattern of a time; '' for ISO 8601 and for numbers."""
        formats = dict(self.options).get("formats", ("",))
        return str(formats[0])

    @property
    def other_order(self) -> "Candidate | None":
        """The same with day and month the other way round; None if it has no such order."""
        pattern = self.pattern
        if found := _DAY_FIRST.match(pattern):
            turned = f"M{found[1]}d{pattern[3:]}"
        elif found := _MONTH_FIRST.match(pattern):
            turned = f"d{found[1]}M{pattern[3:]}"
        else:
            return None
        options = {**dict(self.options), "formats": (turned,)}
        return Candidate(self.type, tuple(options.items()))

    @property
    def is_day_first(self) -> bool:
        """Whether the day stands before the month."""
        return _DAY_FIRST.match(self.pattern) is not None


def number_candidates(texts: Mapping[str, int]) -> list[Candidate]:
    """Ways to read texts as numbers, the plainest first; none if most are no numbers.

    Args:
        texts: Trimmed texts and how many rows have them.
    """
    affix = _affix(texts)
    bare = [_without(text, affix) for text in texts]
    rows = [*texts.values()]
    numeric = sum(n for text, n in zip(bare, rows, strict=True) if _NUMERIC.fullmatch(text))
    if not texts or numeric * 2 < sum(rows):
        return []
    found = {sign for text in bare for sign in text if sign in ".,'" or sign in BLANKS}
    blank = bool(found & {*BLANKS})
    marks: list[dict[str, Any]] = [{}]
    if "," in found:
        marks += [{"decimal_mark": ","}, {"grouping": ","}]
        marks += [{"grouping": ",", "group_sizes": (3, 2)}]
    if "." in found:
        marks += [{"grouping": "."}]
    if blank:
        marks += [{"grouping": " "}, {"grouping": " ", "decimal_mark": ","}]
    if "'" in found:
        marks += [{"grouping": "'"}, {"grouping": "'", "decimal_mark": ","}]
    currency = {"currency": affix} if affix else {}
    return [
        Candidate(kind, tuple({**mark, **currency}.items()))
        for mark in marks
        for kind in ("bigint", WIDE_DECIMAL, "double")
    ]


def time_candidates(texts: Mapping[str, int], *, is_birth: bool = False) -> list[Candidate]:
    """Ways to read texts as dates or times of which at least half of the rows have one."""
    time_like = sum(count for text, count in texts.items() if _TIME_LIKE.fullmatch(text))
    if not texts or time_like * 2 < sum(texts.values()):
        return []
    probes = sorted(texts, key=lambda text: -texts[text])[:_PROBED]
    signs = {sign for text in probes for sign in text}
    # Compiled patterns are many: those with a separator that no text has are left out first.
    possible = [
        candidate
        for candidate in _all_times(BIRTH_PIVOT if is_birth else PIVOT)
        if {*candidate.pattern} & {*"/.-"} <= signs
    ]
    return [c for c in possible if _fits_half(c, probes)]


@cache
def time_regexes(candidate: Candidate) -> tuple[re.Pattern[str], ...]:
    """What the engine matches texts with before it reads them as a candidate's times."""
    options = dict(candidate.options)
    iso = {"date": ISO_DATE, "timestamp": ISO_TIMESTAMP, "timestamptz": ISO_TIMESTAMPTZ}
    given = tuple(options.get("formats", ())) or iso[candidate.type]
    compiled = compile_patterns(
        given, zone=candidate.type == "timestamptz", pivot=options.get("pivot")
    )
    return tuple(re.compile(pattern.uncaptured) for pattern in compiled)


def places_of(text: str, candidate: Candidate) -> tuple[int, int]:
    """Digits before and after the decimal mark of a number's text."""
    point = _point_of(candidate)
    mantissa, _, exponent = re.sub(r"[^\d.,eE+-]", "", text).lower().partition("e")
    whole, _, fraction = mantissa.rpartition(point) if point in mantissa else (mantissa, "", "")
    digits = len("".join(_DIGITS.findall(whole)).lstrip("0"))
    shift = int(exponent) if exponent.lstrip("+-").isdigit() else 0
    return max(digits + shift, 0), max(len(fraction) - shift, 0)


@cache
def _point_of(candidate: Candidate) -> str:
    """The decimal mark of a number that is read by a candidate."""
    return candidate.column().decimal_mark or (
        "," if dict(candidate.options).get("grouping") == "." else "."
    )


def _fits_half(candidate: Candidate, probes: Sequence[str]) -> bool:
    """Whether at least half of some texts are times of a candidate."""
    regexes = time_regexes(candidate)
    misses = 0
    for text in probes:
        if not any(regex.fullmatch(text) for regex in regexes):
            misses += 1
            if misses * 2 > len(probes):
                return False
    return True


@cache
def _all_times(pivot: int) -> tuple[Candidate, ...]:
    iso = [Candidate("date"), Candidate("timestamp"), Candidate("timestamptz")]
    days = [order.format(sign) for sign in _SEPARATORS for order in _ORDERS]
    days += [order.format(sign) for sign in _SEPARATORS for order in _NAMED]
    patterns = [day + clock for day in (*days, *_OTHERS) for clock in _CLOCKS]
    patterns = [pattern for pattern in patterns if pattern != "yyyy-M-d"]
    return (*iso, *(_time(pattern, pivot) for pattern in (*patterns, *_COMPACT)))


def _time(pattern: str, pivot: int) -> Candidate:
    options: dict[str, Any] = {"formats": (pattern,)}
    if re.search(r"(?<!y)yy(?!y)", pattern):
        options["pivot"] = pivot
    return Candidate("timestamp" if "mm" in pattern else "date", tuple(options.items()))


def _affix(texts: Mapping[str, int]) -> str:
    """The currency sign or unit of most numbers; '' if they have none."""
    found: Counter[str] = Counter()
    total = 0
    for text, count in texts.items():
        total += count
        if match := _AFFIX.fullmatch(text):
            sign = match["before"] or match["after"]
            if sign and (sign.lower() in _UNITS or not re.search(r"[^\W_]", sign)):
                found[sign] += count
    sign, count = found.most_common(1)[0] if found else ("", 0)
    return sign if count * 2 > total else ""


def _without(text: str, affix: str) -> str:
    return text.replace(affix, "").strip(BLANKS) if affix else text
