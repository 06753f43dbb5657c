"""Faults of a MariaDB source: typed, named with a remedy, without URL, row or driver's text."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymysql
import pytest
import stamina

from headrace.errors import ConfigError, HeadraceError, SourceRejectedError, SourceUnavailableError
from headrace.sources.connections import Connection
from headrace.sources.mysql.catalog import discover
from headrace.sources.mysql.database import MysqlRelation
from headrace.sources.mysql.session import close, connect, fetch
from headrace.sources.tables.database import Selection
from tests import mariadb_server
from tests.contract.mysql_tables import MysqlTable, mysql_connector_of, require_mariadb
from tests.contract.tables import DAY
from tests.e2e.conftest import scratch_root

pytestmark = pytest.mark.contract

_PASSWORD = "s3cret/%?@"  # noqa: S105  # of a server that ends with the tests
_QUOTED = "s3cret%2F%25%3F%40"


@pytest.fixture
def table(tmp_path: Path) -> MysqlTable:
    found = MysqlTable(tmp_path)
    found.write(
        "insert into {table} select seq, concat('canary', seq), seq, '2017-01-01'"
        " from seq_1_to_20000"
    )
    return found


@pytest.fixture
def reader(table: MysqlTable) -> Iterator[str]:
    """User and password of an account that may read the table, and nothing else."""
    name = f"reader_{table.schema}"
    table.write(f"create user {name} identified by '{_PASSWORD}'")
    table.write(f"grant select on {table.name} to {name}")
    yield f"{name}:{_QUOTED}"
    table.write(f"drop user {name}")


@pytest.fixture
def once() -> Iterator[None]:
    """Nothing is tried twice."""
    with stamina.set_testing(True, attempts=1):
        yield


def failure(table: MysqlTable, url: str) -> HeadraceError:
    connector = mysql_connector_of(table.entity, url)
    with pytest.raises(HeadraceError) as raised:
        connector.plan([DAY], table.state(), table.run())
    error = raised.value
    for canary in ("s3cret", "reader_", "127.0.0.1", "Can't connect", "Access denied"):
        assert canary not in f"{error} {error.fix} {error.__cause__}"
    return error


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("root:wrong-s3cret@127.0.0.1:{port}/shop", SourceRejectedError, "the password"),
        ("nobody:s3cret@127.0.0.1:{port}/shop", SourceRejectedError, "the password"),
        ("{reader}@127.0.0.1:{port}/shop", SourceRejectedError, "may not use the database"),
        ("root@127.0.0.1:{port}/gone", SourceRejectedError, "no such database"),
        (
            "{reader}@127.0.0.1:{port}/shop?ssl_mode=verify_identity",
            SourceRejectedError,
            "no TLS, and ssl_mode requires it",
        ),
        ("{reader}@127.0.0.1:1/shop", SourceUnavailableError, "nothing listens"),
        ("{reader}@nowhere.invalid/shop", SourceUnavailableError, "name is not known"),
        ("{reader}@127.0.0.1:{port}/shop?ssl_mode=sure", ConfigError, "an ssl_mode that is not"),
        ("{reader}@127.0.0.1:{port}/shop?sslmode=required", ConfigError, "not known: sslmode"),
        ("{reader}@127.0.0.1:{port}/shop?ssl_ca=/gone.pem", ConfigError, "cannot be read"),
        ("{reader}@127.0.0.1:x/shop", ConfigError, "cannot be parsed"),
        ("{reader}@[127.0.0.1/shop", ConfigError, "cannot be parsed"),
    ],
)
def test_a_connection_that_cannot_be_opened_is_named_with_the_reason(
    table: MysqlTable, reader: str, url: str, kind: type[HeadraceError], said: str
) -> None:
    found = "mysql://" + url.format(port=table.server.port, reader=reader)
    error = failure(table, found)
    assert type(error) is kind
    assert said in str(error)
    assert str(error).startswith("connection 'shop': ")
    assert "SHOP_URL" in f"{error} {error.fix}"


def test_a_url_of_another_database_is_refused_without_showing_it(table: MysqlTable) -> None:
    error = failure(table, "postgresql://reader_:s3cret@127.0.0.1/shop")
    assert "does not begin with mysql://" in str(error)


def test_a_table_that_the_user_may_not_read_is_named(table: MysqlTable, reader: str) -> None:
    url = f"mysql://{reader}@127.0.0.1:{table.server.port}/"
    connector = mysql_connector_of(table.entity, url)
    assert connector.plan([DAY], table.state(), table.run()).units
    table.write(f"revoke select on {table.name} from {reader.partition(':')[0]}")
    error = failure(table, url)
    assert isinstance(error, SourceRejectedError)
    assert str(error).startswith(f"{table.name}: the user may not read it")
    assert "grant select" in error.fix


def test_a_user_who_sees_no_transactions_needs_an_overlap(table: MysqlTable, reader: str) -> None:
    url = f"mysql://{reader}@127.0.0.1:{table.server.port}/"
    extract = {"mode": "watermark", "cursor": "sold_on", "partition_by": None}
    table.entity = table.declare(extract=extract)
    error = failure(table, url)
    assert "does not see the transactions" in str(error)
    assert "PROCESS" in error.fix
    table.entity = table.declare(extract={**extract, "overlap": "1h"})
    connector = mysql_connector_of(table.entity, url)
    assert connector.plan([DAY], table.state(), table.run()).units


def relation(table: MysqlTable, **settings: Any) -> MysqlRelation:
    connection = Connection("shop", "SHOP_URL", lambda: table.url, **settings)
    # Small batches, so that a read goes on after the first.
    return MysqlRelation(table.entity, connection, batch_bytes=4096)


def whole(table: MysqlTable) -> Selection:
    return Selection(tuple(column.name for column in table.entity.columns))


def sessions(table: MysqlTable) -> list[int]:
    found = table.query(
        "select id from information_schema.processlist where id <> connection_id()"
        f" and info like '%{table.schema}%'"
    )
    return [row[0] for row in found]


def enlarge(table: MysqlTable) -> None:
    table.write(
        "insert into {table} select seq, repeat('x', 500), seq, '2017-01-01' from seq_1_to_100000"
    )


def test_a_connection_that_is_cut_in_the_middle_is_transient_and_leaves_nothing(
    table: MysqlTable,
) -> None:
    enlarge(table)
    reading = relation(table).read(whole(table))
    next(reading)
    for number in sessions(table):
        table.query(f"kill {number}")
    with pytest.raises(SourceUnavailableError, match="broke off") as raised:
        list(reading)
    assert "canary" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_a_statement_that_is_killed_is_transient(table: MysqlTable) -> None:
    enlarge(table)
    reading = relation(table).read(whole(table))
    next(reading)
    for number in sessions(table):
        table.query(f"kill query {number}")
    with pytest.raises(SourceUnavailableError):
        list(reading)


def test_a_read_that_is_given_up_ends_its_session(table: MysqlTable) -> None:
    enlarge(table)
    reading = relation(table).read(whole(table))
    next(reading)
    assert sessions(table)
    began = time.monotonic()
    reading.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5
    deadline = time.monotonic() + 10
    while sessions(table) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sessions(table) == []


def test_a_statement_that_takes_too_long_is_cancelled(table: MysqlTable) -> None:
    table.entity = table.declare(
        extract={"table": None, "query": f"select * from {table.name} where sleep(0.001) = 0"}
    )
    slow = relation(table, statement_timeout=timedelta(seconds=1))
    with pytest.raises(SourceUnavailableError, match="statement_timeout_seconds"):
        list(slow.read(whole(table)))


def test_a_server_that_restarts_breaks_a_read_off_and_is_waited_for(tmp_path: Path) -> None:
    require_mariadb()
    with scratch_root() as root, mariadb_server.running(root) as server:
        table = MysqlTable(tmp_path, server=server)
        enlarge(table)
        reading = relation(table).read(whole(table))
        next(reading)
        server.restart()
        with pytest.raises(SourceUnavailableError, match="broke off"):
            list(reading)
        assert table.capture(DAY).rows == {DAY: 100_000}


@pytest.mark.parametrize("thousands", [200, 600])
def test_a_read_holds_a_few_batches(table: MysqlTable, thousands: int) -> None:
    table.write(
        "insert into {table} select seq, repeat('x', 60), seq, '2017-01-01'"
        f" from seq_1_to_{thousands * 1000}"
    )
    reader = table.connector.database
    before, peak, count = pa.total_allocated_bytes(), 0, 0
    for batch in reader.read(whole(table)):
        peak, count = max(peak, pa.total_allocated_bytes() - before), count + len(batch)
    assert count == thousands * 1000 + 20000
    assert peak < 40 * 2**20


def test_sessions_read_only(table: MysqlTable) -> None:
    session = connect(Connection("shop", "SHOP_URL", lambda: table.url))
    with pytest.raises(pymysql.MySQLError, match="READ ONLY"):
        fetch(session, f"delete from {table.name}")
    close(session)
    table.write(
        f"create function {table.schema}.taken() returns int begin delete from {{table}};"
        " return 1; end"
    )
    query = f"select t.*, {table.schema}.taken() as n from {table.name} as t"
    table.entity = table.declare(extract={"table": None, "query": query})
    with pytest.raises(SourceRejectedError, match="read-only"):
        table.capture(DAY)


def test_what_a_server_sets_for_all_sessions_does_not_cut_a_result(table: MysqlTable) -> None:
    table.write("set global sql_select_limit = 5")
    try:
        assert table.capture(DAY).rows == {DAY: 20000}
    finally:
        table.write("set global sql_select_limit = default")


def test_relations_are_found_with_columns_keys_and_indexes(table: MysqlTable) -> None:
    table.write("alter table {table} add primary key (id), modify amount int not null")
    table.write("create index by_day on {table} (sold_on)")
    table.write("create index by_text on {table} (name(10))")
    table.write(
        "create view {table}_seen as select id, cast(1.5 as decimal(4, 2)) as share from {table}"
    )
    table.write(
        f"create table {table.schema}.types (a bigint unsigned, b tinyint(1), c bit(1), d bit(40),"
        " e decimal(65,30), f timestamp, g datetime, h json comment 'said')"
    )
    table.write("analyze table {table}")
    session = connect(Connection("shop", "SHOP_URL", lambda: table.url))
    try:
        orders, seen, types = discover(session, table.schema)
    finally:
        close(session)
    assert (orders.name, orders.kind) == (table.name, "table")
    assert orders.rows is not None
    assert abs(orders.rows - 20000) < 2000
    assert [(c.name, c.type, c.is_nullable) for c in orders.columns] == [
        ("id", "bigint", False),
        ("name", "string", True),
        ("amount", "int", False),
        ("sold_on", "date", True),
    ]
    assert (orders.key, orders.indexed) == (("id",), ("id", "sold_on"))
    assert (seen.kind, seen.key, seen.rows) == ("view", (), None)
    assert [c.type for c in seen.columns] == ["bigint", "decimal(4,2)"]
    assert [c.type for c in types.columns] == [
        *("bigint unsigned", "tinyint(1)", "tinyint(1)", "bigint", "numeric"),
        *("timestamptz", "timestamp", "string"),
    ]
    assert types.columns[-1].comment == "said"


def test_a_prepared_transaction_holds_the_watermark(tmp_path: Path) -> None:
    table = MysqlTable(
        tmp_path,
        "create table {} (id bigint primary key, at timestamp(6) null)",
        columns=[{"name": "id", "type": "bigint"}, {"name": "at", "type": "timestamptz"}],
        extract={"mode": "watermark", "cursor": "at", "partition_by": None},
    )
    session = table.server.connect()
    with session.cursor() as cursor:
        cursor.execute(f"xa start '{table.schema}'")
        cursor.execute(f"insert into {table.name} values (1, '2017-01-01')")
        cursor.execute(f"xa end '{table.schema}'")
        cursor.execute(f"xa prepare '{table.schema}'")
    session.close()
    try:
        deadline = time.monotonic() + 10
        while not horizon(table).is_held and time.monotonic() < deadline:
            time.sleep(0.1)
        assert horizon(table).is_held
        table.write("insert into {table} values (2, '2017-01-01')")
        window = table.capture(DAY)
        assert any("prepared" in text for text in window.notices)
        table.write(f"xa commit '{table.schema}'")
    except BaseException:
        table.write(f"xa rollback '{table.schema}'")
        raise
    table.capture(DAY)
    assert {*table.latest()} == {(1,), (2,)}


def horizon(table: MysqlTable) -> Any:
    database = table.connector.database
    with database.look() as snapshot:
        return snapshot.horizon()


def test_the_oldest_transaction_is_known_whatever_the_clock_of_the_server_s_machine(
    table: MysqlTable,
) -> None:
    assert horizon(table).oldest is None
    began = datetime.now(UTC)
    with table.open() as late:
        late.execute(f"insert into {table.name} values (-1, 'late', 1, '2017-01-01')")
        time.sleep(1.5)
        found = horizon(table)
    # The machine's clock is not in UTC, and may have gone back since.
    assert began - timedelta(hours=1, seconds=2) < found.oldest < began - timedelta(minutes=59)
    assert abs(found.now - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_statement_that_waits_for_a_lock_of_its_table_counts_from_its_begin(
    table: MysqlTable,
) -> None:
    with table.server.connect() as locking, locking.cursor() as cursor:
        cursor.execute(f"lock tables {table.name} read")
        began = datetime.now(UTC)
        waiting = threading.Thread(
            target=table.write, args=("insert into {table} values (-1, 'x', 1, '2017-01-01')",)
        )
        waiting.start()
        time.sleep(2.2)
        found = horizon(table)
        cursor.execute("unlock tables")
        waiting.join()
    assert found.oldest is not None
    assert began - timedelta(seconds=3) < found.oldest <= began + timedelta(seconds=0.5)
