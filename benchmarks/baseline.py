"""The baseline: a script for one purpose, the demo's year from files to star and marts.

A month is the unit of work. A worker reads its files with DuckDB, encodes them with pgpq, and
copies them into a new table in the transaction that creates it. This allows `COPY ... FREEZE`, with
which index builds need not set hint bits, and sorts of one month fit in the processor's cache. The
months are attached to `fact_sales` at the end.
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pgpq
import psycopg
import pyarrow as pa
from psycopg import sql

from benchmarks import baseline_sql

FOREIGN_KEYS = ("customer_key", "product_key", "location_key", "date_key")

# One more than cores, because a worker and its server process alternate.
_WORKERS = (os.cpu_count() or 1) + 1
_ROWS_A_MESSAGE = 16_384
_SETTINGS = (
    "set synchronous_commit = off; set maintenance_work_mem = '128MB';"
    "set max_parallel_maintenance_workers = 0"
)


@dataclass(frozen=True)
class Month:
    """A month of sales: `name` is yyyymm, `files` its daily files."""

    name: str
    files: tuple[str, ...]

    @property
    def table(self) -> sql.Identifier:
        """The month's partition of the facts."""
        return sql.Identifier("warehouse", f"fact_sales_{self.name}")

    @property
    def bounds(self) -> tuple[sql.Literal, sql.Literal]:
        """Lower (included) and upper bound (excluded) of its date keys."""
        first = int(self.name) * 100
        return sql.Literal(first), sql.Literal(first + 32)


def build(landing: Path, url: str) -> None:
    """Fill the namespaces `warehouse` and `marts` of an empty database, as the platform does.

    Args:
        landing: Folder that demo.stage filled.
        url: psycopg's URL of the database.
    """
    months = _months(landing)
    with psycopg.connect(url) as session:
        session.execute(baseline_sql.TABLES)
    with duckdb.connect() as engine, ThreadPoolExecutor(_WORKERS) as workers:
        engine.execute("set threads = 2; set preserve_insertion_order = false")
        for statement in baseline_sql.READ_MEMBERS:
            engine.execute(statement, {"landing": str(landing)})
        engine.execute(baseline_sql.COLLECTED)
        members = workers.submit(_load, url, _results(engine.cursor(), baseline_sql.DIMENSIONS))
        done = list(workers.map(lambda month: _load_month(engine.cursor(), month, url), months))
        members.result()
        rest = _results(engine, baseline_sql.AT_THE_END)
    with psycopg.connect(url) as session:
        for table, rows in rest.items():
            _copy(session, table, rows)
        session.execute(sql.SQL(";").join((*map(_attachment, done), *map(_index, FOREIGN_KEYS))))


def _months(landing: Path) -> list[Month]:
    files: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((landing / "transactions").glob("transactions-*.csv")):
        year, month, _ = path.stem.removeprefix("transactions-").split("-")
        files[year + month].append(str(path))
    return [Month(name, tuple(paths)) for name, paths in files.items()]


def _load_month(engine: duckdb.DuckDBPyConnection, month: Month, url: str) -> Month:
    """Load facts and marts of one month; `engine` is the worker's own cursor."""
    engine.execute(baseline_sql.READ_SALES, {"files": list(month.files)})
    engine.execute(baseline_sql.COLLECT)
    marts = _results(engine, baseline_sql.MONTHLY_MARTS)
    facts = _results(engine, {"facts": baseline_sql.FACTS})["facts"]
    engine.close()
    with psycopg.connect(url) as session:
        session.execute(_SETTINGS)
        session.execute(sql.SQL("create table {} (like warehouse.fact_sales)").format(month.table))
        _copy(session, month.table, facts, freeze=True)
        session.execute(_indexes_and_bounds(month))
        for table, rows in marts.items():
            _copy(session, table, rows)
    return month


def _results(engine: duckdb.DuckDBPyConnection, queries: dict[str, str]) -> dict[Any, pa.Table]:
    return {table: engine.sql(query).to_arrow_table() for table, query in queries.items()}


def _load(url: str, tables: dict[str, pa.Table]) -> None:
    with psycopg.connect(url) as session:
        for table, rows in tables.items():
            _copy(session, table, rows)


def _copy(
    session: psycopg.Connection,
    table: str | sql.Identifier,
    rows: pa.Table,
    *,
    freeze: bool = False,
) -> None:
    target = sql.Identifier(*table.split(".")) if isinstance(table, str) else table
    statement = sql.SQL("copy {} ({}) from stdin (format binary, freeze {})").format(
        target, _names(rows.column_names), sql.Literal(freeze)
    )
    encoder = pgpq.ArrowToPostgresBinaryEncoder(rows.schema)
    with session.cursor().copy(statement) as stream:
        stream.write(encoder.write_header())
        for batch in rows.to_batches(max_chunksize=_ROWS_A_MESSAGE):
            stream.write(encoder.write_batch(batch))
        stream.write(encoder.finish())


def _names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _indexes_and_bounds(month: Month) -> sql.Composed:
    create = sql.SQL("create index on {} ({})")
    first, end = month.bounds
    # With this constraint, ATTACH PARTITION does not scan the table.
    check = sql.SQL("alter table {} add check (date_key >= {} and date_key < {})")
    return sql.SQL(";").join(
        (
            *(create.format(month.table, sql.Identifier(key)) for key in FOREIGN_KEYS),
            check.format(month.table, first, end),
        )
    )


def _attachment(month: Month) -> sql.Composed:
    statement = sql.SQL(
        "alter table warehouse.fact_sales attach partition {} for values from ({}) to ({})"
    )
    return statement.format(month.table, *month.bounds)


def _index(key: str) -> sql.Composed:
    """An index of the whole table, to which Postgres attaches the existing ones of the months."""
    return sql.SQL("create index on warehouse.fact_sales ({})").format(sql.Identifier(key))


def main() -> None:
    """`python -m benchmarks.baseline --landing DIR --url URL`."""
    parser = argparse.ArgumentParser(description=build.__doc__)
    parser.add_argument("--landing", type=Path, required=True)
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    build(options.landing, options.url)


if __name__ == "__main__":
    main()
