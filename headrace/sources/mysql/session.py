"""Read-only sessions with a MySQL or MariaDB, and errors that quote neither URL nor rows."""

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.connections import Connection as MysqlConnection

from headrace.errors import ConfigError, HeadraceError, SourceRejectedError
from headrace.sources.connections import Connection, retried
from headrace.sources.tables.errors import (
    broken_off,
    refused,
    timed_out,
    unreachable,
    wrong_url,
)

Session: TypeAlias = "MysqlConnection[Any]"
Rows = tuple[tuple[Any, ...], ...]

_CONNECT_SECONDS = 10
_PORT = 3306
_SCHEMES = ("mysql", "mariadb")
_OPTIONS = ("ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "unix_socket")
_SSL_MODES = ("disabled", "preferred", "required", "verify_ca", "verify_identity")
# What values and their text form depend on, and what would cut a result or break it off. A row is
# then the same text in every session. sql_mode '' reads zero dates, and lets no pad character in.
_SETTINGS = (
    "time_zone = '+00:00'",
    "sql_mode = ''",
    "sql_auto_is_null = 0",
    "sql_select_limit = 18446744073709551615",
    "net_write_timeout = 600",
)
_TIMEOUT = (1317, 1969, 3024)  # Query interrupted; the statement timeout of MariaDB and of MySQL.
_TRANSIENT = {
    1021: "its disk is full",
    1040: "it has no session left",
    1053: "it is shutting down",
    1158: "the connection was lost",
    1159: "the connection was lost",
    1160: "the connection was lost",
    1161: "the connection was lost",
    1203: "it has no session left for this user",
    1205: "a lock was waited for too long",
    1213: "a deadlock",
    1226: "the user has used up its limit",
    1412: "the table was altered during the read",
    1927: "the connection was ended",
    2006: "the connection was lost",
    2013: "the connection was lost",
    2055: "the connection was lost",
    4031: "the connection was idle too long",
}
_GRANT = "grant select on it to the connection's user"
_CORRECT = "correct table or query"
_URL = "check user, password and database of the connection"
_REJECTED = {
    1044: ("the user may not read its database", _GRANT),
    1045: ("the server refuses the user", _URL),
    1046: ("no database is named", "write table as database.table, or name one in the URL"),
    1049: ("its database does not exist", _CORRECT),
    1054: ("it has no column of that name", "correct the names of columns (`from`)"),
    1060: ("the query gives two columns the same name", "give each an alias of its own"),
    1064: ("the query is no SQL that the server reads", "correct query"),
    1142: ("the user may not read it", _GRANT),
    1143: ("the user may not read one of its columns", _GRANT),
    1146: ("it, or a relation that it reads, does not exist", _CORRECT),
    1227: ("the user lacks a privilege that the statement needs", "grant it to the user"),
    1305: ("a function that it calls does not exist", "correct query"),
    1356: ("the view reads what does not exist, or what its definer may not read", _CORRECT),
    1370: ("the user may not execute a function that it calls", "grant execute on it"),
    1792: ("the query writes, and sessions are read-only", "let query read only"),
}
# While a session is opened.
_REFUSED = {
    1044: "the user may not use the database",
    1045: "the server refuses the user or the password",
    1049: "there is no such database",
    1130: "the server does not let this machine in",
    1251: "the server asks for a login that is not supported",
    1524: "the server asks for a login that it does not know",
    1698: "the server refuses the user or the password",
    1862: "the user's password has expired",
    2026: "the server has no TLS, and ssl_mode requires it",
    2059: "the server asks for a login that is not supported",
    3118: "the user is locked",
    3159: "the server requires TLS: ssl_mode=required",
    4151: "the user is locked",
}


def connect(connection: Connection) -> Session:
    """A session in read-only transactions of one snapshot each; waits for a server that restarts.

    Raises:
        ConfigError: The URL's variable is not set, or the URL cannot be parsed.
        SourceUnavailableError: The server does not answer.
        SourceRejectedError: It refuses the login.
    """
    return retried(lambda: _connect(connection))


def fetch(session: Session, statement: str, values: Mapping[str, object] | None = None) -> Rows:
    """All rows of a statement."""
    with session.cursor() as cursor:
        cursor.execute(statement, values)
        return tuple(cursor.fetchall())


def begin(session: Session) -> None:
    """Begin a transaction of which every statement sees the tables of InnoDB as they are now."""
    fetch(session, "start transaction with consistent snapshot, read only")


def close(session: Session) -> None:
    """End a session, also in the middle of a result."""
    if session.open:
        session.close()


@contextmanager
def map_errors(label: str) -> Iterator[None]:
    """Raise this project's errors for PyMySQL's; `label` begins their message."""
    try:
        yield
    except pymysql.MySQLError as error:
        # Not `from error`: its text quotes rows, and a traceback would print it.
        raise _mapped_error(error, label) from None


def _mapped_error(error: pymysql.MySQLError, label: str) -> HeadraceError:
    """This project's error for one of PyMySQL's, of a statement that reads `label`."""
    number = _number(error)
    if number in _TIMEOUT:
        return timed_out(label)
    # PyMySQL's own errors, such as those of a session that is closed, have no number.
    is_lost = not number and isinstance(error, pymysql.InterfaceError | pymysql.OperationalError)
    if number in _TRANSIENT or is_lost:
        why = _TRANSIENT.get(number, "the connection was lost")
        return broken_off(label, f"{why} (error {number})")
    if number in _REJECTED:
        what, fix = _REJECTED[number]
        return SourceRejectedError(f"{label}: {what} (error {number})", fix=fix)
    kind = type(error).__name__
    return SourceRejectedError(
        f"{label}: the server rejects the statement: {kind} (error {number or 'unknown'})",
        fix="look the number up among the error codes of MySQL or MariaDB",
    )


def _connect(connection: Connection) -> Session:
    arguments = _arguments(connection)
    try:
        session: Session = pymysql.connect(
            **arguments,
            connect_timeout=_CONNECT_SECONDS,
            # The server cancels a statement before this.
            read_timeout=connection.statement_timeout.total_seconds() + 60,
            write_timeout=60,
            charset="utf8mb4",
            program_name="headrace",
            autocommit=True,
            local_infile=False,
        )
    except pymysql.MySQLError as error:
        raise _connect_error(error, connection) from None
    try:
        with map_errors(f"connection '{connection.name}'"):
            _prepare(session, connection)
    except BaseException:
        close(session)
        raise
    return session


def _prepare(session: Session, connection: Connection) -> None:
    seconds = connection.statement_timeout.total_seconds()
    timeout = f"max_execution_time = {int(seconds * 1000)}"
    if "MariaDB" in session.get_server_info():  # type: ignore[no-untyped-call]
        timeout = f"max_statement_time = {seconds}"
    settings = ", ".join(f"session {setting}" for setting in (*_SETTINGS, timeout))
    fetch(session, f"set {settings}")
    fetch(session, "set session transaction isolation level repeatable read, read only")


def _arguments(connection: Connection) -> dict[str, Any]:
    """What PyMySQL takes, from the URL."""
    try:
        parts = urlsplit(connection.url())
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
        port = parts.port
    except ValueError:  # Its text quotes the URL.
        raise _url_error(connection, "cannot be parsed") from None
    if parts.scheme not in _SCHEMES:
        raise _url_error(connection, "does not begin with mysql://")
    options = {name.lower().replace("-", "_"): value for name, value in options.items()}
    if unknown := sorted(options.keys() - {*_OPTIONS}):
        raise wrong_url(
            connection,
            f"has an option that is not known: {', '.join(unknown)}",
            f"options are {', '.join(_OPTIONS)}",
        )
    return {
        "host": parts.hostname or "localhost",
        "port": port or _PORT,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.removeprefix("/")) or None,
        "unix_socket": options.get("unix_socket"),
        **_tls(connection, options),
    }


def _tls(connection: Connection, options: Mapping[str, str]) -> dict[str, Any]:
    default = "verify_ca" if "ssl_ca" in options else "preferred"
    mode = options.get("ssl_mode", default).lower().replace("-", "_")
    if mode not in _SSL_MODES:
        raise wrong_url(
            connection,
            "has an ssl_mode that is not known",
            f"it is one of {', '.join(_SSL_MODES)}",
        )
    if mode == "disabled":
        return {"ssl_disabled": True}
    if mode == "preferred":
        return {}  # PyMySQL encrypts where the server can, and checks no certificate.
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca"))
        if "ssl_cert" in options:
            context.load_cert_chain(options["ssl_cert"], options.get("ssl_key"))
    except (OSError, ssl.SSLError):
        raise ConfigError(
            f"connection '{connection.name}': a certificate that the URL in {connection.variable} "
            "names cannot be read",
            fix="check the files of ssl_ca, ssl_cert and ssl_key",
        ) from None
    context.check_hostname = mode == "verify_identity"
    if mode == "required":
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


def _url_error(connection: Connection, what: str) -> ConfigError:
    return wrong_url(
        connection,
        what,
        "write mysql://user:password@host:3306/database; percent-encode special characters of "
        "user and password, such as %40 for @",
    )


def _connect_error(error: pymysql.MySQLError, connection: Connection) -> HeadraceError:
    number = _number(error)
    cause = getattr(error, "original_exception", None)
    why = _REFUSED.get(number)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = "the server's certificate is not signed by a known authority"
        if (
            "hostname" in cause.verify_message.lower()
            or "ip address" in cause.verify_message.lower()
        ):
            why = "the server's certificate is of another host"
    elif isinstance(cause, ssl.SSLError):
        why = "the server and this machine agree on no TLS"
    if why:
        return refused(connection, why)
    why = _TRANSIENT.get(number, "the server cannot be reached")
    if isinstance(cause, socket.gaierror):
        why = "the host's name is not known"
    elif isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        why = "nothing listens on the host's port"
    elif isinstance(cause, TimeoutError):
        why = "the host does not answer"
    return unreachable(connection, why)


def _number(error: pymysql.MySQLError) -> int:
    number = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0
