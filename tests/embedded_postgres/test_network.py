"""The embedded server as a BI tool reaches it: host, port, user and password."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from headrace.embedded_postgres import data_directory, server, tcp
from headrace.errors import ConfigError
from headrace.warehouse.ddl.grants import grant
from headrace.warehouse.sessions import connection_factory
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import day, load, sales


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="headrace-port-"))
    made.chmod(0o755)
    yield made
    server.stop(made)
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def port(folder: Path) -> int:
    with socket.socket() as probe:
        probe.bind((tcp.ADDRESS, 0))
        free = int(probe.getsockname()[1])
    found = tcp.open_port(folder, free)
    assert found.port == free
    warehouse = Warehouse(connection_factory(found.uri("warehouse")))
    load(warehouse, {day(0): sales(day(0), 3)})
    grant(warehouse.connect, "bi_tool")
    with warehouse.connect() as session:
        session.execute(sql.SQL("alter role bi_tool password {}").format(sql.Literal("s3cret")))
    return free


def uri(port: int, user: str, password: str) -> str:
    return f"postgresql://{user}:{password}@{tcp.ADDRESS}:{port}/warehouse"


def test_a_reader_comes_in_by_host_port_and_password(port: int) -> None:
    with psycopg.connect(uri(port, "bi_tool", "s3cret")) as session:
        assert session.execute("select count(*) from warehouse.fact_sales").fetchone() == (3,)
        # What BI tools ask to draw the model: tables, columns and keys.
        named = "select count(*) from information_schema.columns where table_schema = 'warehouse'"
        assert session.execute(named).fetchone() != (0,)


def test_psql_comes_in_the_same_way(port: int) -> None:
    ended = subprocess.run(
        [
            data_directory.programs() / "psql",
            *("-h", tcp.ADDRESS, "-p", str(port), "-U", "bi_tool", "-d", "warehouse", "-At"),
            *("-c", "select count(*) from warehouse.fact_sales"),
        ],
        env={**os.environ, "PGPASSWORD": "s3cret"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == "3"


@pytest.mark.parametrize(("user", "password"), [("bi_tool", "guessed"), ("postgres", "s3cret")])
def test_nobody_else_comes_in(port: int, user: str, password: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"password authentication|rejects"):
        psycopg.connect(uri(port, user, password))


def test_the_port_stays_after_a_restart_and_goes_when_it_is_closed(folder: Path, port: int) -> None:
    server.stop(folder)
    assert server.start(folder).port == port
    tcp.close_port(folder)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(uri(port, "bi_tool", "s3cret"))
    tcp.open_port(folder, port)


def test_a_port_that_is_taken_is_refused_and_the_server_goes_on(folder: Path, port: int) -> None:
    with socket.socket() as other:
        other.bind((tcp.ADDRESS, 0))
        other.listen()
        with pytest.raises(ConfigError, match="nothing can listen"):
            tcp.open_port(folder, other.getsockname()[1])
    found = server.find(folder)
    assert found is not None
    assert found.port == port
