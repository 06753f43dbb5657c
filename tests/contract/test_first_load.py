"""The first load of a table: by several sessions, beside captures of new rows, also when killed."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headrace import progress
from headrace.config.settings import PartitionSettings
from headrace.lake.catalog import LakeCatalog
from headrace.lake.storage import LakeSettings
from headrace.pipeline.raw import RawStep
from headrace.sources.tables import connector
from headrace.sources.tables.database import Selection
from tests import servers
from tests.contract.mysql_tables import MysqlTable
from tests.contract.tables import DAY, EXIST, Table, connector_of

pytestmark = pytest.mark.contract

DAYS = [DAY + timedelta(days=n) for n in range(6)]
COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "sold_on", "type": "date"},
    {"name": "at", "type": "timestamptz"},
]


@pytest.fixture(params=[Table, MysqlTable], ids=["postgres", "mysql"])
def table(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Five rows of each of six days, changed an hour ago, and one without a day."""
    monkeypatch.setattr(connector, "_ROWS_OF_A_UNIT", 10)
    found: Table = _made(request.param, tmp_path)
    return found


def _made(kind: type[Table], folder: Path) -> Table:
    create = (
        f"create table {{}} (id bigint primary key, name text, sold_on date, at {kind.instant})"
    )
    extract = {"mode": "watermark", "cursor": "at", "overlap": "1m"}
    found = kind(folder, create, extract=extract, columns=COLUMNS)
    found.write(f"create index i on {found.name} (sold_on)")
    hour = datetime.now(UTC) - timedelta(hours=1)
    for number in range(31):
        day = DAYS[number % 6] if number < 30 else None
        found.write("insert into {table} values (%s, 'old', %s, %s)", number, day, hour)
    return found


def read_days(table: Table, *days: date) -> list[tuple[date, ...]]:
    """By unit of the next capture, its partitions."""
    plan = table.connector.plan(days, table.state(), table.run())
    plan.release()
    return [unit.partitions for unit in plan.units]


def test_a_first_load_is_read_by_ranges_of_partitions(table: Table) -> None:
    assert read_days(table, *DAYS) == [(DAYS[0], DAYS[1]), (DAYS[2], DAYS[3]), (DAYS[4], DAYS[5])]
    window = table.capture(*DAYS)
    assert window.rows == dict.fromkeys(DAYS, 5) | {DAY: 6}
    assert table.pending() == set()
    assert read_days(table, *DAYS) == []


def test_without_an_index_a_first_load_scans_the_table_once_a_session(table: Table) -> None:
    schema = table.name.partition(".")[0]
    of_postgres = table.product == "postgres"
    table.write(f"drop index {schema}.i" if of_postgres else "drop index i on {table}")
    assert read_days(table, *DAYS) == [(*DAYS[:3],), (*DAYS[3:],)]


def test_new_rows_are_captured_beside_a_backlog(table: Table) -> None:
    table.capture(DAYS[3])
    assert table.pending() == {*DAYS} - {DAYS[3]}
    table.write("insert into {table} values (50, 'new', %s, now())", DAYS[3])
    table.write("update {table} set name = 'new', at = now() where id = 0")
    window = table.capture(DAYS[3])
    assert [file.rows for file in window.staged[DAYS[3]].files] == [1]
    table.capture(*DAYS[:2])
    assert table.pending() == {*DAYS[2:]} - {DAYS[3]}
    table.capture(*DAYS)
    assert table.pending() == set()
    assert len(table.rows()) == 32
    assert table.latest()[0,]["name"] == "new"


def test_a_partition_of_a_first_load_that_failed_is_read_again(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading: Any = table.connector.database
    read = type(reading).read

    def fail(self: Any, selection: Selection) -> Iterator[pa.RecordBatch]:
        if (selection.days or ())[0][0] == DAYS[2]:
            raise RuntimeError("a defect")
        yield from read(self, selection)

    monkeypatch.setattr(type(reading), "read", fail)
    assert {*table.capture(*DAYS).failed} == {DAYS[2], DAYS[3]}
    monkeypatch.undo()
    assert table.pending() == {DAYS[2], DAYS[3]}
    assert table.capture(*DAYS).rows == dict.fromkeys(DAYS, 5) | {DAY: 6}


def test_rows_of_the_future_wait_until_their_day_exists(table: Table) -> None:
    today = datetime.now(UTC).date()
    table.write("update {table} set sold_on = %s where id = 1", today)
    table.capture(*DAYS)
    assert table.pending() == set()
    table.partitions = PartitionSettings(start=DAY, end=today + timedelta(days=1))
    assert table.pending() == {today}
    table.capture(today)
    assert len(table.latest()) == 31


def test_progress_of_a_first_load_counts_rows(table: Table) -> None:
    seen: list[tuple[int, int]] = []
    with progress.listening(lambda _, done, total: seen.append((done, total))):
        table.capture(*DAYS)
    assert (seen[0], seen[-1]) == ((0, 31), (31, 31))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) > 3


def test_all_sessions_of_postgres_read_one_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "_ROWS_OF_A_UNIT", 10)
    table = _made(Table, tmp_path)
    reading: Any = table.connector.database
    read, moved = type(reading).read, threading.Event()

    def slowly(self: Any, selection: Selection) -> Iterator[pa.RecordBatch]:
        is_first = (selection.days or ())[0][0] == DAY
        if not is_first:
            moved.wait(10)
        yield from read(self, selection)
        # Read from two snapshots, the row would be in neither.
        if is_first:
            table.write("update {table} set sold_on = %s where id = 4", DAY)
            moved.set()

    monkeypatch.setattr(type(reading), "read", slowly)
    window = table.capture(*DAYS)
    assert window.rows == dict.fromkeys(DAYS, 5) | {DAY: 6}
    held = "select 1 from pg_stat_activity where query like '%%pg_export_snapshot%%'"
    assert table.query(f"{held} and pid <> pg_backend_pid()") == []


_KILLED = """
import os, signal, sys
from headrace.pipeline import raw
from headrace.raw import capture
from tests.contract import test_first_load as test

capture.COMMIT_SECONDS = 0.0
commits = []

def append(self, *args, **kwargs):
    published(self, *args, **kwargs)
    commits.append(self)
    if len(commits) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

published, raw.LakeTable.append = raw.LakeTable.append, append
test.connector._ROWS_OF_A_UNIT = 5
settings = test.LakeSettings(sys.argv[3], sys.argv[4])
test.step(test.LakeCatalog(settings), sys.argv[1], sys.argv[2]).stage(test.DAYS, {})
"""


def step(lake: LakeCatalog, url: str, name: str) -> RawStep:
    """Raw's step of a table."""
    table = Table.__new__(Table)
    table.name = name
    extract = {"mode": "watermark", "cursor": "at", "overlap": "1m"}
    entity = table.declare(columns=COLUMNS, extract=extract)
    return RawStep(
        asset="raw/shop_orders",
        source="shop.orders",
        entity=entity,
        connector=connector_of(entity, url),
        table=lake.table(f"raw_{name.partition('.')[0]}", "orders"),
        partitions=EXIST,
        run_id="run",
    )


def test_a_first_load_that_is_killed_goes_on_after_what_it_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "_ROWS_OF_A_UNIT", 5)
    table = _made(Table, tmp_path)
    settings = LakeSettings(servers.postgres().uri("lake"), str(tmp_path / "lake"))
    of_table = [table.url, table.name, settings.catalog_uri, settings.location]
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, *of_table]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert killed.returncode == -9, killed.stderr
    lake = LakeCatalog(settings)
    again = step(lake, table.url, table.name)
    held = again.table.scan()
    assert {day: held.rows(day) for day in held.days} == {DAYS[0]: 6, DAYS[1]: 5}
    assert {*again.pending_partitions()} == {*DAYS[2:]}
    output = again.stage(DAYS, {})
    assert {
        day: some.rows for day, some in output.partitions.items() if some.rows
    } == dict.fromkeys(DAYS[2:], 5)
    again.table.append(output.partitions, schema=output.schema, properties=output.properties)
    whole = again.table.scan().batches().read_all()
    # The row without a day is a corrupt record.
    assert sorted(whole.column("id").drop_null().to_pylist()) == [*range(30)]
    assert whole.num_rows == 31
    assert again.pending_partitions() == {}
    lake.close()
