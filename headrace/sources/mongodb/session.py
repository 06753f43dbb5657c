"""Clients of a MongoDB that only read, and errors that quote neither URL nor documents."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.uri_parser import split_options

from headrace.errors import ConfigError, HeadraceError, SourceRejectedError, SourceUnavailableError
from headrace.sources.connections import Connection

Client: TypeAlias = "MongoClient[dict[str, Any]]"

# Dates that Python holds become its datetimes, the others DatetimeMS; a text that is no UTF-8 keeps
# its bytes as surrogates, which Arrow refuses by row.
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="surrogateescape",
)

_SCHEMES = ("mongodb", "mongodb+srv")
# An option of the URL takes precedence.
_DEFAULTS = {
    "appname": "headrace",
    "connectTimeoutMS": 10_000,
    # An election takes ten seconds or so.
    "serverSelectionTimeoutMS": 15_000,
    # What a majority of the replica set holds is never rolled back.
    "readConcernLevel": "majority",
    "maxPoolSize": 2,
}
_SLACK_MS = 60_000
_TIMEOUT = 50
_GRANT = "grant the role read on its database to the connection's user"
_REJECTED = {
    13: ("the user may not read it", _GRANT),
    26: ("there is no such collection", "correct extract.collection and database"),
    166: ("the view cannot be read", "correct the view"),
    167: ("the view reads views in a circle", "correct the view"),
    292: (
        "documents cannot be sorted in the server's memory",
        "let the server use its disk (allowDiskUseByDefault), or read with partition_by",
    ),
}
_REFUSED = {
    11: "the server knows no such user",
    18: "the server refuses the user or the password",
    8000: "the server refuses the user or the password",
}
_TRANSIENT = {
    6: "a host cannot be reached",
    7: "a host's name is not known",
    43: "the server ended the read",
    46: "a lock was waited for too long",
    89: "the connection was lost",
    91: "the server is shutting down",
    112: "a write was in conflict",
    134: "the read concern cannot be met yet",
    175: "the server ended the read: the collection was dropped, or its indexes changed",
    189: "the primary stepped down",
    202: "the network is slow",
    237: "the server ended the read",
    239: "the snapshot is too old",
    262: "the server is too busy",
    9001: "the connection was lost",
    10107: "the server is no primary any more",
    11600: "the server is shutting down",
    11601: "the read was interrupted",
    11602: "the server changes its role",
    13435: "the server is neither primary nor secondary",
    13436: "the server is neither primary nor secondary",
    13388: "the cluster's shards have changed",
}
# Parts of the texts of pymongo, which keeps no cause of an unreachable server.
_UNREACHABLE = (
    ("connection refused", "nothing listens on the host's port"),
    ("name or service not known", "the host's name is not known"),
    ("name resolution", "the host's name is not known"),
    ("getaddrinfo failed", "the host's name is not known"),
    ("nodename nor servname", "the host's name is not known"),
    ("timed out", "the host does not answer"),
)
_UNTRUSTED = (
    ("hostname mismatch", "the server's certificate is of another host"),
    ("ip address mismatch", "the server's certificate is of another host"),
    ("certificate_verify_failed", "the server's certificate is not signed by a known authority"),
    ("ssl handshake failed", "the server and this machine agree on no TLS"),
    ("tlsv1_alert", "the server refuses the client's certificate or TLS version"),
)


@contextmanager
def client_of(connection: Connection) -> Iterator[Client]:
    """A client that is closed afterwards; it connects with the first command.

    Raises:
        ConfigError: The URL cannot be used.
        SourceUnavailableError: The name of mongodb+srv:// is not known.
    """
    client = _client(connection)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def map_errors(label: str, client: Client, connection: Connection) -> Iterator[None]:
    """Errors of pymongo as ours.

    Args:
        label: What is read.
        client: It reads.
        connection: Its connection.
    """
    try:
        yield
    except (PyMongoError, BSONError) as error:
        raise _error(error, label, client, connection) from None


def _client(connection: Connection) -> Client:
    url = connection.url()
    scheme, _, rest = url.partition("://")
    query = rest.partition("?")[2]
    given = {option.partition("=")[0].lower() for option in query.split("&")}
    if scheme not in _SCHEMES:
        raise _url_error(connection, "does not begin with mongodb:// or mongodb+srv://")
    patience = connection.statement_timeout.total_seconds() * 1000 + _SLACK_MS
    defaults = {**_DEFAULTS, "socketTimeoutMS": int(patience)}
    settings = {name: value for name, value in defaults.items() if name.lower() not in given}
    try:
        _require_known_options(query)
        return MongoClient(url, **settings)  # type: ignore[arg-type]
    except (InvalidURI, ValueError, TypeError, OSError):  # Their texts quote the URL.
        raise _url_error(
            connection, "cannot be parsed, has an option that is not known, or names no such file"
        ) from None
    except ConfigurationError as error:
        if type(error.__cause__).__module__.startswith("dns"):
            raise SourceUnavailableError(
                f"connection '{connection.name}': the host's name is not known",
                fix=f"check the host of the URL in {connection.variable}",
            ) from None
        raise _url_error(
            connection, "lacks a password, or has options that contradict each other"
        ) from None


def _require_known_options(query: str) -> None:
    """Refuse options that the client would only warn of: unknown ones, and values it passes over.

    Raises:
        ValueError: The query of the URL has one.
    """
    if not query:
        return
    try:
        split_options(query, validate=True, warn=False)
    except ConfigurationError as error:
        if "Unknown option" in str(error):
            raise ValueError from None
        raise


def _url_error(connection: Connection, what: str) -> ConfigError:
    return ConfigError(
        f"connection '{connection.name}': the URL in {connection.variable} {what}",
        fix="write mongodb://user:password@host:27017/database?tls=true; percent-encode special "
        "characters of user and password, such as %40 for @",
    )


def _error(
    error: PyMongoError | BSONError, label: str, client: Client, connection: Connection
) -> HeadraceError:
    where = f"connection '{connection.name}'"
    url = f"the URL in {connection.variable}"
    if isinstance(error, ServerSelectionTimeoutError):
        return _unreachable(client, where, url)
    if isinstance(error, AutoReconnect):
        details = error.details if isinstance(error.details, dict) else {}
        why = _TRANSIENT.get(details.get("code", 0), "the connection was lost")
        return SourceUnavailableError(
            f"{label}: the server broke off: {why}",
            fix="run it again when the server answers",
        )
    if isinstance(error, OperationFailure):
        return _refusal(error, label, where, url)
    if isinstance(error, ConfigurationError):
        # Such as a login that the server does not offer.
        return SourceRejectedError(
            f"{where}: the server does not offer what the URL demands", fix=f"correct {url}"
        )
    return SourceRejectedError(
        f"{label}: the answer cannot be read: {type(error).__name__}",
        fix="check that a MongoDB answers on the host's port",
    )


def _refusal(error: OperationFailure, label: str, where: str, url: str) -> HeadraceError:
    """An error that the server answered, by its code."""
    code = error.code
    if code in _REFUSED:
        return SourceRejectedError(f"{where}: {_REFUSED[code]}", fix=f"correct {url}")
    if code == _TIMEOUT:
        return SourceUnavailableError(
            f"{label}: the read took longer than statement_timeout_seconds",
            fix="index what it selects by, or raise statement_timeout_seconds of the connection",
        )
    if code in _TRANSIENT:
        return SourceUnavailableError(
            f"{label}: the server broke off: {_TRANSIENT[code]} (code {code})",
            fix="run it again when the server answers",
        )
    what, fix = _REJECTED.get(
        code or 0,
        ("the server rejects the read", "look the code up among the error codes of MongoDB"),
    )
    return SourceRejectedError(f"{label}: {what} (code {code or 'unknown'})", fix=fix)


def _unreachable(client: Client, where: str, url: str) -> HeadraceError:
    servers = client.topology_description.server_descriptions().values()
    said = " ".join(str(server.error).lower() for server in servers if server.error)
    for part, what in _UNTRUSTED:
        if part in said:
            return SourceRejectedError(f"{where}: {what}", fix=f"correct {url}")
    why = next((what for part, what in _UNREACHABLE if part in said), None)
    if why is None:
        is_there = any(server.is_server_type_known for server in servers)
        why = (
            "no server has the role that the URL's readPreference demands"
            if is_there
            else "the server cannot be reached"
        )
    return SourceUnavailableError(
        f"{where}: {why}", fix=f"check that the server runs, and host and port of {url}"
    )
