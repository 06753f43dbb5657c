"""Queries on the warehouse from the command line."""

import re
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.types import datetime as times
from psycopg.types.string import TextLoader

from headrace.config.loading import load_project
from headrace.errors import PermanentError
from headrace.project.connections import postgres_url
from headrace.warehouse.sessions import Session, connect

_MORE_THAN_ONE = "cannot insert multiple commands"
_FIXES = {
    "25006": "headrace sql reads; with --write the statement may change the warehouse",
    "42601": "see the syntax of PostgreSQL; each call takes one statement",
}
# Spaces and comments; comments of Postgres may hold others, which nobody writes before a statement.
_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\w*)", re.DOTALL)
# A transaction that can only read does not keep them from the server's files and programs.
_REACH_OUT = {"copy", "do"}
_OTHERWISE = "schemas are warehouse, marts and platform; \\d works in psql"


@dataclass(frozen=True)
class Rows:
    """A result: column names and rows in the order of the query.

    Attributes:
        did: What a statement without rows did, in Postgres's words: `DROP TABLE`.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    did: str = ""


class QueryError(PermanentError):
    """Postgres refused the statement."""

    exit_code = 2


def run_query(query: str, *, write: bool = False) -> Rows:
    """Run one statement on the warehouse, in a transaction that can only read unless `write`.

    Raises:
        QueryError: Postgres refused it, or it is several statements; nothing was changed.
        WarehouseUnavailableError: Nobody answers.
    """
    return query_database(postgres_url(load_project(), "warehouse"), query, write=write)


def query_database(url: str, query: str, *, write: bool) -> Rows:
    """As `run_query`, on the database at `url`."""
    first = _FIRST_WORD.match(query)
    word = first[1].lower() if first else ""
    if word == "copy" or (word in _REACH_OUT and not write):
        raise QueryError(
            f"{word.upper()} is not run: it reaches files and programs of the server",
            fix="--json prints rows; psql has \\copy" if word == "copy" else _FIXES["25006"],
        )
    with connect(url) as session:
        _load_any_time(session)
        try:
            if write:
                # Without a transaction around it: VACUUM and the like refuse one.
                return _result(session, query)
            session.read_only = True
            with session.transaction():
                return _result(session, query)
        except psycopg.Error as error:
            raise _refusal(error) from None
        except UnicodeEncodeError:
            raise QueryError("the statement is no UTF-8", fix="write it in UTF-8") from None


def _result(session: Session, query: str) -> Rows:
    # Prepared, Postgres takes one statement only: sent as text, it would run all of several, of
    # which the first could end the transaction that can only read.
    cursor = session.execute(query, prepare=True)  # the user's own SQL
    if cursor.description is None:
        return Rows((), (), cursor.statusmessage or "")
    return Rows(tuple(c.name for c in cursor.description), tuple(cursor.fetchall()))


def _refusal(error: psycopg.Error) -> QueryError:
    what = error.diag.message_primary or str(error).split("\n")[0] or type(error).__name__
    if what.startswith(_MORE_THAN_ONE):
        return QueryError("these are several statements", fix="run them one by one, or use psql")
    return QueryError(what, fix=_FIXES.get(error.sqlstate or "", _OTHERWISE))


def _load_any_time(session: Session) -> None:
    """Read dates and times that Python has not, such as infinity and 24:00, as Postgres's text."""
    for name, loader in _LOADERS.items():
        session.adapters.register_loader(name, loader)


class _OrText(Loader):
    """Loads as another loader does, and as text what that one cannot."""

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
    # A timedelta knows no months: of 1 month it would make 30 days.
    "interval": TextLoader,
    "timetz": TextLoader,
}
