"""Tables of databases: full and watermark captures, over a real server."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from headrace.raw.capture import CapturedWindow, raw_schema
from headrace.sources.postgres.database import PostgresRelation
from headrace.sources.tables.database import Selection
from tests.contract.tables import DAY, NEXT, Table, connector_of

CHANGING = "create table {} (id bigint primary key, name text, sold_on date, at timestamptz)"
CHANGING_COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "sold_on", "type": "date"},
    {"name": "at", "type": "timestamptz"},
]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    found = Table(tmp_path)
    found.write(
        "insert into {table} values (1, 'a', 10, '2017-01-01'), (2, 'b', 20, '2017-01-01'),"
        " (3, null, 30, '2017-01-01'), (4, 'd', 40, '2017-01-02')"
    )
    return found


@pytest.fixture
def changing(tmp_path: Path) -> Table:
    """A table with a cursor, of days of 2017, that was written just now."""
    extract = {"mode": "watermark", "cursor": "at", "overlap": "1m"}
    found = Table(tmp_path, CHANGING, extract=extract, columns=CHANGING_COLUMNS)
    found.write(
        "insert into {table} select n, 'n' || n, date '2017-01-01' + n % 2, now()"
        " from generate_series(1, 10) as n"
    )
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
    read, moved = PostgresRelation.read, threading.Event()

    def slowly(self: PostgresRelation, selection: Selection) -> Iterator[pa.RecordBatch]:
        is_first = (selection.days or ())[0][0] == DAY
        if not is_first:
            moved.wait(5)
        yield from read(self, selection)
        # To the day that was read before: captured from two snapshots, the row is in neither.
        if is_first:
            table.write("update {table} set sold_on = '2017-01-01' where id = 4")
            moved.set()

    monkeypatch.setattr(PostgresRelation, "read", slowly)
    assert table.capture(DAY, NEXT).rows == {DAY: 3, NEXT: 1}


def test_rows_without_a_day_belong_to_the_first_partition(table: Table) -> None:
    table.write("insert into {table} values (5, 'e', 1, null), (6, 'f', 1, 'infinity')")
    window = table.capture(DAY, NEXT)
    assert window.rows == {DAY: 5, NEXT: 1}
    corrupt = [row for row in table.rows(DAY) if row["_corrupt_record"]]
    assert [row["_corrupt_record"] for row in corrupt] == ["5,e,1,", "6,f,1,infinity"]


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
    changing.write("insert into {table} values (11, 'late', '2017-01-01', now() - interval '30 s')")
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
    with psycopg.connect(changing.url) as late:
        late.execute(f"insert into {changing.name} values (50, 'late', '2017-01-01', now())")
        changing.capture(DAY, NEXT)
        changing.write("insert into {table} values (51, 'soon', '2017-01-01', now())")
        changing.capture(DAY, NEXT)
        late.commit()
    assert changing.pending() == {DAY}
    changing.capture(DAY, NEXT)
    assert changing.latest()[50,]["name"] == "late"
    assert len(changing.latest()) == 12


def test_rows_of_partitions_that_were_not_captured_stay_pending(changing: Table) -> None:
    changing.write("update {table} set at = at - interval '1 day'")
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
    table.write("alter table {table} alter amount type bigint")
    with pytest.raises(Exception, match="column 'amount' is bigint, not int") as raised:
        table.capture(DAY)
    assert "source_type: bigint" in raised.value.fix  # type: ignore[attr-defined]


def test_a_dropped_column_is_named(table: Table) -> None:
    table.write("alter table {table} drop name")
    with pytest.raises(Exception, match="column 'name' is missing"):
        table.capture(DAY)


def test_a_dropped_table_is_named(table: Table) -> None:
    table.write("drop table {table}")
    with pytest.raises(Exception, match="does not exist"):
        table.capture(DAY)


def test_no_error_has_the_password_or_the_server_s_words(table: Table) -> None:
    url = table.url.replace("postgres@", "nobody:s3cret@")
    with pytest.raises(Exception, match="there is no such user") as raised:
        connector_of(table.entity, url).plan([DAY], table.state(), table.run())
    assert "s3cret" not in f"{raised.value} {raised.value.fix}"  # type: ignore[attr-defined]
