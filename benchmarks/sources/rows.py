"""The same rows of 12 columns in PostgreSQL, MySQL, JSON Lines and CSV, and their declaration."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from psycopg import sql

from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_source import FileEntity
from headrace.config.sources.table_source import DatabaseSource, TableEntity
from headrace.sources.connections import Connection
from headrace.sources.mysql.session import close, connect, fetch

FIRST, DAYS = date(2017, 1, 1), 365
PARTITIONS = PartitionSettings(start=FIRST, end=FIRST + timedelta(days=DAYS))
TABLE = "bench_orders"
COLUMNS = {
    "order_id": "bigint",
    "customer_id": "int",
    "store_id": "int",
    "product": "string",
    "quantity": "int",
    "amount": "decimal(12,2)",
    "discount": "decimal(6,3)",
    "note": "string",
    "is_paid": "boolean",
    "ordered_on": "date",
    "updated_at": "timestamptz",
    "weight": "double",
}
# A fifth of the notes are NULL; the rows are in the order of their days.
_POSTGRES = """
    create table bench_orders as
    select n::bigint as order_id, (n * 7919 % 50000)::int as customer_id,
        (n % 457)::int as store_id, 'product-' || (n * 31 % 92331) as product,
        (n % 9 + 1)::int as quantity, ((n * 37 % 100000)::numeric / 100)::numeric(12, 2) as amount,
        ((n * 13 % 1000)::numeric / 1000)::numeric(6, 3) as discount,
        case when n % 5 <> 0 then 'note of order ' || n end as note, n % 3 = 0 as is_paid,
        date '2017-01-01' + (n * 365 / {rows})::int as ordered_on,
        timestamptz '2017-01-01 00:00+00' + n * 365.0 * 86400 / {rows} * interval '1 second'
            as updated_at,
        (n * 0.37)::float8 as weight
    from generate_series(0::bigint, {rows} - 1) as n
"""
_MYSQL = """
    insert into bench_orders
    with recursive k (n) as (select 0 union all select n + 1 from k where n < 999),
    numbers as (
        select a.n * 1000000 + b.n * 1000 + c.n as n from k as a, k as b, k as c
        where a.n <= {rows} / 1000000 and a.n * 1000000 + b.n * 1000 + c.n < {rows}
    )
    select n, n * 7919 % 50000, n % 457, concat('product-', n * 31 % 92331), n % 9 + 1,
        n * 37 % 100000 / 100, n * 13 % 1000 / 1000,
        case when n % 5 <> 0 then concat('note of order ', n) end, n % 3 = 0,
        date_add('2017-01-01', interval n * 365 div {rows} day),
        date_add('2017-01-01', interval n * 365 * 86400 div {rows} second), n * 0.37
    from numbers
"""
_MYSQL_TABLE = """
    create table bench_orders (
        order_id bigint primary key, customer_id int, store_id int, product varchar(40),
        quantity int, amount decimal(12, 2), discount decimal(6, 3), note varchar(60),
        is_paid tinyint(1), ordered_on date, updated_at timestamp(6) null, weight double,
        key (ordered_on), key (updated_at)
    )
"""
_FILES = """
    select n as order_id, n * 7919 % 50000 as customer_id, n % 457 as store_id,
        'product-' || (n * 31 % 92331) as product, n % 9 + 1 as quantity,
        (n * 37 % 100000 / 100)::decimal(12, 2) as amount,
        (n * 13 % 1000 / 1000)::decimal(6, 3) as discount,
        case when n % 5 <> 0 then 'note of order ' || n end as note, n % 3 = 0 as is_paid,
        date '2017-01-01' + (n * 365 // {rows})::int as ordered_on,
        strftime(timestamp '2017-01-01' + to_seconds(n * 365 * 86400 // {rows}),
            '%Y-%m-%dT%H:%M:%SZ') as updated_at,
        n * 0.37 as weight
    from range({rows}) as r (n)
"""


def fill_postgres(url: str, rows: int) -> None:
    """Make the table in a PostgreSQL; one of the same name is dropped."""
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("drop table if exists bench_orders")
        session.execute(sql.SQL(_POSTGRES).format(rows=sql.Literal(rows)))
        session.execute("alter table bench_orders add primary key (order_id)")
        session.execute("create index on bench_orders (updated_at)")
        session.execute("create index on bench_orders (ordered_on)")
        session.execute("vacuum analyze bench_orders")


def fill_mysql(url: str, rows: int) -> None:
    """Make the table in a MySQL or MariaDB; one of the same name is dropped."""
    session = connect(Connection("bench", "--mysql", lambda: url))
    try:
        fetch(session, "set session transaction read write")
        for statement in ("drop table if exists bench_orders", _MYSQL_TABLE, _MYSQL):
            fetch(session, statement.replace("{rows}", str(rows)))
        fetch(session, "analyze table bench_orders")
    finally:
        close(session)


def write_json_lines(folder: Path, rows: int) -> Path:
    """Write one file of JSON Lines."""
    path = folder / "orders.jsonl"
    _write(rows, f"to '{path}' (format json)")
    return path


def write_csv(folder: Path, rows: int) -> None:
    """Write a CSV file a day, `orders-2017-01-01.csv` and so on."""
    _write(rows, f"to '{folder}' (format csv, header, partition_by (day))")
    for number, day in enumerate(FIRST + timedelta(days=n) for n in range(DAYS)):
        (found,) = (folder / f"day={number}").glob("*.csv")
        found.rename(folder / f"orders-{day}.csv")


def _write(rows: int, to: str) -> None:
    query = _FILES.replace("{rows}", str(rows))
    if "partition_by" in to:
        query = f"select *, (ordered_on - date '2017-01-01')::int as day from ({query})"  # noqa: S608
    duckdb.execute(f"copy ({query}) {to}")


def table_entity(product: str) -> TableEntity:
    """The table with a watermark, of which a first capture reads all."""
    source = {"name": "bench", "connector": product, "connection": "bench"}
    extract = {
        "mode": "watermark",
        "table": TABLE,
        "cursor": "updated_at",
        "partition_by": "ordered_on",
    }
    entity = {"name": "orders", "key": ["order_id"], "columns": _columns(), "extract": extract}
    return DatabaseSource.model_validate({**source, "entities": [entity]}).entities[0]


def file_entity(path: str, extract_format: str) -> FileEntity:
    """Files of CSV or JSON Lines."""
    extract: dict[str, Any] = {"mode": "files", "path": path}
    if extract_format != "csv":
        extract |= {"format": {"type": extract_format}, "partition_by": "ordered_on"}
    else:
        extract["missing_file"] = "empty"
    document = {"name": "orders", "key": ["order_id"], "columns": _columns(), "extract": extract}
    return FileEntity.model_validate(document)


def _columns() -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in COLUMNS.items()]
