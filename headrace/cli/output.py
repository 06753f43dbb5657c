"""How the command line prints: tables for people, JSON for programs, errors with a hint.

Nothing that is printed is markup: names, values and messages are the user's, and `[/red]` in a
header is text. Colour is given by part (`say`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.errors import HeadraceError, PermanentError
from headrace.grain import Grain
from headrace.ledger.causes import BadPartition, Cause, fold

if TYPE_CHECKING:
    from headrace.cli.quarantine import QuarantinedRow
    from headrace.cli.query import Rows
    from headrace.cli.runner import AssetStatus, BackfillResult
    from headrace.operations.star_audit import TableAudit

messages = Console(stderr=True, highlight=False, markup=False, emoji=False)

# Control characters but tab and line feed: on a terminal they would move the cursor, or do worse.
_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if chr(n) not in "\t\n"}


class NamedTwiceError(PermanentError):
    """Columns of one name cannot be told apart in a JSON object."""

    exit_code = 2


def say(text: str, colour: str | None = None, rest: str = "") -> None:
    """One message, its beginning in a colour; both parts are printed as they are."""
    shown = Text.assemble((_visible(text), colour or ""), _visible(rest))
    messages.print(shown, soft_wrap=True)


def warn(text: str) -> None:
    """What somebody may want to look at; nothing without a text."""
    if text:
        say("warning: ", "yellow", text)


def print_error(error: HeadraceError) -> None:
    """The message, line by line, and what to do."""
    for line in str(error).splitlines():
        say("error:", "red", f" {line}")
    say("hint:", "yellow", f" {error.fix}")


def print_json(value: object) -> None:
    """One JSON document on stdout; decimals as text, so that no digit is lost."""
    # A file's name may be no UTF-8; what Python makes of such a byte is JSON's escape of it.
    print(_encodable(json.dumps(value, default=_jsonable, ensure_ascii=False)))  # noqa: T201


def print_facts(title: str, facts: Mapping[str, object], *, as_json: bool) -> None:
    """Names and values."""
    if as_json:
        print_json(facts)
        return
    _results().print(Text(title, style="green"))
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        _results().print(Text(_visible(f"  {name}: {shown}")), soft_wrap=True)


def print_rows(found: "Rows", *, as_json: bool) -> None:
    """A query's rows: a table, or a list of objects.

    Raises:
        NamedTwiceError: An object would lose all but one of the columns that share a name.
    """
    repeated = {name for name in found.columns if found.columns.count(name) > 1}
    if as_json and repeated:
        raise NamedTwiceError(
            f"columns named twice: {', '.join(sorted(repeated))}",
            fix="give each a name of its own in the query: `select a.id as a_id`",
        )
    if as_json:
        rows = (map(_finite, row) for row in found.rows)
        print_json([dict(zip(found.columns, row, strict=True)) for row in rows])
        return
    if found.did:
        say(found.did)
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
    _results().print(table)


def print_status(
    assets: "Sequence[AssetStatus]", *, as_json: bool, first_steps: Sequence[str] = ()
) -> None:
    """One line an asset; while none was ever built, what to do first."""
    if as_json:
        print_json([asset.as_dict() for asset in assets])
        return
    if all(asset.never_built for asset in assets):
        say("nothing has run yet")
        for line in first_steps:
            say(f"  {line}")
        return
    columns = (
        "asset",
        "published",
        "empty",
        "held",
        "failed",
        "missing",
        "stale",
        "rows",
        "last run",
    )
    print_table(
        columns,
        [
            (
                each.asset,
                each.published,
                each.empty,
                each.held,
                each.failed,
                each.missing,
                each.stale,
                each.rows,
                each.last_run or "never built",
            )
            for each in assets
        ],
    )


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
            say(table.table, "red", f" {example}")
    if any(table.days_behind for table in tables):
        say(
            "days behind: published again below the star, and not brought to it yet; "
            "headrace backfill does"
        )


def print_quarantine(found: Sequence["QuarantinedRow"], *, as_json: bool) -> None:
    """Where each row is and why it was set aside; what is in it, only as JSON."""
    if as_json:
        print_json([asdict(row) for row in found])
        return
    if not found:
        say("nothing is in quarantine there")
        return
    columns = ("entity", "partition", "file", "line", "because")
    rows = [(r.entity, Grain(r.grain).label(r.partition), r.file, r.line, r.reasons) for r in found]
    print_table(columns, rows)


def print_backfill(result: "BackfillResult", *, as_json: bool) -> None:
    """What became of the days, and every bad one with the command that shows why."""
    if as_json:
        print_json(result.as_dict())
        return
    causes = fold(result.bad or result.skipped)
    for cause in causes[:_SHOWN]:
        _print_cause(cause)
    if len(causes) > _SHOWN:
        say(f"… and {len(causes) - _SHOWN} more causes: headrace status --errors")
    say(result.summary, "red" if result.exit_code else "green")


def print_errors(bad: Sequence[BadPartition], *, as_json: bool) -> None:
    """Every partition whose last attempt was not published, and why, in full."""
    if as_json:
        print_json([asdict(each) for each in bad])
        return
    if not bad:
        say("no partition is held or failed", "green")
        return
    columns = ("asset", "partition", "status", "because")
    print_table(columns, [(each.asset, each.label, each.status, each.why) for each in bad])


def _print_cause(cause: Cause) -> None:
    status, _, rest = cause.line().partition(" ")
    say(status, "red", f" {rest}")


_SHOWN = 20
_LABELS = {"id", "key", "no", "number", "code", "zip", "year", "month", "week", "day", "date"}
_WIDEST = 10_000


def _results() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
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
        return value.isoformat(" ", "seconds" if grouped else "auto")
    return _text(value)


def _visible(text: str) -> str:
    return _encodable(text).translate(_CONTROLS)


def _encodable(text: str) -> str:
    """The text with escapes for the bytes that were no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _finite(value: object) -> object:
    """The value; as text where JSON has no number for it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: object) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _jsonable(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else _text(value)
