"""Sessions with Postgres: connect, map errors to this project's, advisory locks."""

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

# MERGE ... RETURNING with old and new rows, NOT ENFORCED foreign keys and ANALYZE ONLY.
MINIMUM_SERVER_VERSION = 180_000

_CONNECT_SECONDS = 10
_LOST = ("08", "57P", "58")  # connection, shut down or killed, system error
_EXHAUSTED = ("53100", "53400")  # disk full, configured limit
_CONFLICT = ("40", "55P03", "55006")  # rolled back by another, lock not available, in use
_ROWS = ("21", "22", "23")  # cardinality, a value, a constraint
_DEPENDED_ON = "0A000"  # a type is altered; the detail names what depends on the column
_TOO_LARGE = "54000"  # of a row, or of a key for its index; the message has sizes, no values


class RowsRefusedError(PermanentError):
    """Rows do not fit their table: a value, a repeated key, or a day outside the load."""


# The first entry whose SQLSTATE prefix matches gives the error and its remedy.
_ERRORS: tuple[tuple[tuple[str, ...], type[HeadraceError], str], ...] = (
    (_ROWS, RowsRefusedError, "correct or quarantine these rows before they are loaded"),
    (
        (_TOO_LARGE,),
        RowsRefusedError,
        "shorten or quarantine the values that are this long before they are loaded",
    ),
    (
        (_DEPENDED_ON,),
        PermanentError,
        "drop the objects that depend on the column, load, and create them again",
    ),
    (
        _EXHAUSTED,
        PermanentError,
        "free disk space on the server; nothing was published",
    ),
    (_CONFLICT, CommitConflictError, "run it again; nothing was published"),
    ((*_LOST, "53"), WarehouseUnavailableError, "run it again when Postgres answers"),
)


def connection_factory(url: str) -> Connect:
    """A function that opens sessions with the database at `url`; see `connect`."""
    return lambda: connect(url)


def connect(url: str) -> Session:
    """A session in autocommit mode, in UTC.

    Raises:
        ConfigError: libpq cannot parse `url` (the message omits it, as it holds a password), or the
            server is older than MINIMUM_SERVER_VERSION.
        WarehouseUnavailableError: The server cannot be reached, or rejects the login.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            "the warehouse's URL does not begin with postgresql://",
            fix="give it as postgresql://user:password@host:5432/database, without a driver",
        )
    try:
        session = psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            # With the default, a load waits for two hours when the server's machine is lost.
            tcp_user_timeout=60_000,
            application_name="headrace",
        )
        session.execute("set timezone to 'UTC'")
    except psycopg.OperationalError as error:
        raise WarehouseUnavailableError(
            f"cannot connect to Postgres: {_first_line(error)}",
            fix="check that the server runs, and the host, user and database of its URL",
        ) from error
    except psycopg.ProgrammingError:
        raise ConfigError(
            "the warehouse's URL cannot be parsed",
            fix="percent-encode special characters of its user and password, such as %40 for @",
        ) from None
    _require_supported(session)
    return session


def _require_supported(session: Session) -> None:
    version = session.info.server_version
    if version < MINIMUM_SERVER_VERSION:
        session.close()
        raise ConfigError(
            f"the server is PostgreSQL {version // 10_000}, which is not supported; PostgreSQL "
            f"{MINIMUM_SERVER_VERSION // 10_000} or later is required",
            fix="upgrade the server, name another one by URL, or use the embedded server",
        )


@contextmanager
def map_errors(doing: str) -> Iterator[None]:
    """Raise this project's errors for psycopg's; `doing` begins their message."""
    try:
        yield
    except psycopg.Error as error:
        # Not `from error`: its text quotes rows, and a traceback would print it.
        raise _mapped_error(error, doing) from None


def advisory_key(kind: str, name: str) -> int:
    """The number of an advisory lock, the same in every process."""
    digest = hashlib.sha256(f"headrace:{kind}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


class HeldLock(AbstractContextManager[None]):
    """An advisory lock of a database; released with this object, or when the process ends."""

    def __init__(self, connect: Connect, name: str) -> None:
        """Acquire the lock `name`; waits while another session holds it."""
        with map_errors(f"waiting for the lock {name}"):
            self._session = connect()
            self._session.execute("set idle_session_timeout = 0")
            key = advisory_key("lock", name)
            self._session.execute("select pg_advisory_lock(%s)", (key,))

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock; a second call has no effect."""
        self._session.close()


@contextmanager
def locked(connect: Connect, name: str) -> Iterator[None]:
    """Hold the lock `name` during the block; waits while another session holds it."""
    with HeldLock(connect, name):
        yield


def ensure_namespace(session: Session, name: str) -> None:
    """Create a namespace (Postgres's schema) if it does not exist."""
    found = session.execute("select to_regnamespace(quote_ident(%s))", (name,)).fetchone()
    if found is None or found[0] is None:
        with session.transaction():
            # IF NOT EXISTS alone fails when two sessions create it at the same time.
            key = advisory_key("namespace", name)
            session.execute("select pg_advisory_xact_lock(%s)", (key,))
            statement = sql.SQL("create schema if not exists {}")
            session.execute(statement.format(sql.Identifier(name)))


def _mapped_error(error: psycopg.Error, doing: str) -> HeadraceError:
    state = error.sqlstate or ""
    if _is_lost(error):
        state = _LOST[0]
    for states, kind, fix in _ERRORS:
        if state.startswith(states):
            return kind(f"{doing}: {_description(error, state)}", fix=fix)
    return PermanentError(
        f"{doing}: {_first_line(error)} (SQLSTATE {state or 'unknown'})",
        fix="check that the user may create and alter tables there; if it persists, report a bug",
    )


def _description(error: psycopg.Error, state: str) -> str:
    if state.startswith(_ROWS):
        return _location(error)
    if state == _DEPENDED_ON and error.diag.message_detail:
        return f"{_first_line(error)}: {error.diag.message_detail}"
    return _first_line(error)


def _is_lost(error: psycopg.Error) -> bool:
    return isinstance(error, psycopg.OperationalError) and not error.sqlstate


def _location(error: psycopg.Error) -> str:
    """The error class, table, column and constraint; Postgres's message would quote the value."""
    found = error.diag
    where = {
        "table": found.table_name,
        "column": found.column_name,
        "constraint": found.constraint_name,
    }
    # Errors of COPY name the column in their context only: "COPY t, line 1, column c: \"value\"".
    context = (found.context or "").split("\n")[0]
    if not found.column_name and ", column " in context:
        where["column"] = context.split(", column ")[1].split(":")[0]
    named = ", ".join(f"{kind} {name}" for kind, name in where.items() if name)
    return f"{type(error).__name__}{f' in {named}' if named else ''}"


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).split("\n")[0].strip()
