"""Change tables that triggers fill: every change arrives once, deletes too."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headrace.errors import SourceRejectedError, SourceUnavailableError
from headrace.sources.connections import Connection
from headrace.sources.postgres import triggers
from headrace.sources.postgres.change_table import PostgresChangeTable
from headrace.sources.postgres.triggers import Triggers, install
from headrace.sources.tables.change_log import SeenChanges
from headrace.sources.tables.change_table import ChangeTableConnector
from tests.contract.tables import DAY, NEXT, Table

pytestmark = pytest.mark.contract

_THIRD = DAY + timedelta(days=2)
_DAYS = (DAY, NEXT, _THIRD)
_CREATE = "create table {} (id bigint primary key, name text, sold_on date, tags text[])"
_COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "sold_on", "type": "date"},
    {"name": "tags", "type": "string"},
]
_WRITERS = 4
_CAPTURES = 12


class ChangedTable(Table):
    """A table with triggers, which write to a change table in its own schema."""

    def __init__(self, folder: Path, **declared: Any) -> None:
        super().__init__(folder, _CREATE, **declared)
        self.install()

    def declare(self, **changes: Any) -> Any:
        extract = {"mode": "change_table", "changes": f"{self.name}_changes"}
        extract |= changes.pop("extract", {})
        return super().declare(**{"columns": _COLUMNS, **changes, "extract": extract})

    def install(self, url: str | None = None) -> None:
        connection = Connection("shop", "SHOP_URL", lambda: url or self.url)
        install(Triggers(self.entity), connection)

    @property
    def connector(self) -> Any:
        connection = Connection("shop", "SHOP_URL", lambda: self.url)
        return ChangeTableConnector(
            "postgres", self.entity, PostgresChangeTable(self.entity, connection)
        )

    def state_of_rows(self) -> set[tuple[Any, ...]]:
        """The rows that are there, by partition and key, from all that raw has."""
        found: dict[Any, dict[str, Any]] = {}
        place = ("_delivery_order", "_source_position")
        for row in sorted(self.rows(), key=lambda row: tuple(row[name] for name in place)):
            found[row["_partition_date"], row["id"]] = row
        names = ("id", "name", "sold_on", "tags")
        return {
            tuple(row[name] for name in names)
            for row in found.values()
            if row["_operation"] != "delete"
        }

    def truth(self) -> set[tuple[Any, ...]]:
        return {*self.query("select id, name, sold_on, tags::text from {table}")}


@pytest.fixture
def table(tmp_path: Path) -> ChangedTable:
    found = ChangedTable(tmp_path)
    found.write(
        "insert into {table} values (1, 'a', '2017-01-01', '{x,y}'), (2, 'b', '2017-01-01', null),"
        " (3, 'c', '2017-01-02', '{}')"
    )
    return found


def operations(table: ChangedTable) -> list[tuple[Any, ...]]:
    names = ("id", "name", "_operation")
    ordered = sorted(table.rows(), key=lambda r: (r["_delivery_order"], r["_source_position"]))
    return [tuple(row[name] for name in names) for row in ordered]


def test_the_first_capture_reads_the_table_and_later_ones_its_changes(table: ChangedTable) -> None:
    assert table.capture(*_DAYS).rows == {DAY: 2, NEXT: 1, _THIRD: 0}
    assert table.state_of_rows() == table.truth()
    assert table.pending() == set()
    table.write("update {table} set name = 'B', tags = '{z}' where id = 2")
    table.write("delete from {table} where id = 1")
    table.write("insert into {table} values (4, 'd', '2017-01-02', null)")
    assert table.pending() == {DAY, NEXT}
    table.capture(*_DAYS)
    assert operations(table)[3:] == [
        (2, "B", "update"),
        (1, "a", "delete"),
        (4, "d", "insert"),
    ]
    assert table.state_of_rows() == table.truth()
    assert table.pending() == set()
    assert not any(staged.files for staged in table.capture(*_DAYS).staged.values())


def test_a_row_that_moves_to_another_day_leaves_the_one_where_it_was(table: ChangedTable) -> None:
    table.capture(*_DAYS)
    table.write("update {table} set sold_on = '2017-01-03' where id = 1")
    table.write("update {table} set id = 20 where id = 2")
    table.capture(*_DAYS)
    assert table.state_of_rows() == table.truth()


def test_a_truncated_table_has_deletes_of_all_its_rows(table: ChangedTable) -> None:
    table.capture(*_DAYS)
    table.write("truncate {table}")
    table.capture(*_DAYS)
    assert table.state_of_rows() == set()


def test_a_transaction_that_is_open_holds_back_its_own_changes_alone(table: ChangedTable) -> None:
    table.capture(*_DAYS)
    with table.open() as late:
        late.execute(f"insert into {table.name} values (8, 'late', '2017-01-01', null)")
        table.write("insert into {table} values (9, 'soon', '2017-01-01', null)")
        table.capture(*_DAYS)
        assert operations(table)[-1] == (9, "soon", "insert")
    assert table.pending() == {DAY}
    table.capture(*_DAYS)
    assert operations(table)[-1] == (8, "late", "insert")
    assert len(operations(table)) == 5


def test_changes_of_partitions_that_were_not_captured_stay_pending(table: ChangedTable) -> None:
    table.capture(DAY)
    assert table.pending() == {NEXT}
    table.write("update {table} set name = 'x'")
    table.capture(DAY)
    assert table.pending() == {NEXT}
    table.capture(NEXT)
    assert table.pending() == set()
    assert table.state_of_rows() == table.truth()
    assert len(operations(table)) == 2 + 2 + 1


def test_an_equal_change_is_another_change_and_no_second_delivery(table: ChangedTable) -> None:
    table.capture(*_DAYS)
    for name in "ABA":
        table.write("update {table} set name = %s where id = 1", name)
        assert table.capture(DAY).duplicates == ()
    assert [name for _, name, kind in operations(table) if kind] == ["A", "B", "A"]


def test_rows_of_today_wait_until_the_day_exists(table: ChangedTable) -> None:
    today = datetime.now(UTC).date()
    table.write(f"insert into {{table}} values (5, 'e', '{today}', null)")
    table.capture(*_DAYS)
    assert table.pending() == set()
    table.write("update {table} set sold_on = '2017-01-03' where id = 5")
    table.capture(*_DAYS)
    assert table.state_of_rows() == table.truth()


def test_without_days_changes_belong_to_the_day_of_their_capture(tmp_path: Path) -> None:
    table = ChangedTable(
        tmp_path,
        extract={"partition_by": None},
        partition="none",
        key=["id", "at", "_source_position"],
        columns=[*_COLUMNS, {"name": "at", "type": "timestamptz", "from": "_changed_at"}],
    )
    table.write("insert into {table} values (1, 'a', null, null), (2, 'b', null, null)")
    table.capture(*table.connector.sparse_partitions(table.state(), table.run()))
    assert [*table.files] == [DAY]
    table.write("update {table} set name = 'A' where id = 1")
    table.write("update {table} set name = 'a' where id = 1")
    table.write("delete from {table} where id = 2")
    today = datetime.now(UTC).date()
    assert table.pending() == {today}
    table.capture(*table.connector.sparse_partitions(table.state(), table.run()))
    assert operations(table)[2:] == [(1, "A", "update"), (1, "a", "update"), (2, "b", "delete")]
    assert len({row["at"] for row in table.rows(today)}) == 3


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("drop table {table}_changes", "there is no change table"),
        ("drop trigger headrace_changes on {table}", "no trigger that is enabled writes"),
        ("alter table {table} disable trigger headrace_changes", "no trigger that is enabled"),
    ],
)
def test_a_table_whose_changes_are_not_written_is_refused(
    table: ChangedTable, statement: str, expected: str
) -> None:
    table.capture(*_DAYS)
    table.write(statement)
    with pytest.raises(SourceRejectedError, match=expected) as raised:
        table.pending()
    assert "headrace source triggers" in raised.value.fix


def test_a_trigger_that_was_made_anew_makes_the_table_be_read_whole(table: ChangedTable) -> None:
    table.capture(*_DAYS)
    table.write("drop trigger headrace_changes on {table}")
    table.write("update {table} set name = 'unseen' where id = 1")
    table.install()
    assert table.pending() == {DAY, NEXT}
    window = table.capture(*_DAYS)
    assert "the change table is another one than before" in next(iter(window.notices))
    assert table.state_of_rows() == table.truth()
    # To install what is there changes nothing.
    table.install()
    assert table.pending() == set()


def test_no_change_of_the_table_breaks_its_writers(table: ChangedTable) -> None:
    table.write("alter table {table} drop column tags, add column amount numeric default 1")
    table.write("alter table {table} rename column sold_on to sold")
    table.write("update {table} set name = 'x', sold = '2017-01-02'")
    assert len(table.query("select 1 from {table}_changes")) == 6


def test_the_printed_script_installs_the_triggers_whatever_names_are_called(
    tmp_path: Path,
) -> None:
    table = ChangedTable(tmp_path)
    schema = table.name.partition(".")[0]
    table.write(
        f'create table {schema}."Odd $headrace$ name" ("it\'s {{0}} %s" int, name text,'
        " sold_on date)"
    )
    table.entity = table.declare(
        extract={"table": f"{schema}.Odd $headrace$ name", "changes": f"{schema}.Its % changes"},
        columns=[{"name": "id", "type": "int", "from": "it's {0} %s"}, *_COLUMNS[1:3]],
    )
    for _ in range(2):
        with psycopg.connect(table.url, autocommit=True) as session:
            session.execute(Triggers(table.entity, "postgres").script())
    table.capture(*_DAYS)
    odd = f'{schema}."Odd $headrace$ name"'
    table.write(f"insert into {odd} values (1, 'a', '2017-01-01')")
    table.write(f'update {odd} set "it\'s {{0}} %s" = 2')
    table.capture(*_DAYS)
    assert operations(table) == [(1, "a", "insert"), (1, "a", "delete"), (2, "a", "insert")]


def test_installing_does_not_wait_long_for_writers(
    table: ChangedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "_LOCK_TIMEOUT", "100ms")
    table.write("drop trigger headrace_changes on {table}")
    with table.open() as open_one:
        open_one.execute(f"delete from {table.name}")
        with pytest.raises(SourceUnavailableError, match="transactions hold the table") as raised:
            table.install()
    assert raised.value.fix == "run it again at a quiet time"


def test_one_who_may_not_create_triggers_is_told_so(table: ChangedTable) -> None:
    reader = table.name.partition(".")[0]
    table.write(f"create role {reader} login")
    with pytest.raises(SourceRejectedError, match="SQLSTATE 42501"):
        table.install(table.url.replace("postgres@", f"{reader}@"))
    function = f"has_function_privilege('{reader}', '{{table}}_changes()', 'execute')"
    assert table.query(f"select {function}") == [(False,)]


class Changer:
    """A client that inserts, updates, moves, renumbers and deletes rows of its own."""

    def __init__(self, table: ChangedTable, number: int, seed: int) -> None:
        self.table, self.number, self.random = table, number, random.Random(seed)  # noqa: S311
        self.keys: list[int] = []
        self.next = 0
        self.error: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        try:
            with self.table.transactions() as session:
                while not stop.is_set():
                    known = [*self.keys]
                    for _ in range(self.random.randint(1, 4)):
                        self.write(session.cursor())
                        time.sleep(self.random.choice([0, 0, 0.02, 0.2]))
                    if self.random.random() < 0.2:
                        session.rollback()
                        self.keys = known
                    else:
                        session.commit()
        except BaseException as error:  # noqa: BLE001  # the test raises it
            self.error = error

    def write(self, cursor: Any) -> None:
        name, day = self.random.choice("abc"), self.random.choice(_DAYS)
        what = self.random.random()
        table = self.table.name
        if not self.keys or what < 0.35:
            self.next += 1
            key = self.number * 1_000_000 + self.next
            self.keys.append(key)
            cursor.execute(f"insert into {table} values (%s, %s, %s, null)", (key, name, day))
            return
        key = self.random.choice(self.keys)
        if what < 0.6:
            cursor.execute(f"update {table} set name = %s where id = %s", (name, key))
        elif what < 0.75:
            cursor.execute(f"update {table} set sold_on = %s where id = %s", (day, key))
        elif what < 0.8:
            self.next += 1
            self.keys[self.keys.index(key)] = new = self.number * 1_000_000 + self.next
            cursor.execute(f"update {table} set id = %s where id = %s", (new, key))
        else:
            self.keys.remove(key)
            cursor.execute(f"delete from {table} where id = %s", (key,))


@contextmanager
def changing(table: ChangedTable, seed: int) -> Iterator[None]:
    stop = threading.Event()
    clients = [Changer(table, number, seed + number) for number in range(1, _WRITERS + 1)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for client in clients:
        if client.error is not None:
            raise client.error


@pytest.mark.property
def test_every_change_arrives_once_while_writers_never_stop(table: ChangedTable) -> None:
    chance = random.Random(7)  # noqa: S311
    with changing(table, 70), table.transactions() as long:
        long.cursor().execute(f"insert into {table.name} values (-1, 'long', '2017-01-02', null)")
        for number in range(_CAPTURES):
            days = [*_DAYS]
            if chance.random() < 0.5:
                days = sorted(table.pending()) or days
            elif chance.random() < 0.5:
                days = chance.sample(_DAYS, chance.randint(1, 2))
            # Some captures are killed before their commit.
            table.capture(*days, publish=chance.random() < 0.8)
            if number == _CAPTURES // 2:
                long.commit()
            time.sleep(chance.choice([0, 0.1, 0.3]))
    if pending := table.pending():
        table.capture(*sorted(pending))
    assert table.pending() == set()
    assert len(table.truth()) > 10
    assert table.state_of_rows() == table.truth()
    changes = [row["_source_position"] for row in table.rows() if row["_operation"]]
    logged = {row[0] for row in table.query("select change_id from {table}_changes")}
    assert len(changes) == len({*changes})
    assert {*changes} <= logged
    # Only the first capture of each day reads the table itself.
    orders = {
        (r["_partition_date"], r["_delivery_order"]) for r in table.rows() if not r["_operation"]
    }
    assert len(orders) <= len(_DAYS)


def test_what_is_known_of_partitions_stays_small() -> None:
    known = SeenChanges("x", "100:100:")
    days = [DAY + timedelta(days=n) for n in range(400)]
    for number in range(60):
        now = f"{number + 101}:{number + 101}:"
        some = days[number::60]
        known = known.after(now, days, some, f"2026-01-01T00:00:{number:02}")
    text = known.dump("reading")["changes"]
    assert len(text) < 2000
    again = SeenChanges.load({"changes": text}, "reading")
    assert again == known
    # Nothing counts as captured that is not.
    for day in days:
        captured_at = 101 + days.index(day) % 60
        seen = again.seen_of(day)
        assert seen is None or int(seen.split(":")[1]) <= max(captured_at, 100)
