"""Groups the paths of files into entities: dates become `{date:…}`, numbered parts become `*`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise

_RUN = re.compile(r"\d+")
_YEARS = range(1950, 2101)
# Patterns of one run of digits, by its length; of several runs in a row, by their lengths. Where
# two fit, the first is meant unless the other gives fewer gaps.
_PATTERNS: Mapping[tuple[int, ...], tuple[tuple[str, ...], ...]] = {
    (4, 2, 2): (("%Y", "%m", "%d"),),
    (2, 2, 4): (("%d", "%m", "%Y"), ("%m", "%d", "%Y")),
    (2, 2, 2): (("%y", "%m", "%d"), ("%d", "%m", "%y"), ("%m", "%d", "%y")),
    (4, 3): (("%Y", "%j"),),
    (4, 2): (("%Y", "%m"),),
    (2, 4): (("%m", "%Y"),),
    (14,): (("%Y%m%d",),),
    (12,): (("%Y%m%d",),),
    (8,): (("%Y%m%d",), ("%d%m%Y",), ("%m%d%Y",)),
    (6,): (("%y%m%d",), ("%Y%m",), ("%d%m%y",)),
    (4,): (("%Y",),),
}
_PART = re.compile(r"(?i)(?:^|[^a-z])(?:part|chunk|shard|teil)[-_. ]?$")
_CODE = re.compile(r"%.")
_DIGITS = {"%Y": 4, "%j": 3}
# Folders of a date lie in one another, and names have these between its parts.
_JOINTS = re.compile(r"[-_./ ]|/[^/\d]*")


@dataclass(frozen=True)
class PathGroup:
    """Files of one entity.

    Attributes:
        pattern: `extract.path`.
        days: By path, the first day of the period that it names; empty without a date.
        period: How long that is; None without a date.
        is_ambiguous: Whether day and month could be meant the other way round.
    """

    pattern: str
    paths: tuple[str, ...]
    days: Mapping[str, date] = field(default_factory=dict)
    period: str | None = None
    is_ambiguous: bool = False


def group_paths(paths: Iterable[str]) -> tuple[PathGroup, ...]:
    """Group paths, each of which is in one group; a name without digits is a group of its own."""
    by_shape: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        by_shape[_RUN.sub("#", path.removesuffix(".gz"))].append(path)
    groups = [group for shape in by_shape.values() for group in _of_one_shape(shape)]
    return tuple(sorted(groups, key=lambda group: group.pattern))


def common_pattern(patterns: Sequence[str]) -> str:
    """The pattern that matches all of some: what differs between them is `*`."""
    first, last = min(patterns), max(patterns)
    start = next(
        (i for i, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1),
        min(len(first), len(last)),
    )
    turned = [pattern[start:][::-1] for pattern in patterns]
    least, most = min(turned), max(turned)
    length = next(
        (i for i, pair in enumerate(zip(least, most, strict=False)) if len({*pair}) > 1),
        min(len(least), len(most)),
    )
    end = patterns[0][len(patterns[0]) - length :] if length else ""
    return f"{first[:start]}*{end}"


def _of_one_shape(paths: Sequence[str]) -> list[PathGroup]:
    """The groups of paths that differ in digits alone."""
    if (dated := _dated(paths)) is not None:
        return [dated]
    by_length: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for path in paths:
        by_length[tuple(len(run) for run in _RUN.findall(path.removesuffix(".gz")))].append(path)
    if len(by_length) > 1:
        found = [(_dated(some), some) for some in by_length.values()]
        undated = [path for group, some in found if group is None for path in some]
        groups = [group for group, _ in found if group is not None]
        return [*groups, _undated(undated)] if undated else groups
    return [_undated(paths)]


def _undated(paths: Sequence[str]) -> PathGroup:
    return PathGroup(_template(paths, {}), tuple(sorted(paths)))


def _dated(paths: Sequence[str]) -> PathGroup | None:
    """The group with its date; None if no date is in all of the paths, or only a year of one."""
    names = [path.removesuffix(".gz") for path in paths]
    runs = [_RUN.findall(name) for name in names]
    best: tuple[tuple[int, int, int], dict[int, str], list[date]] | None = None
    is_ambiguous = False
    for codes in _assignments(_stable(runs), names):
        days = _days(runs, codes)
        if days is None or not _detail(codes):
            continue
        rank = (-_detail(codes), _gaps(days), -len(codes))
        if best is None or rank < best[0]:
            best, is_ambiguous = (rank, codes, days), False
        elif rank == best[0] and days != best[2]:
            is_ambiguous = True
    if best is None:
        return None
    _, codes, days = best
    period = ("year", "month", "day")[_detail(codes) - 1]
    if period == "year" and len({*days}) == 1:
        return None
    named = dict(zip(paths, days, strict=True))
    return PathGroup(_template(paths, codes), tuple(sorted(paths)), named, period, is_ambiguous)


def _stable(runs: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """The length of each run of digits; 0 where it differs between the paths."""
    columns = zip(*runs, strict=True)
    return tuple(
        len(column[0]) if len({*map(len, column)}) == 1 else 0 for column in map(list, columns)
    )


def _assignments(lengths: Sequence[int], names: Sequence[str]) -> Iterable[dict[int, str]]:
    """Ways to take runs of digits for parts of a date, by the run's number."""
    found: list[dict[int, str]] = []
    for width in (3, 2, 1):
        for start in range(len(lengths) - width + 1):
            key = tuple(lengths[start : start + width])
            if width > 1 and not all(
                _JOINTS.fullmatch(_between(names[0], i)) for i in range(start, start + width - 1)
            ):
                continue
            numbers = range(start, start + width)
            found += [dict(zip(numbers, codes, strict=True)) for codes in _PATTERNS.get(key, ())]
    # A folder names the year or month that the file names, too.
    pairs = [
        {**one, **other}
        for one in found
        for other in found
        if max(one) < min(other) and _detail(one) < _detail(other)
    ]
    return [*pairs, *found]


def _between(name: str, number: int) -> str:
    """What stands between a run of digits and the next one."""
    runs = list(_RUN.finditer(name))
    return name[runs[number].end() : runs[number + 1].start()]


def _detail(codes: Mapping[int, str]) -> int:
    """1: a year, 2: a month, 3: a day."""
    named = {*_CODE.findall("".join(codes.values()))}
    if not named & {"%Y", "%y"}:
        return 0
    return 3 if named & {"%d", "%j"} else 2 if "%m" in named else 1


def _days(runs: Sequence[Sequence[str]], codes: Mapping[int, str]) -> list[date] | None:
    days = []
    for each in runs:
        named: dict[str, str] = {}
        for number, code in codes.items():
            text = each[number]
            for one in _CODE.findall(code):
                length = _DIGITS.get(one, 2)
                if named.setdefault(one, text[:length]) != text[:length]:
                    return None
                text = text[length:]
        if (day := _day(named)) is None:
            return None
        days.append(day)
    return days


def _day(named: Mapping[str, str]) -> date | None:
    try:
        day = datetime.strptime(" ".join(named.values()), " ".join(named)).date()  # noqa: DTZ007
    except ValueError:
        return None
    return day if day.year in _YEARS else None


def _gaps(days: Sequence[date]) -> int:
    """Days of the longest gap between neighbours."""
    ordered = sorted({*days})
    steps = [later - former for former, later in pairwise(ordered)]
    return max((step // timedelta(days=1) for step in steps), default=0)


def _template(paths: Sequence[str], codes: Mapping[int, str]) -> str:
    """The pattern of paths of one shape, given the runs of digits that are dates."""
    names = [path.removesuffix(".gz") for path in paths]
    runs = [_RUN.findall(name) for name in names]
    number = -1

    def written(match: re.Match[str]) -> str:
        nonlocal number
        number += 1
        if (code := codes.get(number)) is not None:
            length = sum(_DIGITS.get(one, 2) for one in _CODE.findall(code))
            return f"{{date:{code}}}" + ("*" if len(match[0]) > length else "")
        # A time of day after the date is another one tomorrow.
        is_time = number - 1 in codes and len(match[0]) in (4, 6)
        is_part = _PART.search(match.string[: match.start()]) is not None
        is_fixed = len({each[number] for each in runs}) == 1 and not (is_time or is_part)
        return match[0] if is_fixed else "*"

    text = _RUN.sub(written, names[0])
    # Neighbouring fields are one: {date:%Y}-{date:%m} is {date:%Y-%m}.
    text = re.sub(r"\}([-_. ])\{date:", r"\1", text)
    return re.sub(r"\*(?:[-_.T]?\*)+", "*", text)
