"""`headrace sql`: one statement on the warehouse, read-only unless `--write` is given."""

import math
import re
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.types import datetime as times
from psycopg.types.string import TextLoader

from headrace.cli.output import print_json, print_table, say
from headrace.config.loader import load_project
from headrace.errors import PermanentError
from headrace.project.connections import postgres_url
from headrace.warehouse.sessions import Session, connect

_MORE_THAN_ONE = "cannot insert multiple commands"
_FIXES = {
    "25006": "give --write to let the statement change the warehouse",
    "42601": "see the syntax of PostgreSQL; each call takes one statement",
}
# The first word after white space and comments. Nested comments are not recognized.
_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\w*)", re.DOTALL)
# These can read files and run programs of the server even in a read-only transaction.
_REFUSED, _REFUSED_WITHOUT_WRITE = "copy", "do"
_DEFAULT_FIX = "the schemas are warehouse, marts, bi and platform; in psql, \\d lists tables"


@dataclass(frozen=True)
class Rows:
    """A result: column names and rows in the order of the query.

    Attributes:
        command_tag: Postgres's command tag of a statement without rows: `DROP TABLE`.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    command_tag: str = ""


class QueryError(PermanentError):
    """Postgres refused the statement."""

    exit_code = 2


class DuplicateColumnError(PermanentError):
    """Columns that share a name cannot become keys of one JSON object."""

    exit_code = 2


def run_query(query: str, *, write: bool = False) -> Rows:
    """Run one statement on the warehouse, in a transaction that can only read unless `write`.

    Raises:
        QueryError: Postgres refused it, or it is several statements; nothing was changed.
        WarehouseUnavailableError: Postgres does not answer.
    """
    return query_database(postgres_url(load_project(), "warehouse"), query, write=write)


def query_database(url: str, query: str, *, write: bool) -> Rows:
    """As `run_query`, on the database at `url`."""
    first = _FIRST_WORD.match(query)
    word = first[1].lower() if first else ""
    if word == _REFUSED or (word == _REFUSED_WITHOUT_WRITE and not write):
        raise QueryError(
            f"{word.upper()} is refused: it can read files and run programs of the server",
            fix="--json prints rows; psql has \\copy" if word == _REFUSED else _FIXES["25006"],
        )
    with connect(url) as session:
        _register_loaders(session)
        try:
            if write:
                # No transaction block: VACUUM and similar statements refuse to run in one.
                return _result(session, query)
            session.read_only = True
            with session.transaction():
                return _result(session, query)
        except psycopg.Error as error:
            raise _refusal(error) from None
        except UnicodeEncodeError:
            raise QueryError("the statement is not UTF-8", fix="write it in UTF-8") from None


def print_rows(found: Rows, *, as_json: bool) -> None:
    """Print a query's rows: a table, or a JSON list of objects.

    Raises:
        DuplicateColumnError: Two columns share a name, so a JSON object would lose one.
    """
    repeated = {name for name in found.columns if found.columns.count(name) > 1}
    if as_json and repeated:
        raise DuplicateColumnError(
            f"duplicate column names: {', '.join(sorted(repeated))}",
            fix="name each column in the query: `select a.id as a_id`",
        )
    if as_json:
        rows = (map(_finite, row) for row in found.rows)
        print_json([dict(zip(found.columns, row, strict=True)) for row in rows])
        return
    if found.command_tag:
        say(found.command_tag)
        return
    print_table(found.columns, found.rows, grouped=False)


def _finite(value: object) -> object:
    """The value, or text for NaN and infinity, which JSON lacks."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _result(session: Session, query: str) -> Rows:
    # A prepared statement is one statement. Sent as text, Postgres would run several, and the
    # first could end the read-only transaction.
    cursor = session.execute(query, prepare=True)  # the user's own SQL
    if cursor.description is None:
        return Rows((), (), cursor.statusmessage or "")
    return Rows(tuple(c.name for c in cursor.description), tuple(cursor.fetchall()))


def _refusal(error: psycopg.Error) -> QueryError:
    what = error.diag.message_primary or str(error).split("\n")[0] or type(error).__name__
    if what.startswith(_MORE_THAN_ONE):
        return QueryError("these are several statements", fix="run them one by one, or use psql")
    return QueryError(what, fix=_FIXES.get(error.sqlstate or "", _DEFAULT_FIX))


def _register_loaders(session: Session) -> None:
    """Read dates and times that Python cannot hold, such as infinity and 24:00, as text."""
    for name, loader in _LOADERS.items():
        session.adapters.register_loader(name, loader)


class _OrText(Loader):
    """Loads a value by another loader, or as text if that fails."""

    loader: type[Loader]

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._loader = self.loader(oid, context)

    def load(self, data: Buffer) -> Any:
        try:
            return self._loader.load(data)
        except psycopg.DataError:
            return bytes(data).decode()


class _AnyDate(_OrText):
    loader = times.DateLoader


class _AnyTime(_OrText):
    loader = times.TimeLoader


class _AnyTimestamp(_OrText):
    loader = times.TimestampLoader


class _AnyTimestamptz(_OrText):
    loader = times.TimestamptzLoader


_LOADERS: dict[str, type[Loader]] = {
    "date": _AnyDate,
    "time": _AnyTime,
    "timestamp": _AnyTimestamp,
    "timestamptz": _AnyTimestamptz,
    # A timedelta has no months: 1 month would become 30 days.
    "interval": TextLoader,
    "timetz": TextLoader,
}
