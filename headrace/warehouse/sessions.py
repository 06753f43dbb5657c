"""Sessions with a Postgres: opening them, naming their errors, the names of advisory locks."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from headrace.errors import (
    CommitConflictError,
    ConfigError,
    HeadraceError,
    PermanentError,
    WarehouseUnavailableError,
)

Session = psycopg.Connection[TupleRow]
Connect = Callable[[], Session]

_CONNECT_SECONDS = 10
_LOST = ("08", "57P", "58")  # connection, shut down or killed, system error
_EXHAUSTED = ("53100", "53400")  # disk full, configured limit
_CONFLICT = ("40", "55P03", "55006")  # rolled back by another, lock not available, in use
_ROWS = ("21", "22", "23")  # cardinality, a value, a constraint
_DEPENDED_ON = "0A000"  # a type is altered; the detail names what depends on the column
_TOO_LARGE = "54000"  # of a row, or of a key for its index; the message has sizes, no values


class RowsRefusedError(PermanentError):
    """Rows do not fit their table: a value, a key given twice, a day that was not asked for."""


# By the first state that fits: the error, and what to do.
_MEANINGS: tuple[tuple[tuple[str, ...], type[HeadraceError], str], ...] = (
    (_ROWS, RowsRefusedError, "correct or quarantine these rows before they are loaded"),
    (
        (_TOO_LARGE,),
        RowsRefusedError,
        "shorten or quarantine the values that are this long before they are loaded",
    ),
    (
        (_DEPENDED_ON,),
        PermanentError,
        "drop what depends on the column, load, and make it again",
    ),
    (
        _EXHAUSTED,
        PermanentError,
        "free space where Postgres keeps its data; nothing was published",
    ),
    (_CONFLICT, CommitConflictError, "run it again; nothing was published"),
    ((*_LOST, "53"), WarehouseUnavailableError, "run it again once Postgres answers"),
)


def connection_factory(url: str) -> Connect:
    """What opens sessions with the database at `url`; see `connect`."""
    return lambda: connect(url)


def connect(url: str) -> Session:
    """A session in autocommit mode, in UTC.

    Raises:
        ConfigError: `url` is none of libpq's. The message does not repeat it: it has a password.
        WarehouseUnavailableError: Nobody answers, or not to us.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            "a warehouse's URL does not begin with postgresql://",
            fix="give it as postgresql://user:password@host:5432/database, without a driver",
        )
    try:
        session = psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            # Without it a load waits for two hours when its server's machine vanishes.
            tcp_user_timeout=60_000,
            application_name="headrace",
        )
        session.execute("set timezone to 'UTC'")
    except psycopg.OperationalError as error:
        raise WarehouseUnavailableError(
            f"cannot connect to Postgres: {_first_line(error)}",
            fix="see that the server runs and that its URL's host, user and database are right",
        ) from error
    except psycopg.ProgrammingError:
        raise ConfigError(
            "a warehouse's URL cannot be read",
            fix="escape special characters of user and password in it, like %40 for @",
        ) from None
    return session


@contextmanager
def map_errors(doing: str) -> Iterator[None]:
    """Raise this project's errors for psycopg's; `doing` says what was attempted, on what."""
    try:
        yield
    except psycopg.Error as error:
        # Never `from error`: its text quotes rows, and would be printed as the cause.
        raise _translate(error, doing) from None


def advisory_key(kind: str, name: str) -> int:
    """The number of an advisory lock, which every process computes alike."""
    digest = hashlib.sha256(f"headrace:{kind}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


class HeldLock(AbstractContextManager[None]):
    """The lock `name` of a database, until it is released; freed when this process dies, too."""

    def __init__(self, connect: Connect, name: str) -> None:
        """Wait for whoever has it."""
        with map_errors(f"waiting for the lock {name}"):
            self._session = connect()
            self._session.execute("set idle_session_timeout = 0")
            key = advisory_key("lock", name)
            self._session.execute("select pg_advisory_lock(%s)", (key,))

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Free it; once it is free, this does nothing."""
        self._session.close()


@contextmanager
def locked(connect: Connect, name: str) -> Iterator[None]:
    """Hold the lock `name` of the database while the block runs; waits for whoever has it."""
    with HeldLock(connect, name):
        yield


def ensure_namespace(session: Session, name: str) -> None:
    """Make a namespace (Postgres's schema) unless it is there."""
    found = session.execute("select to_regnamespace(quote_ident(%s))", (name,)).fetchone()
    if found is None or found[0] is None:
        with session.transaction():
            # IF NOT EXISTS alone fails when two sessions find it missing at once.
            key = advisory_key("namespace", name)
            session.execute("select pg_advisory_xact_lock(%s)", (key,))
            statement = sql.SQL("create schema if not exists {}")
            session.execute(statement.format(sql.Identifier(name)))


def _translate(error: psycopg.Error, doing: str) -> HeadraceError:
    state = error.sqlstate or ""
    if _is_lost(error):
        state = _LOST[0]
    for states, kind, fix in _MEANINGS:
        if state.startswith(states):
            return kind(f"{doing}: {_said(error, state)}", fix=fix)
    return PermanentError(
        f"{doing}: {_first_line(error)} (SQLSTATE {state or 'unknown'})",
        fix="see that the user may create and change tables there; else this is a defect of ours",
    )


def _said(error: psycopg.Error, state: str) -> str:
    if state.startswith(_ROWS):
        return _place(error)
    if state == _DEPENDED_ON and error.diag.message_detail:
        return f"{_first_line(error)}: {error.diag.message_detail}"
    return _first_line(error)


def _is_lost(error: psycopg.Error) -> bool:
    return isinstance(error, psycopg.OperationalError) and not error.sqlstate


def _place(error: psycopg.Error) -> str:
    """What is wrong and where, without Postgres's words: those of a value quote the value."""
    found = error.diag
    where = {
        "table": found.table_name,
        "column": found.column_name,
        "constraint": found.constraint_name,
    }
    # COPY names the column in its context only: "COPY t, line 1, column c: \"value\"".
    context = (found.context or "").split("\n")[0]
    if not found.column_name and ", column " in context:
        where["column"] = context.split(", column ")[1].split(":")[0]
    named = ", ".join(f"{kind} {name}" for kind, name in where.items() if name)
    return f"{type(error).__name__}{f' in {named}' if named else ''}"


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).split("\n")[0].strip()
