"""Tables of databases: full and watermark captures, over a real server."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headrace.config.settings import PartitionSettings
from headrace.errors import SourceRejectedError
from headrace.raw.capture import CapturedWindow, raw_schema
from headrace.sources.connections import Connection
from headrace.sources.tables.connector import TableConnector
from headrace.sources.tables.database import Selection
from tests.contract.mysql_tables import MysqlTable
from tests.contract.tables import COLUMNS, DAY, NEXT, Table

CHANGING_COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "sold_on", "type": "date"},
    {"name": "at", "type": "timestamptz"},
]


@pytest.fixture(params=[Table, MysqlTable], ids=["postgres", "mysql"])
def kind(request: pytest.FixtureRequest) -> type[Table]:
    """A table of each kind of database."""
    found: type[Table] = request.param
    return found


@pytest.fixture
def table(tmp_path: Path, kind: type[Table]) -> Table:
    found = kind(tmp_path)
    found.write(
        "insert into {table} values (1, 'a', 10, '2017-01-01'), (2, 'b', 20, '2017-01-01'),"
        " (3, null, 30, '2017-01-01'), (4, 'd', 40, '2017-01-02')"
    )
    return found


@pytest.fixture
def changing(tmp_path: Path, kind: type[Table]) -> Table:
    """A table with a cursor, of days of 2017, that was written just now."""
    extract = {"mode": "watermark", "cursor": "at", "overlap": "1m"}
    create = (
        f"create table {{}} (id bigint primary key, name text, sold_on date, at {kind.instant})"
    )
    found = kind(tmp_path, create, extract=extract, columns=CHANGING_COLUMNS)
    rows = [f"({n}, 'n{n}', '{(DAY, NEXT)[n % 2]}', now())" for n in range(1, 11)]
    found.write(f"insert into {{table}} values {', '.join(rows)}")
    return found


def error(window: CapturedWindow, day: date = DAY) -> str:
    return f"{window.failed[day]} | {window.failed[day].fix}"


def names(table: Table, *days: date) -> list[Any]:
    return [row["name"] for row in table.rows(*days)]


def test_a_full_capture_reads_the_rows_of_its_partitions(table: Table) -> None:
    window = table.capture(DAY)
    assert (window.failed, window.rows) == ({}, {DAY: 3})
    assert names(table) == ["a", "b", None]
    first = table.rows()[0]
    assert (first["_source_object"], first["_source_position"]) == (table.name, 1)
    assert raw_schema(table.entity).arrow().names == [*first]
    assert table.capture(DAY, NEXT).rows == {DAY: 3, NEXT: 1}


def test_a_partition_with_equal_rows_is_stored_once(table: Table) -> None:
    table.capture(DAY, NEXT)
    window = table.capture(DAY, NEXT)
    assert window.rows == {DAY: 3, NEXT: 1}
    assert [len(staged.files) for staged in window.staged.values()] == [0, 0]


def test_a_full_capture_replaces_what_a_partition_held(table: Table) -> None:
    table.capture(DAY, NEXT)
    table.write("delete from {table} where id = 1")
    table.write("update {table} set name = 'B', sold_on = '2017-01-02' where id = 2")
    assert table.capture(DAY, NEXT).rows == {DAY: 1, NEXT: 2}
    assert names(table, DAY) == [None]
    assert names(table, NEXT) == ["B", "d"]
    table.write("delete from {table}")
    assert table.capture(DAY, NEXT).rows == {DAY: 0, NEXT: 0}
    assert table.rows() == []


def test_the_days_of_a_full_capture_are_of_one_moment(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    database: Any = type(table.connector.database)
    read, moved = database.read, threading.Event()

    def slowly(self: Any, selection: Selection) -> Iterator[pa.RecordBatch]:
        is_first = (selection.days or ())[0][0] == DAY
        if not is_first:
            moved.wait(5)
        yield from read(self, selection)
        # To the day that was read before: captured from two snapshots, the row is in neither.
        if is_first:
            table.write("update {table} set sold_on = '2017-01-01' where id = 4")
            moved.set()

    monkeypatch.setattr(database, "read", slowly)
    assert table.capture(DAY, NEXT).rows == {DAY: 3, NEXT: 1}


def test_rows_without_a_day_belong_to_the_first_partition(table: Table) -> None:
    table.write("insert into {table} values (5, 'e', 1, null), (6, null, 1, %s)", table.undated)
    window = table.capture(DAY, NEXT)
    assert window.rows == {DAY: 5, NEXT: 1}
    corrupt = [row for row in table.rows(DAY) if row["_corrupt_record"]]
    assert [row["_corrupt_record"] for row in corrupt] == ["5,e,1,", f"6,,1,{table.undated}"]


def test_a_row_with_a_value_that_does_not_fit_stays_in_its_partition(table: Table) -> None:
    table.retype("amount", "decimal(20, 2)")
    table.write("update {table} set amount = 999999 where id = 4")
    columns = [{**c, "type": "decimal(5,2)"} if c["name"] == "amount" else c for c in COLUMNS]
    table.entity = table.declare(columns=columns)
    window = table.capture(NEXT)
    assert (window.rows, window.unplaced) == ({NEXT: 1}, {})
    (row,) = table.rows(NEXT)
    assert (row["_corrupt_reason"], row["id"]) == (
        "amount: no decimal(5,2) holds this number",
        None,
    )


def test_a_table_without_days_has_a_version_for_each_day_on_which_it_differs(
    table: Table,
) -> None:
    table.entity = table.declare(extract={"partition_by": None})
    assert table.connector.sparse_partitions(table.state(), table.run()) == {DAY}
    assert table.capture(DAY).rows == {DAY: 4}
    today = datetime.now(UTC).date()
    days = table.connector.sparse_partitions(table.state(), table.run())
    assert days == {DAY, today}
    assert not any(staged.files for staged in table.capture(*days).staged.values())
    table.write("update {table} set name = 'A' where id = 1")
    assert table.capture(*days).rows == {DAY: 4, today: 4}
    assert names(table, today)[0] == "A"


def test_a_first_watermark_capture_reads_all_and_a_second_nothing(changing: Table) -> None:
    assert changing.capture(DAY, NEXT).rows == {DAY: 5, NEXT: 5}
    assert changing.pending() == set()
    plan = changing.connector.plan([DAY, NEXT], changing.state(), changing.run())
    assert (plan.units, plan.unchanged) == ((), (DAY, NEXT))


def test_a_watermark_capture_appends_what_changed(changing: Table) -> None:
    changing.capture(DAY, NEXT)
    changing.write("update {table} set name = 'new', at = now() where id = 1")
    assert changing.pending() == {NEXT}
    window = changing.capture(DAY, NEXT)
    assert [file.rows for file in window.staged[NEXT].files] == [1]
    assert window.staged[DAY].files == ()
    assert changing.latest()[1,]["name"] == "new"
    assert len(changing.latest()) == 10


def test_rows_that_are_read_again_are_stored_once(changing: Table) -> None:
    changing.capture(DAY, NEXT)
    late = datetime.now(UTC) - timedelta(seconds=30)
    changing.write("insert into {table} values (11, 'late', '2017-01-01', %s)", late)
    # All rows of the day are within the overlap, and are read again.
    assert changing.capture(DAY, NEXT).rows == {DAY: 6, NEXT: 5}


def test_a_value_that_returns_to_what_it_was_is_stored_again(changing: Table) -> None:
    changing.capture(DAY, NEXT)
    for name in ("other", "n1"):
        changing.write("update {table} set name = %s where id = 1", name)
        changing.write(
            "insert into {table} select max(id) + 1, '', '2017-01-02', now() from {table}"
        )
        changing.capture(DAY, NEXT)
        assert changing.latest()[1,]["name"] == name


def test_a_row_that_commits_late_is_not_missed(changing: Table) -> None:
    with changing.open() as late:
        late.execute(f"insert into {changing.name} values (50, 'late', '2017-01-01', now())")
        changing.capture(DAY, NEXT)
        changing.write("insert into {table} values (51, 'soon', '2017-01-01', now())")
        changing.capture(DAY, NEXT)
    assert changing.pending() == {DAY}
    changing.capture(DAY, NEXT)
    assert changing.latest()[50,]["name"] == "late"
    assert len(changing.latest()) == 12


def test_rows_of_partitions_that_were_not_captured_stay_pending(changing: Table) -> None:
    changing.write("update {table} set at = %s", datetime.now(UTC) - timedelta(days=1))
    changing.capture(DAY)
    assert changing.pending() == {NEXT}
    changing.write("insert into {table} values (12, 'x', '2017-01-01', now())")
    changing.capture(DAY)
    changing.capture(NEXT)
    assert len(changing.latest()) == 11
    assert changing.pending() == set()


def test_the_watermark_stays_where_a_partition_failed(
    changing: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing.capture(DAY, NEXT)
    before = changing.stored
    changing.write("insert into {table} values (12, 'x', '2017-01-01', now())")
    connector = changing.connector
    monkeypatch.setattr(type(connector.database), "read", _fail)
    window = changing.capture(DAY, NEXT, connector=connector)
    assert [*window.failed] == [DAY]
    monkeypatch.undo()
    assert before != {}
    assert changing.pending() == {DAY}
    changing.capture(DAY)
    assert changing.latest()[12,]["name"] == "x"


def _fail(*_: object) -> None:
    raise RuntimeError("a defect")


def test_what_was_staged_and_never_committed_is_captured_again(changing: Table) -> None:
    changing.capture(DAY, NEXT, publish=False)
    assert changing.capture(DAY, NEXT).rows == {DAY: 5, NEXT: 5}
    changing.write("insert into {table} values (12, 'x', '2017-01-01', now())")
    changing.capture(DAY, NEXT, publish=False)
    assert changing.pending() == {DAY}
    assert changing.capture(DAY, NEXT).rows == {DAY: 6, NEXT: 5}


def test_rows_of_today_wait_until_the_day_exists(changing: Table) -> None:
    changing.write("update {table} set sold_on = %s where id = 1", datetime.now(UTC).date())
    changing.capture(DAY, NEXT)
    assert changing.pending() == set()
    changing.write("update {table} set sold_on = '2017-01-01' where id = 1")
    assert DAY in changing.pending()
    changing.capture(DAY, NEXT)
    assert len(changing.latest()) == 10


def test_a_column_of_another_type_is_named_with_the_type_to_declare(table: Table) -> None:
    table.retype("amount", "bigint")
    with pytest.raises(Exception, match="column 'amount' is bigint, not int") as raised:
        table.capture(DAY)
    assert "source_type: bigint" in raised.value.fix  # type: ignore[attr-defined]


def test_a_dropped_column_is_named(table: Table) -> None:
    table.write("alter table {table} drop column name")
    with pytest.raises(Exception, match="column 'name' is missing"):
        table.capture(DAY)


def test_a_dropped_table_is_named(table: Table) -> None:
    table.write("drop table {table}")
    with pytest.raises(Exception, match="does not exist"):
        table.capture(DAY)


def test_no_error_has_the_password_or_the_server_s_words(table: Table) -> None:
    user, host = table.url.partition("@")[0].rpartition("/")[2], table.url.partition("@")[2]
    url = f"{table.url.removesuffix(f'{user}@{host}')}nobody:s3cret@{host}"
    database: Any = table.connector.database
    reader = replace(database, connection=Connection("shop", "SHOP_URL", lambda: url))
    connector = TableConnector(table.connector.kind, table.entity, reader)
    with pytest.raises(SourceRejectedError, match=r"no such user|refuses the user") as raised:
        connector.plan([DAY], table.state(), table.run())
    assert "s3cret" not in f"{raised.value} {raised.value.fix}"


def test_a_change_that_leaves_the_cursor_as_it_was_is_captured(
    tmp_path: Path, kind: type[Table]
) -> None:
    """A cursor of whole days, or seconds: a row changes again before its clock has moved on."""
    table = kind(
        tmp_path,
        "create table {} (id bigint primary key, name text, at date)",
        columns=[
            {"name": "id", "type": "bigint"},
            {"name": "name", "type": "string"},
            {"name": "at", "type": "date"},
        ],
        extract={"mode": "watermark", "cursor": "at", "partition_by": None},
    )
    table.partitions = PartitionSettings(start=DAY, end=datetime.now(UTC).date() + timedelta(2))
    today = datetime.now(UTC).date()
    table.write("insert into {table} values (1, 'a', %s)", today)
    table.capture(DAY, today)
    assert table.pending() == set()
    table.write("update {table} set name = 'new'")
    assert table.pending() == {today}
    table.capture(DAY, today)
    assert table.latest()[1,]["name"] == "new"
