"""Delimited text read character by character: slow, without blocks, and plain enough to be right.

The oracle of `read_csv`: a field that begins with a quote ends at the quote that is not doubled;
only blanks may follow it. Everything else about quotes is text, or damage.
"""

from dataclasses import dataclass

from headrace.sources.files.text.csv_records import (
    ESCAPED_QUOTE,
    OPEN_QUOTE,
    TEXT_AFTER_QUOTE,
    TOO_MANY_LINE_BREAKS,
)

# A row: number, fields, record, reason. Either the fields are None, or the last two are.
Row = tuple[int, tuple[str, ...] | None, str | None, str | None]

_EVIDENCE = 10  # Lines behind a stray quote that must be rows.


@dataclass
class _Record:
    end: int
    fields: list[str]
    breaks: int = 0
    is_open: bool = False
    damage: str | None = None


def naive_rows(text: str, width: int, max_line_breaks: int = 100) -> list[Row]:
    """The rows of a text without its header, in order; the first record has the number 2."""
    rows: list[Row] = []
    at, number = 0, 2
    while at < len(text):
        if text[at] in "\r\n":
            at += 1
            continue
        record = _record(text, at)
        written = text[at : record.end]
        reason = _reason(record, max_line_breaks)
        if reason is None:
            is_empty = len(record.fields) == width and not any(record.fields)
            if not (is_empty or set(written) <= {","}):
                rows.append((number, *_row(record, written, width)))
            at, number = record.end + 1, number + 1
            continue
        lines = [line for line in written.replace("\r", "\n").split("\n") if line]
        tried = lines[1 : _EVIDENCE + 1]
        if len(tried) == _EVIDENCE and all(_is_row(line, width) for line in tried):
            lines, reason, at = lines[:1], OPEN_QUOTE, at + len(lines[0]) + 1
        else:
            at = record.end + 1
        for line in lines:
            rows.append((number, None, line, reason))
            number += 1
    return rows


def _reason(record: _Record, max_line_breaks: int) -> str | None:
    if record.is_open:
        return OPEN_QUOTE
    return record.damage or (TOO_MANY_LINE_BREAKS if record.breaks > max_line_breaks else None)


def _row(
    record: _Record, written: str, width: int
) -> tuple[tuple[str, ...] | None, str | None, str | None]:
    if len(record.fields) == width:
        return tuple(record.fields), None, None
    return None, written, "too few fields" if len(record.fields) < width else "too many fields"


def _is_row(line: str, width: int) -> bool:
    record = _record(line, 0)
    is_sound = not record.is_open and record.damage is None
    return is_sound and len(record.fields) == width > 1


def _record(text: str, start: int) -> _Record:
    """The record from `start` to its line end, which is not part of it."""
    record = _Record(start, [])
    at = start
    while True:
        field = ""
        if text[at : at + 1] == '"':
            field, at = _quoted(text, at, record)
            if record.is_open:
                record.end = at
                return record
        while at < len(text) and text[at] not in ",\r\n":
            field, at = field + text[at], at + 1
        record.fields.append(field)
        record.end = at
        if at == len(text) or text[at] != ",":
            return record
        at += 1


def _quoted(text: str, at: int, record: _Record) -> tuple[str, int]:
    """A quoted field with the blanks behind it, and where it ends."""
    field, at, breaks = "", at + 1, 0
    while at < len(text):
        if text[at : at + 2] == '""':
            field, at = field + '"', at + 2
            continue
        if text[at] == '"':
            break
        breaks += text[at] == "\n" or (text[at] == "\r" and text[at + 1 : at + 2] != "\n")
        field, at = field + text[at], at + 1
    record.breaks = max(record.breaks, breaks)
    record.is_open = at == len(text)
    is_escaped = text[at - 1] == "\\"
    at += 1
    while text[at : at + 1] in {" ", "\t"}:
        field, at = field + text[at], at + 1
    if text[at : at + 1] not in {"", ",", "\r", "\n"} and record.damage is None:
        record.damage = ESCAPED_QUOTE if is_escaped else TEXT_AFTER_QUOTE
    return field, min(at, len(text))
