"""How the command line prints: tables for people, JSON for programs, errors with a hint.

Belongs here: rendering.
Elsewhere: finding out what to print (the other modules of headrace.cli).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from headrace.cli.causes import Cause, fold
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.cli.quarantine import QuarantinedRow
    from headrace.cli.query import Rows
    from headrace.cli.runner import AssetStatus, BackfillResult, BadPartition
    from headrace.layers.star_audit import TableAudit

messages = Console(stderr=True, highlight=False)


def print_error(error: HeadraceError) -> None:
    """The message, line by line, and what to do."""
    for line in str(error).splitlines():
        messages.print(f"[red]error:[/] {_plain_text(line)}", soft_wrap=True)
    messages.print(f"[yellow]hint:[/] {_plain_text(error.fix)}", soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON document on stdout; decimals as text, so that no digit is lost."""
    print(json.dumps(value, default=_jsonable, ensure_ascii=False))  # noqa: T201


def print_facts(title: str, facts: Mapping[str, object], *, as_json: bool) -> None:
    """Names and values."""
    if as_json:
        print_json(facts)
        return
    _results().print(f"[green]{title}[/]")
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        _results().print(f"  {name}: {_plain_text(shown)}", soft_wrap=True)


def print_rows(found: "Rows", *, as_json: bool) -> None:
    """A query's rows: a table, or a list of objects."""
    if as_json:
        print_json([dict(zip(found.columns, row, strict=True)) for row in found.rows])
        return
    print_table(found.columns, found.rows, grouped=False)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    title: str | None = None,
    *,
    grouped: bool = True,
) -> None:
    """Rows as a table; numbers to the right.

    Args:
        columns: Names of the columns.
        rows: Their values.
        title: A line above the table.
        grouped: Whether numbers get thousands separators. Keys and years never do; of a query's
            columns nobody knows what they are.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(columns):
        number = any(isinstance(row[i], int | float | Decimal) for row in rows)
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    thousands = [grouped and not _is_label(name) for name in columns]
    for row in rows:
        table.add_row(*map(_cell, row, thousands))
    _results().print(table)


def print_status(
    assets: "Sequence[AssetStatus]", *, as_json: bool, first_steps: Sequence[str] = ()
) -> None:
    """One line an asset; without any, what to do first."""
    if as_json:
        print_json([asset.as_dict() for asset in assets])
        return
    if not assets:
        messages.print("nothing has run yet")
        for line in first_steps:
            messages.print(f"  {_plain_text(line)}", soft_wrap=True)
        return
    columns = ("asset", "published", "empty", "held", "failed", "missing", "rows", "last run")
    print_table(columns, [tuple(asset.as_dict().values()) for asset in assets])


def print_audit(tables: Sequence["TableAudit"], *, as_json: bool) -> None:
    """One line a table, then the first differences of those that differ."""
    if as_json:
        print_json([{"equal": table.is_equal, **asdict(table)} for table in tables])
        return
    rows = [
        (
            table.table,
            "equal" if table.is_equal else "differs",
            table.rows,
            table.missing,
            table.unexpected,
            len(table.days_behind),
        )
        for table in tables
    ]
    print_table(("table", "is", "rows", "missing", "unexpected", "days behind"), rows)
    for table in tables:
        for example in table.examples:
            messages.print(f"[red]{table.table}[/] {_plain_text(example)}", soft_wrap=True)
    if any(table.days_behind for table in tables):
        messages.print(
            "days behind: published again below the star, and not brought to it yet; "
            "headrace backfill does"
        )


def print_quarantine(found: Sequence["QuarantinedRow"], *, as_json: bool) -> None:
    """Where each row is and why it was set aside; what is in it, only as JSON."""
    if as_json:
        print_json([asdict(row) for row in found])
        return
    if not found:
        messages.print("nothing is in quarantine there")
        return
    columns = ("entity", "day", "file", "line", "because")
    rows = [(r.entity, r.partition, r.file, r.line, r.reasons) for r in found]
    print_table(columns, rows)


def print_backfill(result: "BackfillResult", *, as_json: bool) -> None:
    """What became of the days, and every bad one with the command that shows why."""
    if as_json:
        print_json(result.as_dict())
        return
    causes = fold(result.bad)
    for cause in causes[:_SHOWN]:
        _print_cause(cause)
    if len(causes) > _SHOWN:
        messages.print(f"… and {len(causes) - _SHOWN} more causes: headrace status --errors")
    colour = "red" if result.exit_code else "green"
    messages.print(f"[{colour}]{result.summary}[/]")


def print_errors(bad: Sequence["BadPartition"], *, as_json: bool) -> None:
    """Every partition whose last attempt was not published, and why, in full."""
    if as_json:
        print_json([asdict(each) for each in bad])
        return
    if not bad:
        messages.print("[green]no partition is held or failed[/]")
        return
    columns = ("asset", "day", "status", "because")
    print_table(columns, [(each.asset, each.partition, each.status, each.why) for each in bad])


def _print_cause(cause: Cause) -> None:
    status, _, rest = cause.line().partition(" ")
    messages.print(f"[red]{status}[/] {_plain_text(rest)}", soft_wrap=True)


_SHOWN = 20
_LABELS = {"id", "key", "no", "number", "code", "zip", "year", "month", "week", "day", "date"}
_WIDEST = 10_000


def _results() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe has no edge: whoever reads it wants a row on a line.
        console.width = _WIDEST
    return console


def _is_label(column: str) -> bool:
    """Whether a column's numbers name something, by the column's name: keys, years, codes."""
    return column.rpartition("_")[2] in _LABELS


def _cell(value: object, grouped: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Decimal):
        return (
            f"{value:,}" if grouped else f"{value:f}" if isinstance(value, Decimal) else str(value)
        )
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    return _plain_text(str(value))


def _plain_text(text: str) -> str:
    return text.replace("[", r"\[")


def _jsonable(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
