"""Changes of a type 2 dimension: this warehouse against `dbt snapshot`, on one Postgres.

Each method starts with the same versions and must end with the same number. dbt reads a table with
the current state of every member, and compares all of it with its snapshot (`strategy: check`), or
only newer rows (`timestamp`). The platform gets the rows that were added to and removed from the
lake; finding them is not measured here. Further methods are added to `contenders`.

`the least` is a lower bound, not a load: it copies the ended and the new versions to temporary
tables, which have no write-ahead log, and runs one UPDATE and one INSERT into the table with its
two indexes, in one commit. It compares nothing, locks nothing, and detects no repeated or lost
change.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import yaml
from dbt.cli.main import dbtRunner
from psycopg import sql

from benchmarks.scratch import Database, scratch_folder, start_server
from headrace.cli.output import print_json, print_table
from headrace.errors import PermanentError
from headrace.schema import Column, TableSchema
from headrace.warehouse.ddl.schema import postgres_type
from headrace.warehouse.loading import copy
from headrace.warehouse.sessions import connection_factory
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse

START = datetime(2017, 1, 1)  # noqa: DTZ001  # wall-clock time, as the dimension has it
ATTRIBUTES = ("department", "brand", "category", "size")
DIMENSION = WarehouseTable(
    "warehouse",
    "dim_item",
    TableSchema(
        (
            Column("item_key", "bigint", nullable=False),
            Column("item_id", "bigint", nullable=False),
            *(Column(name, "string") for name in ATTRIBUTES),
            Column("valid_from", "timestamp", nullable=False),
            Column("valid_to", "timestamp"),
            Column("is_current", "boolean", nullable=False),
        )
    ),
    primary_key=("item_key",),
    indexes=(("item_id",),),
    attributes=("item_id", *ATTRIBUTES),
    mode="upsert",
)


@dataclass(frozen=True)
class Case:
    """A history and its changes.

    Attributes:
        members: Number of members; all have the same number of versions.
        versions: Total number of versions.
        changes: Number of members with a new version.
    """

    members: int
    versions: int
    changes: int

    @property
    def stride(self) -> int:
        """Every member whose number is a multiple of it changes: spread over the table."""
        return self.members // self.changes

    @property
    def now(self) -> datetime:
        """Effective time of the changes: after all existing versions."""
        return START + timedelta(days=self.versions // self.members + 1)


@dataclass(frozen=True)
class Applied:
    """The measurement of one method."""

    way: str
    changes: int
    seconds: float

    @property
    def rate(self) -> float:
        """Changes per second."""
        return self.changes / self.seconds


def main() -> int:
    """Measure and print."""
    options = _options()
    case = Case(options.members, options.versions, options.changes)
    with scratch_folder() as scratch:
        database = start_server(scratch.home("dimension_changes"))
        found = compare(database, scratch.root, case, options.rounds)
    slowest = min(each.rate for each in found)
    if options.json:
        print_json([{**asdict(each), "rows_a_second": each.rate} for each in found])
    else:
        rows = [
            (
                e.way,
                f"{e.changes:,}",
                f"{e.seconds:.2f}",
                f"{e.rate:,.0f}",
                f"{e.rate / slowest:.1f}",
            )
            for e in found
        ]
        print_table(("way", "changes", "seconds", "rows a second", "times the slowest"), rows)
    return 0


def compare(database: Database, folder: Path, case: Case, rounds: int) -> list[Applied]:
    """Measure every method on the same case, in turn; the best of the rounds counts."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for way, prepare_and_apply in contenders(folder).items():
            seconds = prepare_and_apply(database, case)
            best[way] = min(seconds, best.get(way, seconds))
    return [Applied(way, case.changes, seconds) for way, seconds in best.items()]


def contenders(folder: Path) -> dict[str, Callable[[Database, Case], float]]:
    """By name, functions that prepare the case, apply the changes, and return the seconds."""
    check = {"strategy": "check", "check_cols": list(ATTRIBUTES)}
    return {
        "the least: COPY, one UPDATE, one INSERT": _by_the_least,
        "headrace: added and removed rows": _by_platform,
        "dbt snapshot, timestamp": lambda database, case: _by_dbt(
            database, case, folder, {"strategy": "timestamp", "updated_at": "changed_at"}
        ),
        "dbt snapshot, check": lambda database, case: _by_dbt(database, case, folder, check),
        "dbt snapshot, check, as a command": lambda database, case: _by_dbt(
            database, case, folder, check, run=_run_command
        ),
    }


def _with_history(database: Database, case: Case) -> Warehouse:
    with psycopg.connect(database.url, autocommit=True) as session:
        session.execute("drop table if exists warehouse.dim_item")
    warehouse = Warehouse(connection_factory(database.url))
    batches = [((), _versions(case).to_reader())]
    warehouse.publish([warehouse.stage(DIMENSION, (), batches)])
    database.checkpoint()
    return warehouse


def _by_the_least(database: Database, case: Case) -> float:
    _with_history(database, case)
    closed, opened = _changed(case)
    with psycopg.connect(database.url, autocommit=True) as session:
        session.execute("set work_mem = '64MB'")
        began = time.monotonic()
        _copy(session, "closing", closed.select(["item_key", "valid_to", "is_current"]))
        _copy(session, "opening", opened)
        with session.transaction():
            updated = session.execute(
                "update warehouse.dim_item as t set valid_to = c.valid_to,"
                " is_current = c.is_current from pg_temp.closing as c where t.item_key = c.item_key"
            ).rowcount
            inserted = session.execute(
                "insert into warehouse.dim_item select * from pg_temp.opening order by item_key"
            ).rowcount
        seconds = time.monotonic() - began
    if (updated, inserted) != (case.changes, case.changes):
        raise PermanentError(f"changed {updated}, added {inserted}", fix="fix the benchmark")
    return seconds


def _copy(session: psycopg.Connection, name: str, rows: pa.Table) -> None:
    """Copy into a temporary table, which has no write-ahead log."""
    columns = [f"{c} {postgres_type(DIMENSION.schema.column(c).type)}" for c in rows.column_names]
    session.execute(f"create temporary table {name} ({', '.join(columns)})")
    relation = sql.Identifier("pg_temp", name)
    copy.copy(session, relation, rows.column_names, rows.to_batches(), lambda: None)
    session.execute(sql.SQL("analyze {}").format(relation))


def _by_platform(database: Database, case: Case) -> float:
    warehouse = _with_history(database, case)
    closed, opened = _changed(case)
    began = time.monotonic()
    upserts = [((), pa.concat_tables([closed, opened]).to_reader())]
    deletes = closed.select(["item_key"]).to_reader()
    load = warehouse.stage(DIMENSION, (), upserts, deletes=deletes)
    result = warehouse.publish([load])[0]
    seconds = time.monotonic() - began
    if (result.rows_updated, result.rows_inserted) != (case.changes, case.changes):
        raise PermanentError(f"applied {result}", fix="fix the benchmark")
    return seconds


def _by_dbt(
    database: Database,
    case: Case,
    folder: Path,
    strategy: dict[str, Any],
    run: Callable[[Sequence[str]], None] | None = None,
) -> float:
    project = _dbt_project(folder, strategy)
    snapshot = [
        "snapshot",
        "--project-dir",
        str(project),
        "--profiles-dir",
        str(project),
        "--quiet",
    ]
    _write_profile(project, database)
    with psycopg.connect(database.url, autocommit=True) as session:
        session.execute("drop schema if exists bench cascade; create schema bench")
        _copy_state(session, case, changed=False)
        # The first run creates dbt's table; then earlier versions are added.
        _run_dbt(snapshot)
        session.execute(
            "insert into bench.item_history select h.*, md5(item_id::text || n::text),"
            " changed_at, timestamp '2017-01-01' + n * interval '1 day',"
            " timestamp '2017-01-01' + (n + 1) * interval '1 day'"
            " from bench.item as h, generate_series(0, %s) as n",
            (case.versions // case.members - 2,),
        )
        session.execute("truncate bench.item")
        _copy_state(session, case, changed=True)
        session.execute("vacuum analyze bench.item_history")
        database.checkpoint()
        began = time.monotonic()
        (run or _run_dbt)(snapshot)
        seconds = time.monotonic() - began
        row = session.execute("select count(*) from bench.item_history").fetchone()
    if row != (case.versions + case.changes,):
        raise PermanentError(f"dbt created {row} versions", fix="fix the benchmark")
    return seconds


def _copy_state(session: psycopg.Connection, case: Case, *, changed: bool) -> None:
    """The current state of every member, as in a source table."""
    session.execute(
        "create table if not exists bench.item (item_id bigint primary key, department text,"
        " brand text, category text, size text, changed_at timestamp)"
    )
    session.execute(
        "insert into bench.item select n, 'd' || n %% 30, 'b' || n %% 1000,"
        " 'c' || n %% 300 || case when n %% %(stride)s = 0 and %(changed)s then ' new' else '' end,"
        " 's' || n %% 7,"
        " case when n %% %(stride)s = 0 and %(changed)s then %(now)s else %(before)s::timestamp end"
        " from generate_series(0, %(members)s - 1) as n",
        {
            "stride": case.stride,
            "changed": changed,
            "now": case.now,
            "before": case.now - timedelta(days=2),
            "members": case.members,
        },
    )
    session.execute("analyze bench.item")


def _run_dbt(arguments: Sequence[str]) -> None:
    result = dbtRunner().invoke(list(arguments))
    if not result.success:
        raise PermanentError(f"dbt failed: {result.exception or result.result}", fix="see its log")


def _run_command(arguments: Sequence[str]) -> None:
    """Run dbt as a command, which includes its imports."""
    dbt = Path(sys.executable).with_name("dbt")
    subprocess.run([dbt, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # ours


def _dbt_project(folder: Path, strategy: dict[str, Any]) -> Path:
    project = folder / f"dbt-{strategy['strategy']}"
    (project / "snapshots").mkdir(parents=True, exist_ok=True)
    (project / "dbt_project.yml").write_text(
        yaml.safe_dump(
            {
                "name": "bench",
                "version": "1.0",
                "profile": "bench",
                "flags": {"send_anonymous_usage_stats": False},
            }
        )
    )
    config = {"unique_key": "item_id", **strategy}
    (project / "snapshots" / "item_history.yml").write_text(
        yaml.safe_dump(
            {
                "sources": [{"name": "bench", "schema": "bench", "tables": [{"name": "item"}]}],
                "snapshots": [
                    {
                        "name": "item_history",
                        "relation": "source('bench', 'item')",
                        "config": config,
                    }
                ],
            }
        )
    )
    return project


def _write_profile(project: Path, database: Database) -> None:
    output = {
        "type": "postgres",
        "host": str(database.postgres.socket_directory),
        "port": database.postgres.port,
        "user": "postgres",
        "password": "",
        "dbname": database.name,
        "schema": "bench",
        "threads": 2,
    }
    profile = {"bench": {"target": "bench", "outputs": {"bench": output}}}
    (project / "profiles.yml").write_text(yaml.safe_dump(profile))


def _versions(case: Case) -> pa.Table:
    """All versions; the last one of each member is open."""
    each = case.versions // case.members
    ids = np.repeat(np.arange(case.members), each)
    number = np.tile(np.arange(each), case.members)
    return _table(ids, number, is_open=number == each - 1)


def _changed(case: Case) -> tuple[pa.Table, pa.Table]:
    """The versions that end, with their ends, and the versions that begin."""
    each = case.versions // case.members
    ids = np.arange(case.changes) * case.stride
    last = np.full(case.changes, each - 1)
    closed = _table(ids, last, is_open=np.zeros(case.changes, bool))
    return closed, _table(ids, last + 1, is_open=np.ones(case.changes, bool))


def _table(ids: np.ndarray, number: np.ndarray, *, is_open: np.ndarray) -> pa.Table:
    day = np.datetime64(START, "us") + number * np.timedelta64(86_400_000_000, "us")
    ends = pa.array(day + np.timedelta64(86_400_000_000, "us"), mask=is_open)
    # Keys distributed like hashes.
    keys = (ids * 1_000 + number).astype(np.uint64) * np.uint64(11_400_714_819_323_198_485)
    texts = [
        pa.array([f"{letter}{n % of}" for n in ids.tolist()])
        for letter, of in (("d", 30), ("b", 1000), ("c", 300), ("s", 7))
    ]
    return pa.Table.from_arrays(
        [
            pa.array(keys.view(np.int64)),
            pa.array(ids),
            *texts,
            pa.array(day),
            ends,
            pa.array(is_open),
        ],
        schema=DIMENSION.schema.arrow(),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dimension_changes")
    parser.add_argument("--members", type=int, default=250_000)
    parser.add_argument("--versions", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
