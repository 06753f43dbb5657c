"""The embedded PostgreSQL: one server a folder, started on demand, reached over a Unix socket."""

import fcntl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psycopg
from psycopg import sql

from headrace.embedded_postgres import data_directory, outside_home
from headrace.errors import ConfigError, WarehouseUnavailableError

DATABASES = ("dagster", "lake", "warehouse")

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "",
        # Anyone who can open the socket is superuser (trust): only the server's account.
        "unix_socket_permissions": "0700",
        "shared_buffers": "256MB",
        # A year's load writes about 400 MB of WAL; at 1 GB (default) its checkpoint falls into it.
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        # Compiling costs more than it saves on queries of this size.
        "jit": "off",
        "random_page_cost": "1.1",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # The server's log must not contain values of rows, which statements, details and errors
        # ('invalid input syntax for type integer: "..."') quote: these go to the client only.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
    }
)

_PORT = 5432
_START_SECONDS = 60
_ANSWER_SECONDS = 60
_CONNECT_SECONDS = 10
_POLL_SECONDS = 0.1
# A run calls `start` fifty times. Within this time the server is not queried again.
_CACHE_SECONDS = 5.0


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server.

    Attributes:
        data_directory: `<folder>/data`, or the target of that link.
        socket_directory: The folder of its socket: the `host` for clients such as dbt and psql.
        port: Part of the socket's name; nothing listens on TCP unless `tcp.open_port` was called.
    """

    data_directory: Path
    socket_directory: Path
    port: int

    def uri(self, database: str = "warehouse", driver: str | None = None) -> str:
        """URL of a database.

        Args:
            database: One of DATABASES.
            driver: None for libpq and psycopg. For SQLAlchemy, `psycopg2`: from 2.1 on it reads a
                bare `postgresql://` as psycopg 3, with which dagster-postgres fails.
        """
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        host = quote(str(self.socket_directory), safe="")
        return f"{scheme}://postgres@/{database}?host={host}&port={self.port}"


def start(
    folder: Path,
    *,
    databases: Sequence[str] = DATABASES,
    settings: Mapping[str, str] = SETTINGS,
) -> EmbeddedPostgres:
    """The server of `folder`, started if it does not run, and created on first use.

    Safe to call from several processes at once. The server outlives the caller. `settings` apply
    only if this call starts the server.

    Raises:
        ConfigError: The folder cannot have a server, or belongs to another user.
        WarehouseUnavailableError: The server did not start.
    """
    folder = folder.expanduser().resolve()
    cached = _cached(outside_home.data_directory(folder))
    if cached is not None and cached.databases >= {*databases}:
        return cached.server
    running = _find_running(folder)
    if running is None or not running.databases >= {*databases}:
        folder.mkdir(parents=True, exist_ok=True)
        # Serialized: two first starts would otherwise both run initdb.
        with _locked(folder):
            running = _find_running(folder) or _launch(folder, settings)
            missing = [name for name in databases if name not in running.databases]
            _create_databases(running.server, missing)
            running = _Running(running.server, running.databases | {*databases})
    _cache(running)
    return running.server


def find(folder: Path) -> EmbeddedPostgres | None:
    """The server of `folder`; None if it does not run.

    Raises:
        ConfigError: The folder belongs to another user.
        WarehouseUnavailableError: The server runs and does not answer.
    """
    running = _find_running(folder.expanduser().resolve())
    return running.server if running else None


def stop(folder: Path) -> bool:
    """Stop the server of `folder`; False if it does not run.

    Sessions are ended and their transactions rolled back.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        return False
    with _locked(folder):
        # The process id in postmaster.pid may belong to another program: check that the server on
        # the socket has this data directory.
        running = _find_running(folder)
        if running is None:
            return False
        directory = running.server.data_directory
        ended = data_directory.run(
            "pg_ctl", ["-D", directory, "-m", "fast", "-w", "stop"], directory
        )
        if ended.returncode:
            raise WarehouseUnavailableError(
                f"the Postgres of {folder} did not stop: {_last_line(ended)}",
                fix=f"see {directory / 'log'}, and try again",
            )
        if running.server.socket_directory != directory:
            running.server.socket_directory.rmdir()
        return True


@dataclass(frozen=True)
class _Running:
    """A server that answered, and the databases that it had."""

    server: EmbeddedPostgres
    databases: frozenset[str]


def _find_running(folder: Path) -> _Running | None:
    """The running server of `folder`; None if it does not run.

    Raises:
        WarehouseUnavailableError: The server runs and has not answered for a minute.
    """
    directory = outside_home.data_directory(folder)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while (server := _from_pid_file(directory)) is not None:
        try:
            row = _query(server)
        except psycopg.OperationalError as error:
            # A running server may refuse a connection: while it starts or recovers, without free
            # sessions, or on a stalled machine. Starting a second server would fail.
            if not data_directory.is_served(directory):
                return None
            if time.monotonic() > deadline:
                raise WarehouseUnavailableError(
                    f"the Postgres of {folder} runs, but does not answer: {error}",
                    fix=f"try again when the machine is less busy; {directory / 'log'} says more",
                ) from error
            time.sleep(_POLL_SECONDS)
        else:
            # The postmaster.pid of a copied folder names the socket of the original's server.
            return _Running(server, frozenset(row[1])) if Path(row[0]) == directory else None
    return None


def _query(server: EmbeddedPostgres) -> tuple[str, list[str]]:
    """The data directory and the databases of the server on the socket."""
    with psycopg.connect(
        server.uri("postgres"), autocommit=True, connect_timeout=_CONNECT_SECONDS
    ) as session:
        row: tuple[str, list[str]] | None = session.execute(
            "select current_setting('data_directory'), array(select datname from pg_database)"
        ).fetchone()
    if row is None:
        raise psycopg.OperationalError("the server returned no data directory")
    return row


def _from_pid_file(directory: Path) -> EmbeddedPostgres | None:
    """The server according to postmaster.pid, which may be out of date."""
    try:
        lines = (directory / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ConfigError(
            f"{directory} belongs to another user ('{directory.owner()}')",
            fix="run as that user, or set HEADRACE_HOME to a folder of your own",
        ) from None
    port_line, socket_line = 3, 4
    if len(lines) <= socket_line or not lines[socket_line].strip():
        return None
    return EmbeddedPostgres(directory, Path(lines[socket_line].strip()), int(lines[port_line]))


def _launch(folder: Path, settings: Mapping[str, str]) -> _Running:
    directory = data_directory.choose(folder)
    data_directory.ensure(directory)
    data_directory.forget_dead_server(directory)
    log = directory / "log"
    options = {
        **settings,
        "port": str(_PORT),
        "unix_socket_directories": str(data_directory.socket_directory(directory)),
        **_network(folder),
    }
    flags = " ".join(f"-c {name}={_quoted(value)}" for name, value in options.items())
    wait = ("-w", "-t", str(_START_SECONDS))
    started = data_directory.run(
        "pg_ctl", ["-D", directory, "-l", log, *wait, "-o", flags, "start"], directory
    )
    running = _await_answer(folder, time.monotonic() + _START_SECONDS)
    if running is None:
        raise WarehouseUnavailableError(
            f"the Postgres of {folder} did not start: {_last_line(started)}",
            fix=f"see {log}",
        )
    return running


def port_file(folder: Path) -> Path:
    """The file with the TCP port of a server; without the file it has none."""
    return folder / "tcp_port"


def _network(folder: Path) -> dict[str, str]:
    """Settings of a server whose TCP port was opened by `tcp.open_port`."""
    try:
        port = port_file(folder).read_text().strip()
    except FileNotFoundError:
        return {}
    return {"listen_addresses": "127.0.0.1", "port": port}


def _await_answer(folder: Path, deadline: float) -> _Running | None:
    """Wait until the server answers; None as soon as its process has ended.

    After a crash, recovery may take longer than pg_ctl waits.
    """
    while (running := _find_running(folder)) is None:
        # The process exists for a moment before it writes its socket to postmaster.pid.
        if (
            not data_directory.is_served(outside_home.data_directory(folder))
            or time.monotonic() > deadline
        ):
            return None
        time.sleep(_POLL_SECONDS)
    return running


def _create_databases(server: EmbeddedPostgres, missing: Sequence[str]) -> None:
    if not missing:
        return
    with psycopg.connect(server.uri("postgres"), autocommit=True) as session:
        for name in missing:
            session.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _quoted(value: str) -> str:
    """One word of the shell command that pg_ctl builds from its option -o."""
    return "'" + value.replace("'", "'\\''") + "'"


def _last_line(ended: subprocess.CompletedProcess[str]) -> str:
    lines = (ended.stderr + ended.stdout).split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"code {ended.returncode}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cache(running: _Running) -> None:
    """Cache the answer of a server."""
    directory = running.server.data_directory
    with suppress(OSError):
        _answers()[directory] = (time.monotonic(), _identity(directory), running)


def _cached(directory: Path) -> _Running | None:
    """The cached answer of a data directory's server, if it is recent and that server runs."""
    if directory not in _answers():
        return None
    answered_at, identity, running = _answers()[directory]
    try:
        is_same = identity == _identity(directory)
    except OSError:
        return None
    is_recent = time.monotonic() - answered_at < _CACHE_SECONDS
    return running if is_recent and is_same and data_directory.is_served(directory) else None


@cache
def _answers() -> dict[Path, tuple[float, str, _Running]]:
    return {}


def _identity(directory: Path) -> str:
    """Process id, data directory and start time of the server, from postmaster.pid."""
    return "\n".join((directory / "postmaster.pid").read_text().split("\n")[:3])
