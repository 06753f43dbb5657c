"""Every value of every type arrives in Postgres as it was, and comes back so."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from psycopg import sql

from headrace.errors import IncompatibleSchemaError, UnpublishedTableError
from headrace.schema import Column, TableSchema
from headrace.warehouse.sessions import RowsRefusedError, Session
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, day, load, sales

SCHEMA = TableSchema(
    (
        Column("id", "int"),
        Column("text", "string"),
        Column("yes", "boolean"),
        Column("small", "int"),
        Column("large", "bigint"),
        Column("ratio", "double"),
        Column("on", "date"),
        Column("at", "timestamp"),
        Column("instant", "timestamptz"),
        Column("money", "decimal(12,2)"),
        Column("exact", "decimal(38,10)"),
        Column("tags", "list<string>"),
    )
)
TABLE = WarehouseTable("edge", "values", SCHEMA, mode="truncate_and_load")


def wall_clock(text: str) -> datetime:
    return datetime.fromisoformat(text)


EDGES: dict[str, list[object]] = {
    "text": [
        "",
        " ",
        "NULL",
        "\\N",
        'a"b',
        "a,b",
        "a\nb",
        "a\r\nb",
        "\t",
        "é漢😀",
        "\\",
        "x" * 70_000,
    ],
    "yes": [True, False],
    "small": [0, -1, 2**31 - 1, -(2**31)],
    "large": [0, -1, 2**63 - 1, -(2**63)],
    "ratio": [0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf")],
    "on": [date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(2000, 2, 29), date.max],
    "at": [
        wall_clock("0001-01-01T00:00:00"),
        wall_clock("1969-12-31T23:59:59.999999"),
        wall_clock("2017-03-26T02:30:00"),
        wall_clock("9999-12-31T23:59:59.999999"),
    ],
    "instant": [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2017, 3, 26, 1, 30, 0, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    "money": [Decimal(text) for text in ("0.00", "-0.01", "9999999999.99", "-9999999999.99")],
    "exact": [Decimal(text) for text in ("0E-10", "1E-10", f"{'9' * 28}.{'9' * 10}", "10000.0")],
    "tags": [[], [""], ["a", "b"], ["NULL", None], ['{x,"y"}', "\\", "a\nb", "漢"], [None]],
}


def rows() -> list[dict[str, object]]:
    depth = max(map(len, EDGES.values()))
    edges = [
        {"id": n} | {name: values[n % len(values)] for name, values in EDGES.items()}
        for n in range(depth)
    ]
    return [*edges, {"id": depth} | dict.fromkeys(EDGES)]


@pytest.fixture
def loaded(warehouse: Warehouse) -> pa.Table:
    given = pa.Table.from_pylist(rows(), schema=SCHEMA.arrow())
    # Small batches that begin anywhere: encoders trip over offsets.
    pieces = pa.concat_tables([given.slice(0, 3), given.slice(3, 1), given.slice(4)])
    warehouse.publish([warehouse.stage(TABLE, (), [((), pieces.to_reader(max_chunksize=2))])])
    return given


@pytest.mark.parametrize("column", EDGES)
def test_postgres_holds_what_was_loaded(loaded: pa.Table, session: Session, column: str) -> None:
    session.execute("set timezone to 'UTC'")
    found = session.execute(
        sql.SQL("select {} from edge.values order by id").format(sql.Identifier(column))
    ).fetchall()
    assert [value for (value,) in found] == loaded[column].to_pylist()


def test_what_is_read_is_what_was_loaded(loaded: pa.Table, warehouse: Warehouse) -> None:
    found = warehouse.read("edge", "values").read_all().sort_by("id")
    assert found.schema == SCHEMA.arrow()
    for name in SCHEMA.names:
        assert found[name].to_pylist() == loaded[name].to_pylist(), name


def test_not_a_number_is_a_value(warehouse: Warehouse) -> None:
    table = WarehouseTable(
        "edge", "nan", TableSchema((Column("x", "double"),)), mode="truncate_and_load"
    )
    given = pa.table({"x": [float("nan"), None]})
    warehouse.publish([warehouse.stage(table, (), [((), given.to_reader())])])
    found = warehouse.read("edge", "nan").read_all()["x"].to_pylist()
    assert [repr(value) for value in found] == ["nan", "None"]


def test_types_are_what_was_declared(loaded: pa.Table, session: Session) -> None:
    assert loaded.num_rows
    found = session.execute(
        "select attname::text, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = 'edge.values'::regclass and attnum > 0 order by attnum"
    ).fetchall()
    assert dict(found) == {
        "id": "integer",
        "text": "text",
        "yes": "boolean",
        "small": "integer",
        "large": "bigint",
        "ratio": "double precision",
        "on": "date",
        "at": "timestamp without time zone",
        "instant": "timestamp with time zone",
        "money": "numeric(12,2)",
        "exact": "numeric(38,10)",
        "tags": "text[]",
    }


def test_one_some_and_all_days_are_read(warehouse: Warehouse) -> None:
    load(warehouse, {day(n): sales(day(n), n + 1) for n in range(4)})

    def count(**which: object) -> int:
        return warehouse.read("warehouse", "fact_sales", **which).read_all().num_rows  # type: ignore[arg-type, no-any-return]

    assert count(days=[day(1)]) == 2
    assert count(days=[day(1), day(3)]) == 6
    assert count(days=[day(20)]) == 0
    assert count(days=[]) == 0
    assert count() == 10
    found = warehouse.read("warehouse", "fact_sales", columns=["amount", "date_key"]).read_all()
    assert found.column_names == ["amount", "date_key"]


def test_many_rows_are_read_in_batches(warehouse: Warehouse) -> None:
    table = WarehouseTable(
        "edge", "many", TableSchema((Column("t", "string"),)), mode="truncate_and_load"
    )
    given = pa.table({"t": ["line\nbreak," + "x" * 990] * 20_000})
    warehouse.publish([warehouse.stage(table, (), [((), given.to_reader())])])
    batches = list(warehouse.read("edge", "many"))
    assert sum(batch.num_rows for batch in batches) == 20_000
    assert len(batches) > 3
    assert set(batches[-1]["t"].to_pylist()) == set(given["t"].to_pylist()[:1])


def test_a_reader_that_is_dropped_halfway_frees_its_session(
    warehouse: Warehouse, session: Session
) -> None:
    table = WarehouseTable(
        "edge", "many", TableSchema((Column("t", "string"),)), mode="truncate_and_load"
    )
    given = pa.table({"t": ["x" * 1000] * 20_000})
    warehouse.publish([warehouse.stage(table, (), [((), given.to_reader())])])
    reader = warehouse.read("edge", "many")
    reader.read_next_batch()
    readers = (
        "select count(distinct pid) from pg_locks join pg_stat_activity using (pid)"
        " where relation = 'edge.many'::regclass and backend_type = 'client backend'"
    )
    assert session.execute(readers).fetchall() == [(1,)]
    del reader
    # Waits for the reader's lock, which ends with its session.
    session.execute("set lock_timeout = '10s'; lock table edge.many")
    assert session.execute(readers).fetchall() == [(0,)]


def test_a_table_that_was_never_published_is_named(warehouse: Warehouse) -> None:
    with pytest.raises(UnpublishedTableError, match=r"edge\.nothing"):
        warehouse.read("edge", "nothing")


def test_types_and_values_that_arrow_cannot_hold_are_named(
    warehouse: Warehouse, session: Session
) -> None:
    session.execute("create table odd (j jsonb, n numeric(4,2), t timestamp)")
    session.execute("insert into odd values (null, 'NaN', 'infinity')")
    with pytest.raises(IncompatibleSchemaError, match=r"'j'.*jsonb"):
        warehouse.read("public", "odd")
    for column in ("n", "t"):
        with pytest.raises(RowsRefusedError, match=f"public.odd.*'{column}'"):
            warehouse.read("public", "odd", columns=[column]).read_all()


def test_a_fact_without_rows_is_read_as_no_rows(warehouse: Warehouse) -> None:
    load(warehouse, {day(0): []})
    found = warehouse.read("warehouse", "fact_sales").read_all()
    assert (found.num_rows, tuple(found.column_names)) == (0, FACT.schema.names)
