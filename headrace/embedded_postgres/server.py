"""The embedded PostgreSQL: one server a folder, started on demand, reached over a Unix socket."""

import fcntl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psycopg
from psycopg import sql

from headrace.embedded_postgres import data_directory as cluster
from headrace.embedded_postgres import data_directory as known_servers
from headrace.embedded_postgres import outside_home
from headrace.errors import ConfigError, WarehouseUnavailableError

DATABASES = ("dagster", "lake", "warehouse")

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "",
        # Whoever can open the socket is superuser (trust): only the account that runs the server.
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
        # The server's log must not hold what is in the rows. Statements and details do, and so do
        # errors themselves ('invalid input syntax for type integer: "..."'), which go to the client
        # alone: the log has the server's own messages and what ends a session.
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


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server that was seen to serve `data_directory`.

    Attributes:
        data_directory: Where its files are: `<folder>/data`, or where that links to.
        socket_directory: Where its socket is: the `host` for clients that take one (dbt, psql).
        port: Names the socket's file; nothing listens on TCP, unless headrace.embedded_postgres.tcp
            opened it.
    """

    data_directory: Path
    socket_directory: Path
    port: int

    def uri(self, database: str = "warehouse", driver: str | None = None) -> str:
        """URL of a database.

        Args:
            database: One of DATABASES.
            driver: None for libpq and psycopg. SQLAlchemy wants one: since 2.1 it takes a bare
                `postgresql://` for psycopg 3, with which dagster-postgres fails; say `psycopg2`.
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
    """The server of `folder`: found if it runs, else started; made on first use.

    Any number of processes may call this at once. The server outlives the caller. `settings`
    count when this call is the one that starts it.

    Raises:
        ConfigError: The folder cannot hold a server, or belongs to somebody else.
        WarehouseUnavailableError: The server did not come up.
    """
    folder = folder.expanduser().resolve()
    directory = outside_home.data_directory(folder)
    recalled: tuple[EmbeddedPostgres, frozenset[str]] | None = known_servers.recall(directory)
    found = recalled or _look(folder)
    if found is None or set(databases) - found[1]:
        folder.mkdir(parents=True, exist_ok=True)
        # One at a time: two first starts would otherwise both make the files.
        with _locked(folder):
            found = _look(folder) or _launch(folder, settings)
            _create_databases(found[0], [name for name in databases if name not in found[1]])
            found = (found[0], found[1] | {*databases})
        recalled = None
    if recalled is None:
        known_servers.remember(found[0].data_directory, found)
    return found[0]


def find(folder: Path) -> EmbeddedPostgres | None:
    """The server of `folder` if it runs and answers, else None.

    Raises:
        ConfigError: The folder belongs to somebody else.
        WarehouseUnavailableError: It runs, and does not answer.
    """
    found = _look(folder.expanduser().resolve())
    return found[0] if found else None


def stop(folder: Path) -> bool:
    """End the server of `folder`, and no other; False if it was not running.

    Sessions are cut off and their transactions rolled back.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        return False
    with _locked(folder):
        # The process id on file may by now be another program's: it is only believed after the
        # server on that socket has named this data directory.
        found = _look(folder)
        if found is None:
            return False
        directory = found[0].data_directory
        ended = cluster.run("pg_ctl", ["-D", directory, "-m", "fast", "-w", "stop"], directory)
        if ended.returncode:
            raise WarehouseUnavailableError(
                f"the Postgres of {folder} did not stop: {_last_line(ended)}",
                fix=f"look into {directory / 'log'} and stop it again",
            )
        if found[0].socket_directory != directory:
            found[0].socket_directory.rmdir()
        return True


def _look(folder: Path) -> tuple[EmbeddedPostgres, frozenset[str]] | None:
    """The running server of `folder` and its databases; None if none runs.

    Raises:
        WarehouseUnavailableError: It runs, and has not answered for a minute.
    """
    directory = outside_home.data_directory(folder)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while (server := _on_file(directory)) is not None:
        try:
            row = _ask(server)
        except psycopg.OperationalError as error:
            # No answer is no proof: a machine that stalls, a server that starts, recovers or has
            # no session left refuse too. Starting a second one would then fail.
            if not cluster.is_served(directory):
                return None
            if time.monotonic() > deadline:
                raise WarehouseUnavailableError(
                    f"the Postgres of {folder} runs, but does not answer: {error}",
                    fix=f"try again when the machine is less busy; {directory / 'log'} says more",
                ) from error
            time.sleep(_POLL_SECONDS)
        else:
            # A copied folder holds the other one's postmaster.pid, and so the way to its server.
            return (server, frozenset(row[1])) if Path(row[0]) == directory else None
    return None


def _ask(server: EmbeddedPostgres) -> tuple[str, list[str]]:
    """The data directory of whoever answers there, and the names of its databases."""
    with psycopg.connect(
        server.uri("postgres"), autocommit=True, connect_timeout=_CONNECT_SECONDS
    ) as session:
        row: tuple[str, list[str]] | None = session.execute(
            "select current_setting('data_directory'), array(select datname from pg_database)"
        ).fetchone()
    if row is None:
        raise psycopg.OperationalError("it named no data directory")
    return row


def _on_file(directory: Path) -> EmbeddedPostgres | None:
    """What the data directory says about its server, which may no longer run."""
    try:
        lines = (directory / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ConfigError(
            f"{directory} belongs to another user ('{directory.owner()}')",
            fix="run as the user who made it, or set HEADRACE_HOME to a folder of your own",
        ) from None
    port_line, socket_line = 3, 4
    if len(lines) <= socket_line or not lines[socket_line].strip():
        return None
    return EmbeddedPostgres(directory, Path(lines[socket_line].strip()), int(lines[port_line]))


def _launch(folder: Path, settings: Mapping[str, str]) -> tuple[EmbeddedPostgres, frozenset[str]]:
    directory = cluster.place(folder)
    cluster.ensure(directory)
    cluster.forget_dead_server(directory)
    log = directory / "log"
    options = {
        **settings,
        "port": str(_PORT),
        "unix_socket_directories": str(cluster.socket_directory(directory)),
        **_network(folder),
    }
    flags = " ".join(f"-c {name}={_quoted(value)}" for name, value in options.items())
    wait = ("-w", "-t", str(_START_SECONDS))
    started = cluster.run(
        "pg_ctl", ["-D", directory, "-l", log, *wait, "-o", flags, "start"], directory
    )
    found = _await(folder, time.monotonic() + _START_SECONDS)
    if found is None:
        raise WarehouseUnavailableError(
            f"the Postgres of {folder} did not start: {_last_line(started)}",
            fix=f"{log} says why",
        )
    return found


def port_file(folder: Path) -> Path:
    """Where the TCP port of a server is kept; without the file it has none."""
    return folder / "tcp_port"


def _network(folder: Path) -> dict[str, str]:
    """Settings of a server that listens on TCP, as headrace.embedded_postgres.tcp made it."""
    try:
        port = port_file(folder).read_text().strip()
    except FileNotFoundError:
        return {}
    return {"listen_addresses": "127.0.0.1", "port": port}


def _await(folder: Path, deadline: float) -> tuple[EmbeddedPostgres, frozenset[str]] | None:
    """The server once it answers; None at once if its process is gone.

    After a crash it replays its log first, which may take longer than pg_ctl waits.
    """
    while (found := _look(folder)) is None:
        # Between its process and its socket there is a moment in which nothing is on file.
        if (
            not cluster.is_served(outside_home.data_directory(folder))
            or time.monotonic() > deadline
        ):
            return None
        time.sleep(_POLL_SECONDS)
    return found


def _create_databases(server: EmbeddedPostgres, missing: Sequence[str]) -> None:
    if not missing:
        return
    with psycopg.connect(server.uri("postgres"), autocommit=True) as session:
        for name in missing:
            session.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _quoted(value: str) -> str:
    """One word of the shell line that pg_ctl builds from its -o."""
    return "'" + value.replace("'", "'\\''") + "'"


def _last_line(ended: subprocess.CompletedProcess[str]) -> str:
    lines = (ended.stderr + ended.stdout).split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"code {ended.returncode}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
