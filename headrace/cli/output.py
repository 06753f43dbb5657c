"""Printing: tables for people, JSON for programs, errors with a hint, progress bars.

Text is never parsed as rich markup, because it contains the user's names, values and messages.
Colour is an argument of `say`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from headrace import progress
from headrace.errors import HeadraceError
from headrace.ledger.causes import Cause

messages = Console(stderr=True, highlight=False, markup=False, emoji=False)

# Control characters other than tab and line feed: a terminal would execute them.
_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if chr(n) not in "\t\n"}
# Last words of names of columns whose numbers get no thousands separators.
_LABELS = {"id", "key", "no", "number", "code", "zip", "year", "month", "week", "day", "date"}
_PIPE_WIDTH = 10_000


def say(text: str, colour: str | None = None, rest: str = "") -> None:
    """Print one message on stderr: `text` in a colour, then `rest`."""
    shown = Text.assemble((_visible(text), colour or ""), _visible(rest))
    messages.print(shown, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning, unless the text is empty."""
    if text:
        say("warning: ", "yellow", text)


def print_error(error: HeadraceError) -> None:
    """Print the error's message line by line, then its remedy."""
    for line in str(error).splitlines():
        say("error:", "red", f" {line}")
    say("hint:", "yellow", f" {error.fix}")


def print_json(value: object) -> None:
    """Print one JSON document on stdout; decimals as text, so that no digit is lost."""
    # A file name may have bytes that are not UTF-8. Python's escape for them is valid JSON.
    print(_encodable(json.dumps(value, default=_jsonable, ensure_ascii=False)))  # noqa: T201


def print_summary(title: str, values: Mapping[str, object], *, as_json: bool) -> None:
    """Print a title and one line for each name and value; as JSON, the values alone."""
    if as_json:
        print_json(values)
        return
    _stdout().print(Text(title, style="green"))
    for name, value in values.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        _stdout().print(Text(_visible(f"  {name}: {shown}")), soft_wrap=True)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    title: str | None = None,
    *,
    grouped: bool = True,
) -> None:
    """Print rows as a table, numbers aligned to the right.

    Args:
        columns: Names of the columns.
        rows: Their values.
        title: A line above the table.
        grouped: Whether numbers get thousands separators. Keys and years never do. False for a
            query, whose columns may be anything.
    """
    table = Table(box=None, pad_edge=False)
    if title is not None:
        table.title, table.title_style, table.title_justify = Text(title), "bold", "left"
    for i, name in enumerate(columns):
        number = any(isinstance(row[i], int | float | Decimal) for row in rows)
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(Text(_visible(name)), justify=justify, overflow="fold")
    thousands = [grouped and not _is_label(name) for name in columns]
    for row in rows:
        table.add_row(*(Text(_visible(_cell(*each))) for each in zip(row, thousands, strict=True)))
    _stdout().print(table)


def print_cause(cause: Cause) -> None:
    """Print one cause of bad partitions, its status in red."""
    status, _, rest = cause.line().partition(" ")
    say(status, "red", f" {rest}")


@contextmanager
def progress_bars() -> Iterator[None]:
    """Show progress on stderr: a bar for each asset, or a line if stderr is no terminal."""
    if not messages.is_terminal:
        with progress.listening(_print_when_done):
            yield
        return
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages) as bars:
        tasks: dict[str, Any] = {}

        def update(asset: str, done: int, total: int) -> None:
            if asset not in tasks:
                tasks[asset] = bars.add_task(asset, total=total)
            bars.update(tasks[asset], completed=done)

        with progress.listening(update):
            yield


def _print_when_done(asset: str, done: int, total: int) -> None:
    if done == total > 0:
        messages.print(f"{asset}: {done:,} of {total:,}")


def _stdout() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        # A program that reads the pipe expects one line a row.
        console.width = _PIPE_WIDTH
    return console


def _is_label(column: str) -> bool:
    """Whether a column holds identifiers, such as keys, years or codes, judging by its name."""
    return column.rpartition("_")[2] in _LABELS


def _cell(value: object, grouped: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Decimal):
        if grouped:
            return f"{value:,}"
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds" if grouped else "auto")
    return _text(value)


def _visible(text: str) -> str:
    return _encodable(text).translate(_CONTROLS)


def _encodable(text: str) -> str:
    """The text with escapes for bytes that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _text(value: object) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _jsonable(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else _text(value)
