"""The embedded server: one a folder, found by whoever comes, ended by nobody else."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from threading import Timer

import psutil
import psycopg
import pytest
import sqlalchemy

from headrace.embedded_postgres import data_directory, server
from headrace.embedded_postgres.server import EmbeddedPostgres
from headrace.errors import ConfigError, WarehouseUnavailableError
from tests import servers

ROOT = Path(__file__).parents[2]
NewFolder = Callable[[str], Path]


@pytest.fixture
def folder() -> Iterator[NewFolder]:
    """Makes folders whose servers are stopped at the end; pytest's own are closed to others."""
    base = Path(tempfile.mkdtemp(prefix="headrace-server-"))
    base.chmod(0o755)
    made: list[Path] = []

    def new(name: str) -> Path:
        made.append(base / name)
        return made[-1]

    yield new
    for path in made:
        server.stop(path)
    shutil.rmtree(base)


def ask(found: EmbeddedPostgres, query: str, database: str = "warehouse") -> object:
    with psycopg.connect(found.uri(database)) as session:
        row = session.execute(query).fetchone()
        assert row is not None
        return row[0]


def process_id(found: EmbeddedPostgres) -> int:
    return int((found.data_directory / "postmaster.pid").read_text().split()[0])


def test_a_folder_gets_a_server_with_its_databases_and_keeps_it(folder: NewFolder) -> None:
    home = folder("a")
    assert server.find(home) is None
    first = server.start(home)
    second = server.start(home)
    assert first == second == server.find(home)
    for database in server.DATABASES:
        assert ask(first, "select current_database()", database) == database
        assert ask(first, "show data_directory", database) == str(home / "data")


def test_two_folders_never_meet(folder: NewFolder) -> None:
    one, other = server.start(folder("one")), server.start(folder("other"))
    with psycopg.connect(one.uri()) as session:
        session.execute("create table here ()")
    assert ask(one, "select to_regclass('here')::text") == "here"
    assert ask(other, "select to_regclass('here')::text") is None
    assert server.stop(one.data_directory.parent)
    assert server.find(one.data_directory.parent) is None
    assert ask(other, "select 1") == 1
    assert not server.stop(one.data_directory.parent)


def test_what_was_written_is_there_after_a_stop_and_after_a_kill(folder: NewFolder) -> None:
    home = folder("a")
    for number, end in enumerate((server.stop, kill), start=1):
        found = server.start(home)
        with psycopg.connect(found.uri()) as session:
            session.execute("create table if not exists n (n int)")
            session.execute("insert into n values (1)")
        end(home)
        assert ask(server.start(home), "select count(*) from n") == number


def test_processes_that_start_a_folder_at_once_get_one_server(folder: NewFolder) -> None:
    home = folder("a")
    code = (
        "import sys; from pathlib import Path; from headrace.embedded_postgres import server;"
        "print(server.start(Path(sys.argv[1])).uri())"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    answers = {starter.communicate()[0].strip() for starter in starters}
    found = server.find(home)
    assert found is not None
    assert answers == {found.uri()}
    assert [starter.returncode for starter in starters] == [0, 0, 0]


def test_a_long_path_works_and_its_socket_is_private(folder: NewFolder) -> None:
    home = folder("long" * 30)
    found = server.start(home)
    assert ask(found, "show data_directory") == str(home / "data")
    assert found.socket_directory != found.data_directory
    assert found.socket_directory.stat().st_mode & 0o077 == 0
    server.stop(home)
    assert not found.socket_directory.exists()


def test_a_socket_folder_that_somebody_else_made_is_not_used(folder: NewFolder) -> None:
    home = folder("long" * 30)
    squatted = server.start(home).socket_directory
    server.stop(home)
    squatted.mkdir(mode=0o777)
    squatted.chmod(0o777)
    try:
        with pytest.raises(ConfigError, match="belongs to another user"):
            server.start(home)
    finally:
        squatted.rmdir()


@pytest.mark.parametrize("taken_by", ["another server", "nobody"])
def test_a_process_id_left_behind_does_not_keep_the_server_from_starting(
    folder: NewFolder, server_of_all: EmbeddedPostgres, taken_by: str
) -> None:
    home = folder("a")
    found = server.start(home)
    left = (found.data_directory / "postmaster.pid").read_text().split("\n")
    server.stop(home)
    # As after a restart of a container: the number is another program's by now.
    left[0] = str(process_id(server_of_all) if taken_by == "another server" else 2**22 - 1)
    (found.data_directory / "postmaster.pid").write_text("\n".join(left))
    assert server.find(home) is None
    assert not server.stop(home)
    assert ask(server.start(home), "select 1") == 1


def test_a_copied_home_does_not_lead_to_the_server_of_the_other(folder: NewFolder) -> None:
    one, copy = server.start(folder("one")), server.start(folder("copy"))
    server.stop(copy.data_directory.parent)
    shutil.copy(one.data_directory / "postmaster.pid", copy.data_directory / "postmaster.pid")
    assert server.find(copy.data_directory.parent) is None
    assert not server.stop(copy.data_directory.parent)
    assert ask(server.start(copy.data_directory.parent), "show data_directory") == str(
        copy.data_directory
    )
    assert ask(one, "select 1") == 1


def test_a_first_start_that_was_killed_is_begun_anew(folder: NewFolder) -> None:
    home = folder("a")
    (home / "data.unfinished" / "base").mkdir(parents=True)
    (home / "data.unfinished" / "PG_VERSION").write_text("18\n")
    assert ask(server.start(home), "select 1") == 1


def test_a_server_without_a_free_session_is_waited_for(
    folder: NewFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CACHE_SECONDS", 0)
    home = folder("a")
    found = server.start(home, settings={**server.SETTINGS, "max_connections": "5"})
    sessions = ExitStack()
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        take_all_sessions(found, sessions)
    began = time.monotonic()
    Timer(1.0, sessions.close).start()
    assert server.start(home) == found
    assert time.monotonic() - began >= 1.0


def test_a_server_that_stalls_is_waited_for_and_named_if_it_never_answers(
    folder: NewFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder("a")
    found = server.start(home)
    monkeypatch.setattr(server, "_CONNECT_SECONDS", 2)
    monkeypatch.setattr(server, "_CACHE_SECONDS", 0)
    number = process_id(found)
    os.kill(number, signal.SIGSTOP)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(server, "_ANSWER_SECONDS", 0)
            with pytest.raises(WarehouseUnavailableError, match="runs, but does not answer"):
                server.start(home)
        Timer(2.5, os.kill, (number, signal.SIGCONT)).start()
        assert server.start(home) == found
    finally:
        os.kill(number, signal.SIGCONT)
    assert process_id(found) == number


@pytest.mark.parametrize(("version", "said"), [(None, "no PostgreSQL"), ("16", "PostgreSQL 16")])
def test_a_folder_of_something_else_is_refused(
    folder: NewFolder, version: str | None, said: str
) -> None:
    home = folder("a")
    (home / "data").mkdir(parents=True)
    if version:
        (home / "data" / "PG_VERSION").write_text(f"{version}\n")
    with pytest.raises(ConfigError, match=said):
        server.start(home)


def test_a_folder_that_the_servers_account_cannot_enter_is_named(folder: NewFolder) -> None:
    closed = folder("closed")
    (closed / "home").mkdir(parents=True)
    closed.chmod(0o700)
    somebody = pwd.struct_passwd(("pgserver", "x", 2**20, 2**20, "", "/", "/bin/false"))
    with pytest.raises(ConfigError, match=f"cannot enter {closed} on the way") as refused:
        data_directory.require_open_path(closed / "home", somebody)
    assert f"chmod o+x {closed}" in refused.value.fix
    assert closed.stat().st_mode & 0o777 == 0o700
    closed.chmod(0o711)
    data_directory.require_open_path(closed / "home", somebody)


def test_variables_for_other_servers_do_not_count(
    folder: NewFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "nowhere"}.items():
        monkeypatch.setenv(name, value)
    assert ask(server.start(folder("a")), "select 1") == 1


def test_sqlalchemy_gets_its_driver(server_of_all: EmbeddedPostgres) -> None:
    url = server_of_all.uri("dagster", driver="psycopg2")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        found = connection.execute(sqlalchemy.text("select current_database()")).scalar()
    assert found == "dagster"
    assert engine.driver == "psycopg2"


def test_the_server_is_safe_and_heard_by_nobody_else(folder: NewFolder) -> None:
    # As users start it: the tests' own server does not wait for the disk.
    started = server.start(folder("a"))
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "TimeZone": "UTC",
    }
    found = {name: ask(started, f"select current_setting('{name}')") for name in wanted}
    assert found == wanted
    assert started.data_directory.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("insert into k values ('canary-41b'), ('canary-41b')", psycopg.errors.UniqueViolation),
        ("select v::integer from k", psycopg.errors.InvalidTextRepresentation),
        ("do $$ begin raise warning 'canary-41b'; end $$", None),
    ],
)
def test_the_servers_log_shows_no_values(
    server_of_all: EmbeddedPostgres, statement: str, error: type[psycopg.Error] | None
) -> None:
    with psycopg.connect(server_of_all.uri(), autocommit=True) as session:
        session.execute("create temp table k (v text primary key)")
        session.execute("insert into k values ('canary-41b-first')")
        with pytest.raises(error) if error else nullcontext():
            session.execute(statement)
    log = (server_of_all.data_directory / "log").read_text()
    assert "ready to accept connections" in log
    assert "canary-41b" not in log


@pytest.fixture
def server_of_all() -> EmbeddedPostgres:
    return servers.postgres()


def take_all_sessions(found: EmbeddedPostgres, sessions: ExitStack) -> None:
    while True:
        sessions.enter_context(psycopg.connect(found.uri()))


def kill(home: Path) -> None:
    found = server.find(home)
    assert found is not None
    number = process_id(found)
    os.kill(number, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(number) and time.monotonic() < deadline:
        time.sleep(0.02)
