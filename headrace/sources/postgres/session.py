"""Read-only sessions with a source's PostgreSQL, and errors that quote neither URL nor rows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import IsolationLevel, sql
from psycopg.rows import TupleRow

from headrace.errors import HeadraceError, SourceRejectedError
from headrace.sources.connections import Connection, retried
from headrace.sources.tables.errors import (
    broken_off,
    refused,
    timed_out,
    unreachable,
    wrong_url,
)

Session = psycopg.Connection[TupleRow]

_CONNECT_SECONDS = 10
# What the text form of a value depends on. A row is then the same text in every session.
_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "default_transaction_read_only": "on",
    # A session that holds a snapshot for others does nothing else.
    "idle_in_transaction_session_timeout": "0",
}
_TRANSIENT = ("08", "40", "53", "57", "55P03", "58")
_TIMEOUT = "57014"
# While a session is opened, psycopg has no SQLSTATE: libpq's text is all that there is.
_REFUSED = (
    ("password authentication failed", "the server refuses the user or the password"),
    ("no password supplied", "the server asks for a password, and the URL has none"),
    ("no pg_hba.conf entry", "the server does not let this user in from this machine"),
    ("certificate verify failed", "the server's certificate is not signed by a known authority"),
    ("does not match host name", "the server's certificate is of another host"),
    ("server does not support SSL", "the server has no TLS, and sslmode requires it"),
    ("permission denied for database", "the user may not connect to the database"),
)
_MISSING = re.compile(r'FATAL:\s+(role|database) "[^"]*" does not exist')
_UNREACHABLE = (
    ("could not translate host name", "the host's name is not known"),
    ("failed to resolve host", "the host's name is not known"),
    ("Name or service not known", "the host's name is not known"),
    ("Connection refused", "nothing listens on the host's port"),
    ("No such file or directory", "nothing listens on the socket"),
    ("timeout", "the host does not answer"),
    ("starting up", "the server is starting"),
    ("shutting down", "the server is shutting down"),
    ("too many clients", "the server has no session left"),
    ("too many connections", "the server has no session left for this user"),
    ("remaining connection slots", "the server has no session left"),
)
# By SQLSTATE: what the relation's reader is to do. Nothing of these comes from the driver's text.
_REJECTED = (
    ("42501", "the user may not read it", "grant select on it to the connection's user"),
    ("42P01", "it, or a relation that it reads, does not exist", "correct table or query"),
    ("3F000", "its schema does not exist", "correct table or query"),
    ("42703", "it has no column of that name", "correct the names of columns (`from`)"),
    ("42601", "the query is no SQL that the server reads", "correct query"),
    ("25006", "the query writes, and sessions are read-only", "let query read only"),
    ("22", "a value cannot be computed", "correct query"),
    ("28", "the server refuses the user", "check user and password"),
)


def connect(connection: Connection) -> Session:
    """A session in read-only transactions of one snapshot each; waits for a server that restarts.

    Raises:
        ConfigError: The URL's variable is not set, or the URL cannot be parsed.
        SourceUnavailableError: The server does not answer.
        SourceRejectedError: It refuses the login.
    """
    return retried(lambda: _connect(connection))


@contextmanager
def map_errors(label: str) -> Iterator[None]:
    """Raise this project's errors for psycopg's; `label` begins their message."""
    try:
        yield
    except psycopg.Error as error:
        # Not `from error`: its text quotes rows, and a traceback would print it.
        raise _mapped_error(error, label) from None


def _mapped_error(error: psycopg.Error, label: str) -> HeadraceError:
    """This project's error for one of psycopg's, of a statement that reads `label`."""
    state = error.sqlstate or ""
    if state == _TIMEOUT:
        return timed_out(label)
    is_lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not state
    if is_lost or state.startswith(_TRANSIENT):
        why = f"SQLSTATE {state}" if state else "the connection was lost"
        return broken_off(label, why)
    for prefix, what, fix in _REJECTED:
        if state.startswith(prefix):
            return SourceRejectedError(f"{label}: {what} (SQLSTATE {state})", fix=fix)
    kind = type(error).__name__
    return SourceRejectedError(
        f"{label}: the server rejects the statement: {kind} (SQLSTATE {state or 'unknown'})",
        fix="the server's log has the statement and the reason",
    )


def settings_of(connection: Connection) -> dict[str, str]:
    """Settings of a session, for the text form of values, its limits and its rights."""
    timeout = int(connection.statement_timeout.total_seconds() * 1000)
    return {**_SETTINGS, "statement_timeout": str(timeout)}


def _connect(connection: Connection) -> Session:
    url = connection.url()
    if not url.startswith(("postgresql://", "postgres://")):
        raise wrong_url(
            connection,
            "does not begin with postgresql://",
            "write postgresql://user:password@host:5432/database",
        )
    try:
        session = psycopg.connect(
            url,
            connect_timeout=_CONNECT_SECONDS,
            tcp_user_timeout=60_000,
            application_name="headrace",
            client_encoding="utf8",
            autocommit=True,
            # Poolers in front of a server, such as PgBouncer, keep no prepared statements.
            prepare_threshold=None,
        )
    except psycopg.OperationalError as error:
        raise _connect_error(str(error), connection) from None
    except psycopg.Error:  # Its text quotes the URL.
        raise wrong_url(
            connection,
            "cannot be parsed",
            "percent-encode special characters of its user and password, such as %40 for @",
        ) from None
    try:
        with map_errors(f"connection '{connection.name}'"):
            _prepare(session, connection)
    except BaseException:
        session.close()
        raise
    return session


def _prepare(session: Session, connection: Connection) -> None:
    for name, value in {**settings_of(connection), "idle_session_timeout": "0"}.items():
        if name == "idle_session_timeout" and session.info.server_version < 140_000:  # noqa: PLR2004
            continue
        statement = sql.SQL("select set_config({}, {}, false)")
        session.execute(statement.format(sql.Literal(name), sql.Literal(value)))
    session.isolation_level = IsolationLevel.REPEATABLE_READ
    session.read_only = True


def _connect_error(text: str, connection: Connection) -> HeadraceError:
    missing = _MISSING.search(text)
    why = next((why for sign, why in _REFUSED if sign in text), None)
    if missing or why:
        kind = "user" if missing and missing[1] == "role" else "database"
        return refused(connection, why or f"there is no such {kind}")
    why = next((why for sign, why in _UNREACHABLE if sign in text), "the server cannot be reached")
    return unreachable(connection, why)
