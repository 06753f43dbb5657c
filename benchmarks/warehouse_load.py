"""Facts into the warehouse: the platform against a bare COPY with the same indexes.

Both read the same Parquet files of the lake, and produce the same rows and indexes. The bare load
is one session with pgpq's binary COPY, then CREATE INDEX; for a day, a COPY into the month's table
with its indexes. The platform's load is complete: validation, staging, audit of totals and foreign
keys, publication in one transaction, statistics.
"""

import argparse
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pgpq
import psycopg
import pyarrow as pa
from psycopg import sql

from benchmarks.scratch import PROJECT, Database, scratch_folder, start_server
from headrace.cli.output import print_json, print_table
from headrace.config.loader import Project, load_project
from headrace.config.star.models import FactConfig
from headrace.date_keys import date_key
from headrace.engine.session import SessionSettings, connect
from headrace.lake.catalog import LakeCatalog
from headrace.lake.scan import LakeScan
from headrace.lake.staging import stage_batches
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.pipeline.warehouse import StarLoader, fact_table
from headrace.staged import new_token
from headrace.star.facts import DATE_KEY, lake_fact_schema
from headrace.warehouse.loading.load_transaction import LoadGroup
from headrace.warehouse.sessions import connection_factory
from headrace.warehouse.tables import WarehouseTable, month_of

ROWS_A_DAY = 4_025  # the demo's year: 1,469,307 rows
MEMBERS = {"customer_key": 3_000, "product_key": 95_000, "location_key": 460}
FIRST = date(2017, 1, 1)
_ROWS_A_MESSAGE = 16_384


@dataclass(frozen=True)
class Loads:
    """Both loads of the same rows: the best of some rounds, in seconds."""

    what: str
    rows: int
    bare_seconds: float
    platform_seconds: float

    @property
    def ratio(self) -> float:
        """The platform's rate as a share of the bare one; the target is 0.7."""
        return self.bare_seconds / self.platform_seconds


def main() -> int:
    """Measure and print."""
    options = _options()
    with scratch_folder() as scratch:
        database = start_server(scratch.home("warehouse_load"))
        found = compare(database, scratch.root / "lake", options.days, options.rounds)
    if options.json:
        print_json([{**asdict(each), "ratio": each.ratio} for each in found])
    else:
        rows = [
            (
                each.what,
                f"{each.rows:,}",
                f"{each.bare_seconds:.2f}",
                f"{each.platform_seconds:.2f}",
                f"{each.ratio:.2f}",
            )
            for each in found
        ]
        print_table(("load", "rows", "bare s", "platform s", "rate, share of bare"), rows)
    return 0


def compare(database: Database, lake: Path, days: int, rounds: int) -> list[Loads]:
    """Load `days` days at once, then single days, by both loads in turn."""
    bench = _Bench(database, lake, [FIRST + timedelta(days=n) for n in range(days)])
    return [bench.all_at_once(rounds), bench.day_by_day()]


class _Bench:
    """A fact in the lake, its dimensions in Postgres, and the two loads."""

    def __init__(self, database: Database, lake: Path, days: Sequence[date]) -> None:
        self._project = _project()
        self._fact: FactConfig = self._project.star.facts[0]
        self._table: WarehouseTable = fact_table(self._project, self._fact)
        self._database = database
        self._url = database.url
        self._days = list(days)
        self._lake = _lake_of_facts(self._project, self._fact, database, lake, days)
        with psycopg.connect(self._url, autocommit=True) as session:
            _make_dimensions(session)

    def all_at_once(self, rounds: int) -> Loads:
        """Load all days into a new table."""
        bare, platform = [], []
        for _ in range(rounds):
            with self._without_facts():
                platform.append(_seconds(self._load_by_platform, self._days))
            with self._without_facts():
                bare.append(_seconds(self._load_bare, self._days))
        return Loads(f"{len(self._days)} days", self._rows(self._days), min(bare), min(platform))

    def day_by_day(self) -> Loads:
        """Load the last month's days, by both loads in turn, into a table with the other days.

        Every day has the same number of rows. The month's first day is loaded before, so that the
        cost of a new month is not included.
        """
        last = [day for day in self._days if month_of(day) == month_of(self._days[-1])][1:]
        bare, platform = [], []
        with self._without_facts():
            self._load_by_platform([day for day in self._days if day not in last])
            with psycopg.connect(self._url, autocommit=True) as session:
                session.execute(sql.SQL("vacuum analyze {}").format(self._table.identifier))
            for one, other in zip(last[::2], last[1::2], strict=False):
                platform.append(_seconds(self._load_by_platform, [one]))
                bare.append(_seconds(self._copy, [other], self._table.identifier))
        return Loads("1 day", self._rows(last) // len(last), min(bare), min(platform))

    def _load_by_platform(self, days: Sequence[date]) -> None:
        loader = StarLoader(
            connection_factory(self._url), self._project, lambda: connect(SessionSettings())
        )
        loader.stage_fact(self._fact, self._scan(days), list(days))
        group = LoadGroup(connection_factory(self._url), [self._fact.name], loader.staged().loads)
        group.publish(lambda _, __: None)

    def _load_bare(self, days: Sequence[date]) -> None:
        table = self._table
        with psycopg.connect(self._url) as session:
            columns = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
                for name, kind in _postgres_columns(table)
            )
            session.execute(sql.SQL("create table {} ({})").format(table.identifier, columns))
            self._copy(days, table.identifier, session)
            for index in table.indexes:
                session.execute(
                    sql.SQL("create index on {} ({})").format(
                        table.identifier, sql.SQL(", ").join(map(sql.Identifier, index))
                    )
                )

    def _copy(
        self,
        days: Sequence[date],
        table: sql.Identifier,
        session: psycopg.Connection | None = None,
    ) -> None:
        if session is None:
            with psycopg.connect(self._url) as own:
                self._copy(days, table, own)
            return
        names = self._table.schema.names
        reader = self._scan(days).batches(list(days), names)
        encoder = pgpq.ArrowToPostgresBinaryEncoder(self._table.schema.arrow())
        statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
            table, sql.SQL(", ").join(map(sql.Identifier, names))
        )
        with session.cursor() as cursor, cursor.copy(statement) as stream:
            stream.write(encoder.write_header())
            for batch in reader:
                for start in range(0, batch.num_rows, _ROWS_A_MESSAGE):
                    stream.write(encoder.write_batch(batch.slice(start, _ROWS_A_MESSAGE)))
            stream.write(encoder.finish())

    def _scan(self, days: Collection[date]) -> LakeScan:
        return self._lake.scan(days)

    def _rows(self, days: Collection[date]) -> int:
        scan = self._scan(days)
        return sum(scan.rows(day) for day in days)

    @contextmanager
    def _without_facts(self) -> Iterator[None]:
        try:
            self._database.checkpoint()
            yield
        finally:
            with psycopg.connect(self._url, autocommit=True) as session:
                session.execute(sql.SQL("drop table {}").format(self._table.identifier))


def _seconds(load: object, *arguments: object) -> float:
    began = time.monotonic()
    load(*arguments)  # type: ignore[operator]
    return time.monotonic() - began


def _project() -> Project:
    return load_project({"HEADRACE_CONFIG": str(PROJECT / "config")})


def _postgres_columns(table: WarehouseTable) -> list[tuple[str, str]]:
    from headrace.warehouse.ddl.schema import declared_columns  # noqa: PLC0415

    return [(column.name, column.type) for column in declared_columns(table)]


def _make_dimensions(session: psycopg.Connection) -> None:
    session.execute("create schema if not exists warehouse")
    for key, members in MEMBERS.items():
        name = sql.Identifier("warehouse", f"dim_{key.removesuffix('_key')}")
        session.execute(
            sql.SQL(
                "create table {} as select n * 7919 as {} from generate_series(1, {}::bigint) as n"
            ).format(name, sql.Identifier(key), sql.Literal(members))
        )
        session.execute(
            sql.SQL("alter table {} add primary key ({})").format(name, sql.Identifier(key))
        )
    session.execute(
        "create table warehouse.dim_date as select to_char(d, 'YYYYMMDD')::int as date_key"
        " from generate_series(date '2017-01-01', date '2018-12-31', '1 day') as d;"
        "alter table warehouse.dim_date add primary key (date_key)"
    )


def _lake_of_facts(
    project: Project, fact: FactConfig, database: Database, folder: Path, days: Sequence[date]
) -> LakeTable:
    """The fact's days in an Iceberg table, one file a day."""
    settings = LakeSettings(database.postgres.uri("lake", driver="psycopg2"), str(folder))
    table = LakeCatalog(settings).table("curated", fact.name)
    entity = project.entities()[fact.entity][1]
    schema = lake_fact_schema(
        fact, entity, {j.dimension: project.star.dimension(j.dimension) for j in fact.dimensions}
    )
    token = new_token()
    random = np.random.default_rng(4)
    batches = (_day_of_facts(schema.arrow(), day, random) for day in days)
    reader = pa.RecordBatchReader.from_batches(schema.arrow(), batches)
    stage_batches(
        reader, table.storage, table.staging_uri(token), partition_column=table.partition_column
    )
    table.replace(table.staged(token), schema=schema)
    return table


def _day_of_facts(schema: pa.Schema, day: date, random: np.random.Generator) -> pa.RecordBatch:
    rows = ROWS_A_DAY
    return pa.RecordBatch.from_arrays(
        [_column(field, day, rows, random) for field in schema], schema=schema
    )


def _column(field: pa.Field, day: date, rows: int, random: np.random.Generator) -> pa.Array:
    if field.name == DATE_KEY:
        return pa.array(np.full(rows, date_key(day), np.int32))
    if pa.types.is_date(field.type):
        return pa.array([day] * rows, field.type)
    if pa.types.is_timestamp(field.type):
        seconds = random.integers(0, 86_400, rows)
        times = np.datetime64(day) + np.sort(seconds).astype("timedelta64[s]")
        return pa.array(times.astype("datetime64[us]")).cast(field.type)
    if pa.types.is_decimal(field.type):
        prices = pa.array([f"{n // 100}.{n % 100:02}" for n in range(2_000)]).cast(field.type)
        return prices.take(pa.array(random.integers(0, len(prices), rows)))
    members = MEMBERS.get(field.name)
    if members:
        return pa.array(random.integers(1, members + 1, rows) * 7919, pa.int64())
    return pa.array(np.sort(random.integers(0, 40_000, rows))).cast(field.type)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warehouse_load")
    parser.add_argument("--days", type=int, default=365, help="days that are loaded at once")
    parser.add_argument("--rounds", type=int, default=3, help="of the year: the best counts")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
