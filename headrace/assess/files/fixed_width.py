"""Guesses the positions of columns in text of fixed width, by blanks that all lines have."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.assess.files.fields import field_names
from headrace.assess.files.forms import FileForm
from headrace.assess.files.text_dialect import is_value
from headrace.assess.sample_source import SourceField

_FEWEST_LINES, _FEWEST_COLUMNS, _MOST_LINES = 4, 2, 2000
# Of the lines, so many have a text in a column of their own, or the blanks are those of prose.
_FILLED = 0.4
Span = tuple[int, int]


def fixed_width_form(text: str, encoding: str) -> FileForm | None:
    """How a text is read by positions; None if its lines show none.

    Args:
        text: Whole lines of the beginning of a file.
        encoding: Its encoding.
    """
    lines = [line.rstrip("\r") for line in text.split("\n")][:_MOST_LINES]
    lines = [line for line in lines if line.strip()]
    width = max((len(line) for line in lines), default=0)
    is_padded = sum(len(line) == width for line in lines) * 2 > len(lines)
    if len(lines) < _FEWEST_LINES or not is_padded:
        return None
    spans = _spans(lines, width)
    if len(spans) < _FEWEST_COLUMNS or not _are_columns(lines[1:], spans):
        return None
    header = _header(lines, spans)
    names = field_names(header or [f"column_{n}" for n in range(1, len(spans) + 1)])
    positions = {name: [first, last] for name, (first, last) in zip(names, spans, strict=True)}
    form: dict[str, Any] = {"type": "fixed_width"}
    if encoding != "utf-8":
        form["encoding"] = encoding
    if header:
        form["skip_lines"] = 1
    if any(len(line) < spans[-1][1] for line in lines):
        form["may_be_short"] = True
    form["positions"] = positions
    evidence = [f"{len(lines):,} lines of {width} characters have blanks at the same positions"]
    problems = ["columns that no blank parts are one: compare format.positions to a description"]
    if not header:
        problems.append("no line names the columns: name them")
    return FileForm(
        form,
        tuple(SourceField(name, name) for name in names),
        tuple(evidence),
        tuple(problems),
    )


def _spans(lines: Sequence[str], width: int) -> list[Span]:
    """First and last position of each column, from 1, by blanks that all lines have.

    The blanks between two columns belong to one of them, since values of other lines may be longer.
    """
    padded = [line.ljust(width) for line in lines]
    blank = [all(line[n] == " " for line in padded) for n in range(width)]
    starts = [n for n in range(width) if not blank[n] and (n == 0 or blank[n - 1])]
    ends = [n for n in range(width) if not blank[n] and (n + 1 == width or blank[n + 1])]
    firsts, lasts = [*starts], [*ends]
    for n in range(len(starts) - 1):
        left = [line[starts[n] : ends[n] + 1] for line in padded[1:]]
        right = [line[starts[n + 1] : ends[n + 1] + 1] for line in padded[1:]]
        # Numbers are filled up to the left: the blanks before them are theirs.
        if _begins_late(right) and not _ends_early(left):
            firsts[n + 1] = ends[n] + 1
        else:
            lasts[n] = starts[n + 1] - 1
    if starts and _begins_late([line[starts[0] : ends[0] + 1] for line in padded[1:]]):
        firsts[0] = 0
    return [(first + 1, last + 1) for first, last in zip(firsts, lasts, strict=True)]


def _begins_late(values: Sequence[str]) -> bool:
    """Whether values begin at different positions."""
    return len({len(value) - len(value.lstrip()) for value in values if value.strip()}) > 1


def _ends_early(values: Sequence[str]) -> bool:
    """Whether values end at different positions."""
    return len({len(value.rstrip()) for value in values if value.strip()}) > 1


def _are_columns(lines: Sequence[str], spans: Sequence[Span]) -> bool:
    """Whether most lines have a value in each column, of the same kind in most lines."""
    for first, last in spans:
        values = [line[first - 1 : last].strip() for line in lines]
        given = [value for value in values if value]
        if len(given) < _FILLED * len(values):
            return False
    kinds = [_kinds([line[first - 1 : last] for line in lines]) for first, last in spans]
    # Prose has no column of values.
    return any(kind for kind in kinds)


def _kinds(values: Sequence[str]) -> bool:
    given = [value.strip() for value in values if value.strip()]
    return bool(given) and all(is_value(value) or re.fullmatch(r"\d+", value) for value in given)


def _header(lines: Sequence[str], spans: Sequence[Span]) -> list[str]:
    """Names of the columns in the first line; empty if it is a row."""
    names = [lines[0][first - 1 : last].strip() for first, last in spans]
    is_named = all(name and not is_value(name) for name in names)
    below: Mapping[Span, list[str]] = {
        span: [line[span[0] - 1 : span[1]] for line in lines[1:]] for span in spans
    }
    return names if is_named and any(_kinds(values) for values in below.values()) else []
