"""A small fact and a small dimension, and short ways to load them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

import pyarrow as pa
from psycopg import sql

from headrace.date_keys import date_key
from headrace.schema import Column, TableSchema
from headrace.warehouse.loading.load_transaction import LoadResult
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.loading.staging import month_batches
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse

Row = Mapping[str, object]

FACT = WarehouseTable(
    "warehouse",
    "fact_sales",
    TableSchema(
        (
            Column("date_key", "int", nullable=False),
            Column("product_key", "bigint", nullable=False),
            Column("amount", "decimal(12,2)"),
        )
    ),
    indexes=(("product_key",), ("date_key",)),
    partition_column="date_key",
)

PRODUCT = WarehouseTable(
    "warehouse",
    "dim_product",
    TableSchema(
        (Column("product_key", "bigint", nullable=False), Column("brand", "string")),
    ),
    primary_key=("product_key",),
    mode="upsert",
)

FIRST = date(2017, 1, 30)


def day(number: int) -> date:
    """Days around the end of a month: 0 and 1 are in January, 2 to 29 in February."""
    return FIRST + timedelta(days=number)


def sale(on: date, product: int, amount: str | None = "1.00") -> Row:
    return {"date_key": date_key(on), "product_key": product, "amount": amount}


def sales(on: date, count: int, amount: str = "1.00") -> list[Row]:
    return [sale(on, number, amount) for number in range(count)]


def arrow(table: WarehouseTable, rows: Iterable[Row]) -> pa.Table:
    """Rows as Arrow; decimals are given as text."""
    given = list(rows)
    schema = table.schema.arrow()
    columns = []
    for field in schema:
        values = [row[field.name] for row in given]
        first = pa.string() if pa.types.is_decimal(field.type) else field.type
        columns.append(pa.array(values, first).cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def stage(
    warehouse: Warehouse, days: Mapping[date, Sequence[Row]], table: WarehouseTable = FACT
) -> StagedLoad:
    rows = arrow(table, (row for some in days.values() for row in some))
    return warehouse.stage(table, days, month_batches(table, days, rows))


def load(
    warehouse: Warehouse, days: Mapping[date, Sequence[Row]], table: WarehouseTable = FACT
) -> LoadResult:
    return warehouse.publish([stage(warehouse, days, table)])[0]


def load_all(
    warehouse: Warehouse, rows: Iterable[Row], table: WarehouseTable = PRODUCT
) -> LoadResult:
    """Load a table without partitions."""
    slices = [((), arrow(table, rows).to_reader())]
    return warehouse.publish([warehouse.stage(table, (), slices)])[0]


def published(session: Session, table: str = "warehouse.fact_sales") -> list[tuple[object, ...]]:
    """The rows in order, numbers as text."""
    columns = "date_key, product_key, amount::text" if "fact" in table else "*"
    query = sql.SQL("select {} from {}").format(sql.SQL(columns), sql.Identifier(*table.split(".")))
    return sorted(session.execute(query).fetchall(), key=_nulls_first)


def rows_of(days: Mapping[date, Sequence[Row]]) -> list[tuple[object, ...]]:
    rows = (row for some in days.values() for row in some)
    return sorted(((r["date_key"], r["product_key"], r["amount"]) for r in rows), key=_nulls_first)


def staging_tables(session: Session) -> list[str]:
    return [
        name
        for (name,) in session.execute(
            "select relname::text from pg_class as c join pg_namespace as n"
            " on n.oid = c.relnamespace where n.nspname = 'staging' and c.relkind = 'r'"
        )
    ]


def _nulls_first(row: tuple[object, ...]) -> tuple[tuple[bool, object], ...]:
    return tuple((value is not None, value) for value in row)
