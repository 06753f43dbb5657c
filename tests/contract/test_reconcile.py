"""`headrace reconcile`: rows by which raw differs from a table are found, and captured again."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.config.settings import PartitionSettings
from headrace.operations.reconcile import EntityReconciliation, Reconciliation
from headrace.raw.comparison import compared
from headrace.raw.row_digests import DIGEST, DigestStore
from headrace.sources.base import Connector
from tests.contract.mysql_tables import MysqlTable
from tests.contract.tables import DAY, NEXT, Table
from tests.contract.test_change_tables import ChangedTable

pytestmark = pytest.mark.contract

_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "sold_on", "type": "date"},
    {"name": "at", "type": "timestamptz"},
]
_NAMES = ("id", "name", "sold_on")


def reconciliation(table: Table) -> EntityReconciliation:
    def capture(connector: Connector, days: Sequence[date]) -> Collection[date]:
        window = table.capture(*days, connector=connector)
        assert window.failed == {}
        return [day for day, staged in window.staged.items() if staged.files]

    return EntityReconciliation(table.connector, table.folder(), table.run(), table.state, capture)


def found(table: Table) -> Reconciliation:
    one = reconciliation(table)
    comparison = one.compare()
    assert comparison is not None
    return one.result(comparison)


def repair(table: Table) -> set[date]:
    one = reconciliation(table)
    comparison = one.compare()
    assert comparison is not None
    return {*one.repair(comparison)}


def counts(result: Reconciliation) -> tuple[int, int, int]:
    return result.missing, result.changed, result.extra


def latest(table: Table, *, by_partition: bool = True) -> set[tuple[Any, ...]]:
    """The rows that are there, from all that raw has."""
    rows: dict[Any, dict[str, Any]] = {}
    place = ("_delivery_order", "_source_position")
    for row in sorted(table.rows(), key=lambda row: tuple(row[name] for name in place)):
        rows[row["_partition_date"] if by_partition else None, row["id"]] = row
    there = [row for row in rows.values() if row["_operation"] != "delete"]
    return {tuple(row[name] for name in _NAMES) for row in there}


def truth(table: Table) -> set[tuple[Any, ...]]:
    return {*table.query("select id, name, sold_on from {table}")}


@pytest.fixture(params=[Table, MysqlTable], ids=["postgres", "mysql"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    kind: type[Table] = request.param
    return changing(tmp_path, kind)


def changing(folder: Path, kind: type[Table], **extract: Any) -> Table:
    """A table with a watermark, of which all rows are captured."""
    made = kind(
        folder,
        f"create table {{}} (id bigint primary key, name text, sold_on date, at {kind.instant})",
        extract={"mode": "watermark", "cursor": "at", "overlap": "1s", **extract},
        columns=_COLUMNS,
    )
    rows = [f"({n}, 'n{n}', '{(DAY, NEXT)[n % 2]}', %s)" for n in range(1, 11)]
    made.write(f"insert into {{table}} values {', '.join(rows)}", *[_LONG_AGO] * 10)
    made.capture(DAY, NEXT)
    return made


def test_what_a_watermark_does_not_see_is_found_and_repaired(table: Table) -> None:
    assert counts(found(table)) == (0, 0, 0)
    table.write("delete from {table} where id in (1, 2)")
    # A clock that was set back for longer than the overlap.
    table.write("insert into {table} values (11, 'late', '2017-01-01', %s)", _LONG_AGO)
    table.write("update {table} set name = 'silent' where id = 3")
    table.write("update {table} set sold_on = '2017-01-02' where id = 4")
    # What the next capture reads is no difference.
    table.write("update {table} set name = 'seen', at = now() where id = 5")
    assert table.pending() == {NEXT}
    result = found(table)
    assert counts(result) == (2, 1, 3)
    assert result.rows == 9
    ranges = {one.partition: (one.first, one.last) for one in result.ranges}
    assert ranges == {DAY: (2, 11), NEXT: (1, 4)}
    assert repair(table) == {DAY, NEXT}
    again = found(table)
    assert (counts(again), again.waiting) == ((0, 0, 0), 1)
    table.capture(DAY, NEXT)
    assert latest(table) == truth(table)
    assert counts(found(table)) == (0, 0, 0)
    assert repair(table) == set()


def test_rows_of_days_that_were_never_captured_are_no_differences(tmp_path: Path) -> None:
    table = changing(tmp_path, Table)
    table.files, table.stored = {}, {}
    table.capture(DAY)
    result = found(table)
    assert (counts(result), result.waiting) == ((0, 0, 0), 5)
    table.write("delete from {table} where id = 2")
    assert counts(found(table)) == (0, 0, 1)
    assert repair(table) == {DAY}
    assert table.pending() == {NEXT}
    table.capture(DAY, NEXT)
    assert latest(table) == truth(table)


def test_a_row_that_comes_again_as_it_was_is_no_repetition_of_the_deleted_one(
    tmp_path: Path,
) -> None:
    table = changing(tmp_path, Table, overlap="1h")
    table.write("update {table} set at = now()")
    table.capture(DAY, NEXT)
    table.write("create table {table}_kept as select * from {table} where id = 1")
    table.write("delete from {table} where id = 1")
    assert repair(table) == {NEXT}
    table.write("insert into {table} select * from {table}_kept")
    table.capture(DAY, NEXT)
    assert latest(table) == truth(table)


def test_rows_whose_cursor_is_their_day_are_compared_by_key_alone(
    tmp_path: Path,
) -> None:
    table = changing(tmp_path, Table)
    table.entity = table.declare(
        extract={"mode": "watermark", "cursor": "at", "overlap": "1s", "partition_by": None},
        columns=_COLUMNS,
    )
    table.files, table.stored = {}, {}
    today = datetime.now(UTC).date()
    days = [_LONG_AGO.date(), today - timedelta(days=1), today]
    table.partitions = PartitionSettings(start=DAY)
    table.capture(*days[:2])
    table.write("update {table} set at = %s where id = 1", datetime.now(UTC) - timedelta(days=1))
    # A row of today is there, and waits.
    table.write("update {table} set at = now() where id = 2")
    assert counts(found(table)) == (0, 1, 0)
    assert repair(table) == {days[1]}
    # The version of the row on the day before is history.
    assert [row["_partition_date"] for row in table.rows() if row["id"] == 1] == days[:2]
    assert counts(found(table)) == (0, 0, 0)
    table.write("delete from {table} where id = 3")
    table.write("insert into {table} values (12, 'late', null, %s)", _LONG_AGO)
    assert counts(found(table)) == (1, 0, 1)
    # The time of the delete is not known: it counts from the last moment that exists.
    assert repair(table) == {days[0], days[1]}
    (deleted,) = [row for row in table.rows() if row["_operation"] == "delete"]
    assert (deleted["id"], deleted["at"].date()) == (3, days[1])
    assert counts(found(table)) == (0, 0, 0)


def test_an_id_that_was_passed_is_found(tmp_path: Path) -> None:
    table = Table(
        tmp_path,
        "create table {} (id bigint primary key, name text, sold_on date, at timestamptz)",
        extract={"mode": "increasing_id", "cursor": "id", "overlap": 0},
        columns=_COLUMNS,
    )
    table.write("insert into {table} values (100, 'a', '2017-01-01', null)")
    table.capture(DAY)
    table.stored = {"watermark": table.stored["watermark"].replace('"low":null', '"low":101')}
    table.write("insert into {table} values (50, 'late', '2017-01-01', null)")
    assert counts(found(table)) == (1, 0, 0)
    assert repair(table) == {DAY}
    assert latest(table) == truth(table)


def test_changes_that_fired_no_trigger_are_found(tmp_path: Path) -> None:
    table = ChangedTable(tmp_path)
    table.write("insert into {table} select n, 'n' || n, '2017-01-01' from generate_series(1, 9) n")
    table.capture(DAY, NEXT)
    table.write(
        "set session_replication_role = replica; delete from {table} where id = 1;"
        "update {table} set name = 'silent' where id = 2; insert into {table} values (20, 'x',"
        " '2017-01-02', null); update {table} set sold_on = '2017-01-02' where id = 3"
    )
    # A change that waits for the next capture is no difference, whatever it is.
    table.write("update {table} set name = 'waiting' where id = 4")
    table.write("delete from {table} where id = 5")
    table.write("insert into {table} values (21, 'y', '2017-01-02', null)")
    result = found(table)
    assert (counts(result), result.waiting) == ((2, 1, 2), 3)
    assert repair(table) == {DAY, NEXT}
    assert counts(found(table)) == (0, 0, 0)
    table.capture(DAY, NEXT)
    assert table.state_of_rows() == table.truth()


def test_a_table_that_is_read_whole_is_captured_again(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.write("insert into {table} values (1, 'a', 1, '2017-01-01'), (2, 'b', 2, '2017-01-02')")
    table.capture(DAY, NEXT)
    table.write("delete from {table} where id = 2")
    assert [(one.partition, one.extra) for one in found(table).ranges] == [(NEXT, 1)]
    assert repair(table) == {NEXT}
    assert counts(found(table)) == (0, 0, 0)
    table.entity = table.declare(extract={"partition_by": None, "mode": "full_snapshot"})
    table.files = {}
    table.capture(*table.connector.sparse_partitions(table.state(), table.run()))
    table.write("insert into {table} values (3, 'c', 3, null)")
    result = found(table)
    assert counts(result) == (1, 0, 0)
    assert [(one.partition, one.first, one.last) for one in result.ranges] == [(None, 3, 3)]
    assert repair(table) == {datetime.now(UTC).date()}
    assert counts(found(table)) == (0, 0, 0)


def test_nothing_is_compared_before_the_first_capture(tmp_path: Path) -> None:
    assert reconciliation(Table(tmp_path)).compare() is None


def test_many_rows_are_compared_with_the_memory_of_few() -> None:
    random = np.random.default_rng(5)
    count = 20_000

    def digests(rows: Any) -> Any:
        made = np.zeros(len(rows), DIGEST)
        made["row"] = rows * 7_919_777_777
        made["content"], made["at"], made["is_due"] = rows % 101, rows, True
        return made

    kept = np.arange(count)
    ours = digests(random.permutation(kept[kept % 100 != 0]))
    theirs = digests(random.permutation(kept[kept % 77 != 0]))
    theirs["content"][theirs["at"] == 5] += 1
    results = []
    for most in (10**6, 1_000):
        with DigestStore(most) as one, DigestStore(10**6) as other:
            for store, rows in ((one, ours), (other, theirs)):
                for start in range(0, len(rows), 700):
                    store.add(rows[start : start + 700])
            found = compared(one, other)
            assert one.is_in_files == (most < count)
            results.append(
                [
                    sorted(part["at"].tolist())
                    for part in (found.missing, found.changed, found.extra)
                ]
            )
    assert results[0] == results[1]
    missing = [n for n in range(count) if n % 77 == 0 and n % 100 != 0]
    extra = [n for n in range(count) if n % 100 == 0 and n % 77 != 0]
    assert results[0] == [missing, [5], extra]
