"""What is measured: each task in a process of its own, which prints its figures as JSON.

`python -m benchmarks.sources.tasks TASK SOURCE FOLDER`: the source is a URL or a folder of files.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pymysql
import pymysql.cursors
from pyarrow import fs

from benchmarks.sources.rows import (
    COLUMNS,
    DAYS,
    FIRST,
    PARTITIONS,
    TABLE,
    file_entity,
    table_entity,
)
from headrace.config.entities.entity import EntityConfig
from headrace.embedded_postgres.data_directory import programs
from headrace.raw.capture import capture
from headrace.raw.writer import DataFolder
from headrace.sources.base import CaptureRun, CaptureState, Connector
from headrace.sources.connections import Connection
from headrace.sources.files.connector import FilesConnector
from headrace.sources.landing.landing_zone import LocalLanding
from headrace.sources.mysql.database import MysqlRelation
from headrace.sources.mysql.session import connect
from headrace.sources.postgres.database import PostgresRelation
from headrace.sources.tables.connector import TableConnector

_DAYS = [FIRST + timedelta(days=n) for n in range(DAYS)]


def psql(url: str, _: Path) -> int | None:
    """`psql -c 'copy … to stdout'` to nothing; the rows are not counted."""
    command = [str(programs() / "psql"), url, "--quiet", "--command", f"copy {TABLE} to stdout"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: S603
    return None


def postgres(url: str, folder: Path) -> int:
    """PostgreSQL to raw: the first capture of a table with a watermark."""
    entity = table_entity("postgres")
    relation = PostgresRelation(entity, Connection("bench", "URL", lambda: url))
    return _captured(TableConnector("postgres", entity, relation), entity, folder)


def read_pymysql(url: str, _: Path) -> int:
    """All rows by PyMySQL's own cursor for large results."""
    session = connect(Connection("bench", "URL", lambda: url))
    with session.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(f"select * from {TABLE}")  # noqa: S608
        return sum(1 for row in cursor)


def mysql(url: str, folder: Path) -> int:
    """MySQL to raw, as `postgres`."""
    entity = table_entity("mysql")
    relation = MysqlRelation(entity, Connection("bench", "URL", lambda: url))
    return _captured(TableConnector("mysql", entity, relation), entity, folder)


def read_duckdb(source: str, _: Path) -> int:
    """JSON Lines by DuckDB, with the declared types, as Arrow."""
    kinds = {"string": "varchar", "int": "integer"}
    types = ", ".join(f"{name}: '{kinds.get(kind, kind)}'" for name, kind in COLUMNS.items())
    path = Path(source) / "orders.jsonl"
    query = f"from read_json('{path}', format='newline_delimited', columns={{{types}}})"
    found: Any = duckdb.sql(query)
    return sum(batch.num_rows for batch in found.to_arrow_reader(100_000))


def json_lines(source: str, folder: Path) -> int:
    """JSON Lines to raw."""
    entity = file_entity("orders.jsonl", "json_lines")
    return _captured(FilesConnector(entity, LocalLanding(Path(source))), entity, folder)


def csv(source: str, folder: Path) -> int:
    """A CSV file a day to raw."""
    entity = file_entity("orders-{date:%Y-%m-%d}.csv", "csv")
    return _captured(FilesConnector(entity, LocalLanding(Path(source))), entity, folder)


TASKS: dict[str, Callable[[str, Path], int | None]] = {
    "psql": psql,
    "postgres": postgres,
    "pymysql": read_pymysql,
    "mysql": mysql,
    "duckdb": read_duckdb,
    "json_lines": json_lines,
    "csv": csv,
}


def _captured(connector: Connector, entity: EntityConfig, folder: Path) -> int:
    run = CaptureRun("bench.orders", "bench", datetime.now(UTC), PARTITIONS)
    raw = DataFolder(fs.LocalFileSystem(), str(folder), f"file://{folder}")
    window = capture(connector, entity, raw, CaptureState(is_empty=True), _DAYS, run)
    if window.failed:
        raise next(iter(window.failed.values()))
    return sum(file.rows for staged in window.staged.values() for file in staged.files)


def _cpu_seconds() -> float:
    """Of this process and its children that have ended, without the server."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_bytes() -> int:
    """Of this process. What Linux says of a child includes this process when it was started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run a task and print its figures."""
    task, source, folder = sys.argv[1:]
    began, used = time.monotonic(), _cpu_seconds()
    rows = TASKS[task](source, Path(folder))
    found = {
        "rows": rows,
        "seconds": time.monotonic() - began,
        "cpu_seconds": _cpu_seconds() - used,
        "peak_bytes": None if task == "psql" else _peak_bytes(),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
