"""Faults of a PostgreSQL source: typed, named with a remedy, without URL, row or driver's text."""

import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
import stamina
from psycopg import sql

from headrace.embedded_postgres import server, tcp
from headrace.errors import (
    ConfigError,
    HeadraceError,
    SourceRejectedError,
    SourceUnavailableError,
)
from headrace.sources.connections import Connection
from headrace.sources.postgres.catalog import discover
from headrace.sources.postgres.copy_process import copied_by_psql, psql_command
from headrace.sources.postgres.database import PostgresRelation
from headrace.sources.postgres.session import connect
from headrace.sources.tables.database import Selection
from tests import servers
from tests.contract.tables import DAY, Table, connector_of
from tests.e2e.conftest import scratch_root

pytestmark = pytest.mark.contract

_PASSWORD = "s3cret/%?"  # noqa: S105  # of a server that ends with the tests
_QUOTED = "s3cret%2F%25%3F"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A port on which a server asks for a password."""
    with scratch_root() as root:
        folder = root / "postgres"
        found = servers.start_postgres(folder)
        with psycopg.connect(found.uri("warehouse"), autocommit=True) as session:
            session.execute(f"create role reader login password '{_PASSWORD}'")
            session.execute("create table secret (id int, sold_on date)")
        number = _free_port()
        tcp.open_port(folder, number)
        try:
            yield number
        finally:
            server.stop(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def table(tmp_path: Path) -> Table:
    found = Table(tmp_path)
    found.write(
        "insert into {table} select n, 'canary' || n, n, '2017-01-01' from"
        " generate_series(1, 20000) as n"
    )
    return found


@pytest.fixture
def once() -> Iterator[None]:
    """Nothing is tried twice."""
    with stamina.set_testing(True, attempts=1):
        yield


def failure(table: Table, url: str) -> HeadraceError:
    connector = connector_of(table.entity, url)
    with pytest.raises(HeadraceError) as raised:
        connector.plan([DAY], table.state(), table.run())
    error = raised.value
    assert "SHOP_URL" in f"{error} {error.fix}"
    for canary in ("s3cret", "reader", "127.0.0.1", "FATAL", "connection to server"):
        assert canary not in f"{error} {error.fix} {error.__cause__}"
    return error


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("reader:wrong-s3cret@127.0.0.1:{port}/warehouse", SourceRejectedError, "the password"),
        (f"nobody:{_QUOTED}@127.0.0.1:{{port}}/warehouse", SourceRejectedError, "the password"),
        (f"reader:{_QUOTED}@127.0.0.1:{{port}}/gone", SourceRejectedError, "no such database"),
        (
            f"reader:{_QUOTED}@127.0.0.1:{{port}}/warehouse?sslmode=verify-full",
            SourceRejectedError,
            "no TLS",
        ),
        (f"reader:{_QUOTED}@127.0.0.1:1/warehouse", SourceUnavailableError, "nothing listens"),
        (
            f"reader:{_QUOTED}@nowhere.invalid/warehouse",
            SourceUnavailableError,
            "name is not known",
        ),
    ],
)
def test_a_connection_that_cannot_be_opened_is_named_with_the_reason(
    table: Table, port: int, url: str, kind: type[HeadraceError], said: str
) -> None:
    error = failure(table, f"postgresql://{url.format(port=port)}")
    assert type(error) is kind
    assert said in str(error)
    assert str(error).startswith("connection 'shop': ")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://reader:s3cret@h/d", "does not begin with postgresql://"),
        ("postgresql://reader:s3cret@[h/d", "cannot be parsed"),
    ],
)
def test_a_url_that_is_none_is_refused_without_showing_it(
    table: Table, url: str, problem: str
) -> None:
    error = failure(table, url)
    assert type(error) is ConfigError
    assert str(error) == f"connection 'shop': the URL in SHOP_URL {problem}"


def test_a_table_that_the_user_may_not_read_is_named(table: Table, port: int) -> None:
    url = f"postgresql://reader:{_QUOTED}@127.0.0.1:{port}/warehouse"
    table.entity = table.declare(
        extract={"table": "secret"},
        columns=[{"name": "id", "type": "int"}, {"name": "sold_on", "type": "date"}],
    )
    with pytest.raises(SourceRejectedError, match=r"^secret: the user may not read it") as raised:
        connector_of(table.entity, url).plan([DAY], table.state(), table.run())
    assert "grant select" in raised.value.fix


def test_a_user_who_sees_no_transactions_needs_an_overlap(table: Table, port: int) -> None:
    url = f"postgresql://reader:{_QUOTED}@127.0.0.1:{port}/warehouse"
    columns = [{"name": "id", "type": "int"}, {"name": "at", "type": "timestamptz"}]
    extract: dict[str, Any] = {
        "mode": "watermark",
        "table": None,
        "query": "select 1 as id, timestamptz '2017-01-01' as at",
        "cursor": "at",
        "partition_by": None,
    }
    table.entity = table.declare(columns=columns, extract=extract)
    with pytest.raises(SourceRejectedError, match="does not see the transactions") as raised:
        connector_of(table.entity, url).plan([DAY], table.state(), table.run())
    assert "pg_read_all_stats" in raised.value.fix
    table.entity = table.declare(columns=columns, extract={**extract, "overlap": "1h"})
    assert connector_of(table.entity, url).plan([DAY], table.state(), table.run()).units


def relation(table: Table, **settings: Any) -> PostgresRelation:
    connection = Connection("shop", "SHOP_URL", lambda: table.url, **settings)
    # Small batches, so that a read goes on after the first.
    return PostgresRelation(table.entity, connection, batch_bytes=4096)


@pytest.fixture(params=[False, True], ids=["psycopg", "psql"])
def whole(table: Table, request: pytest.FixtureRequest) -> Selection:
    """All rows, by either way in which they are read."""
    names = tuple(column.name for column in table.entity.columns)
    return Selection(names, is_large=request.param)


def sessions(table: Table) -> list[int]:
    found = table.query(
        "select pid from pg_stat_activity where application_name = 'headrace' and"
        " query like 'copy%' and pid <> pg_backend_pid()"
    )
    return [row[0] for row in found]


def test_a_connection_that_is_cut_in_the_middle_is_transient_and_leaves_nothing(
    table: Table, whole: Selection
) -> None:
    table.write(
        "insert into {table} select n, repeat('x', 500), n, '2017-01-01' from"
        " generate_series(1, 100000) as n"
    )
    reading = relation(table).read(whole)
    next(reading)
    for pid in sessions(table):
        table.query(f"select pg_terminate_backend({pid})")
    with pytest.raises(SourceUnavailableError, match="broke off") as raised:
        list(reading)
    assert "canary" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_a_partition_that_breaks_off_fails_and_is_captured_again(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = table.connector
    read = PostgresRelation.read

    def cut(self: PostgresRelation, selection: Selection) -> Iterator[pa.RecordBatch]:
        yield next(read(replace(self, batch_bytes=4096), selection))
        raise SourceUnavailableError("the server broke off", fix="run it again")

    monkeypatch.setattr(PostgresRelation, "read", cut)
    window = table.capture(DAY, connector=connector)
    assert [*window.failed] == [DAY]
    assert not [*table.data.rglob("*.parquet")]
    monkeypatch.undo()
    assert table.capture(DAY).rows == {DAY: 20000}


def test_the_password_is_not_in_the_command_line_of_psql(table: Table) -> None:
    url = table.url.replace("//postgres@", "//postgres:s3cret@")
    with connect(Connection("shop", "SHOP_URL", lambda: url)) as session:
        assert session.info.password
        command = psql_command(session, sql.SQL("copy t to stdout").format(), {"a": "b'c"}, None)
    assert command is not None
    assert "s3cret" not in " ".join(command)
    assert "set a = 'b''c'" in command


def test_a_read_that_is_given_up_ends_its_session(table: Table, whole: Selection) -> None:
    table.write(
        "insert into {table} select n, repeat('x', 500), n, '2017-01-01' from"
        " generate_series(1, 100000) as n"
    )
    reading = relation(table).read(whole)
    next(reading)
    assert sessions(table)
    began = time.monotonic()
    reading.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5
    deadline = time.monotonic() + 10
    while sessions(table) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sessions(table) == []


def test_a_statement_that_takes_too_long_is_cancelled(table: Table, whole: Selection) -> None:
    table.entity = table.declare(
        extract={"table": None, "query": f"select t.*, pg_sleep(0.001) from {table.name} as t"}
    )
    slow = relation(table, statement_timeout=timedelta(seconds=1))
    with pytest.raises(SourceUnavailableError, match="statement_timeout_seconds"):
        list(slow.read(whole))


@pytest.mark.parametrize("thousands", [200, 600])
def test_a_read_holds_a_few_batches(table: Table, whole: Selection, thousands: int) -> None:
    table.write(
        "insert into {table} select n, repeat('x', 60), n, '2017-01-01' from"
        f" generate_series(1, {thousands * 1000}) as n"
    )
    reader = table.connector.database
    before, peak, count = pa.total_allocated_bytes(), 0, 0
    for batch in reader.read(whole):
        peak, count = max(peak, pa.total_allocated_bytes() - before), count + len(batch)
    assert count == thousands * 1000 + 20000
    assert peak < 40 * 2**20


def test_sessions_read_only(table: Table) -> None:
    with connect(Connection("shop", "SHOP_URL", lambda: table.url)) as session:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.execute(f"delete from {table.name}")
        session.rollback()
    table.entity = table.declare(
        extract={"table": None, "query": f"select t.* from {table.name} as t, nextval('s') as n"}
    )
    table.write("create sequence if not exists s")
    assert "read-only" in str(table.capture(DAY).failed[DAY])


def test_relations_are_found_with_columns_keys_and_indexes(table: Table) -> None:
    table.write("alter table {table} add primary key (id), alter amount set not null")
    table.write("create index on {table} (sold_on)")
    table.write("create view {table}_seen as select id, 1.5::numeric(4, 2) as share from {table}")
    table.write("analyze {table}")
    with connect(Connection("shop", "SHOP_URL", lambda: table.url)) as session:
        orders, seen = discover(session, table.name.partition(".")[0])
    assert (orders.name, orders.kind, orders.rows) == (table.name, "table", 20000)
    assert [(c.name, c.type, c.is_nullable) for c in orders.columns] == [
        ("id", "bigint", False),
        ("name", "string", True),
        ("amount", "int", False),
        ("sold_on", "date", True),
    ]
    assert (orders.key, orders.indexed) == (("id",), ("id", "sold_on"))
    assert (seen.kind, seen.key, seen.rows) == ("view", (), None)
    assert [c.type for c in seen.columns] == ["bigint", "decimal(4,2)"]


class _NoMemory(int):
    """A size at which the thread that reads fails."""

    def __le__(self, other: int) -> bool:
        raise MemoryError


def test_an_error_of_the_thread_that_reads_is_not_the_end_of_the_rows() -> None:
    rows = [sys.executable, "-c", "print('a')"]
    assert b"".join(copied_by_psql(rows, "", 1)) == b"a\n"
    with pytest.raises(MemoryError):
        list(copied_by_psql(rows, "", _NoMemory(1)))


def test_a_servers_language_does_not_hide_the_state_of_an_error() -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('FEHLER:  57014')"]
    with pytest.raises(psycopg.errors.QueryCanceled):
        list(copied_by_psql(failing, "", 1))
