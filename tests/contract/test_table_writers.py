"""Watermarks while writers never stop: afterwards the latest state in raw equals the table's."""

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.mysql_tables import MysqlTable
from tests.contract.tables import DAY, NEXT, Table

pytestmark = [pytest.mark.property, pytest.mark.contract]

_DAYS = (DAY, NEXT, DAY + timedelta(days=2))
_CREATE = "create table {} (id bigint primary key, name text, sold_on date, at timestamptz)"
_COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "sold_on", "type": "date"},
    {"name": "at", "type": "timestamptz"},
]
_WRITERS = 4
_CAPTURES = 10
# Clocks of clients are late by up to this, and the overlap covers it.
_SKEW_SECONDS = 2.0
_OVERLAP = "3s"


@dataclass(frozen=True)
class Dialect:
    """What is written, in the words of a database.

    Attributes:
        types: Its types of times, by ours.
        second: Now, cut to a second.
        client: An instant by its seconds since 1970.
        conflict: What follows an insert of a key that may be there.
    """

    table: type[Table]
    types: Mapping[str, str]
    now: str
    second: str
    client: str
    conflict: str


DIALECTS = {
    "postgres": Dialect(
        Table,
        {"timestamptz": "timestamptz", "timestamp": "timestamp"},
        "now()",
        "date_trunc('second', now())",
        "to_timestamp(%(client)s::float8)",
        "on conflict (id) do update set name = excluded.name, at = excluded.at",
    ),
    "mysql": Dialect(
        MysqlTable,
        {"timestamptz": "timestamp(6) null", "timestamp": "datetime(6)"},
        "now(6)",
        "now()",
        "from_unixtime(%(client)s)",
        "on duplicate key update name = values(name), at = values(at)",
    ),
}


class Writer:
    """A client of the table, with a clock of its own; keys that it writes are its own too."""

    def __init__(self, table: Table, dialect: Dialect, number: int, seed: int) -> None:
        self.table, self.dialect, self.number = table, dialect, number
        self.random = random.Random(seed)  # noqa: S311
        self.skew = self.random.choice([0.0, 0.0, self.random.uniform(-_SKEW_SECONDS, 1.0)])
        self.keys: list[int] = []
        self.error: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        try:
            with self.table.transactions() as session:
                while not stop.is_set():
                    self.transact(session)
        except BaseException as error:  # noqa: BLE001  # the test raises it
            self.error = error

    def transact(self, session: Any) -> None:
        """Some writes, then a pause, then commit or rollback."""
        known = [*self.keys]
        # The time of the transaction's begin, however long it takes.
        session.cursor().execute("select now()")
        time.sleep(self.random.choice([0, 0, 0.01, 0.3]))
        for _ in range(self.random.randint(1, 4)):
            self.write(session.cursor())
        time.sleep(self.random.choice([0, 0, 0.02, 0.5]))
        if self.random.random() < 0.15:
            session.rollback()
            self.keys = known
        else:
            session.commit()

    def write(self, cursor: Any) -> None:
        # Now as the server says it, cut to seconds (ties), by the client's own clock, or never.
        dialect = self.dialect
        at = self.random.choice([dialect.now, dialect.now, dialect.second, dialect.client, "null"])
        values: dict[str, Any] = {
            "client": f"{time.time() + self.skew}",
            "name": self.random.choice(["a", "b", "c", None]),
            "day": self.random.choice(_DAYS),
        }
        if self.keys and self.random.random() < 0.6:
            # A row keeps its day.
            values["id"] = self.random.choice(self.keys)
            cursor.execute(
                f"update {self.table.name} set name = %(name)s, at = {at} where id = %(id)s", values
            )
            return
        values["id"] = self.number * 1_000_000 + len(self.keys)
        cursor.execute(
            f"insert into {self.table.name} values (%(id)s, %(name)s, %(day)s, {at})"
            f" {dialect.conflict}",
            values,
        )
        self.keys.append(values["id"])


class Appender(Writer):
    """A client that adds rows only, and may reserve an id long before it writes the row."""

    def write(self, cursor: Any) -> None:
        values = (self.random.choice(["a", "b"]), self.random.choice(_DAYS))
        columns, places = "name, sold_on, at", "%s, %s, now()"
        if self.dialect.table is Table:
            # MySQL gives an id to a row at its insert, in the transaction that inserts it.
            cursor.execute(f"select nextval('{self.table.name}_ids')")
            columns, places = f"id, {columns}", f"{cursor.fetchone()[0]}, {places}"
            time.sleep(self.random.choice([0, 0, 0.05, 0.2]))
        cursor.execute(f"insert into {self.table.name} ({columns}) values ({places})", values)


@contextmanager
def writing(
    table: Table, dialect: Dialect, seed: int, kind: type[Writer] = Writer
) -> Iterator[None]:
    stop = threading.Event()
    writers = [kind(table, dialect, n, seed + n) for n in range(_WRITERS)]
    threads = [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for writer in writers:
        if writer.error is not None:
            raise writer.error


@pytest.mark.parametrize(("seed", "kind"), [(1, "timestamptz"), (2, "timestamp")])
@pytest.mark.parametrize("database", DIALECTS)
def test_the_latest_state_in_raw_is_the_tables_once_writers_stop(
    tmp_path: Path, database: str, seed: int, kind: str
) -> None:
    dialect = DIALECTS[database]
    chance, at = random.Random(seed), dialect.types[kind]  # noqa: S311
    table = dialect.table(
        tmp_path,
        f"create table {{}} (id bigint primary key, name text, sold_on date, at {at})",
        extract={"mode": "watermark", "cursor": "at", "overlap": _OVERLAP},
        columns=[*_COLUMNS[:-1], {"name": "at", "type": kind}],
    )
    with writing(table, dialect, seed * 100), table.transactions() as long:
        # A transaction that is open through half of the captures.
        long.cursor().execute(f"insert into {table.name} values (-1, 'long', '2017-01-02', now())")
        for number in range(_CAPTURES):
            days: list[date] = [*_DAYS]
            if chance.random() < 0.5:
                days = sorted(table.pending()) or [*_DAYS]
            elif chance.random() < 0.5:
                days = chance.sample(_DAYS, chance.randint(1, 2))
            # Some captures are killed before their commit.
            table.capture(*days, publish=chance.random() < 0.8)
            if number == _CAPTURES // 2:
                long.commit()
            time.sleep(chance.choice([0, 0.1, 0.4]))
    if pending := table.pending():
        table.capture(*sorted(pending))
    truth = table.query("select id, name, sold_on, at from {table}")
    latest = table.latest()
    found = [(row["id"], row["name"], row["sold_on"], row["at"]) for row in latest.values()]
    assert len(truth) > 10
    assert {_in_utc(row) for row in found} == {_in_utc(row) for row in truth}
    # Windows of an overlap are read many times, and stored once.
    versions = [
        tuple(row[name] for name in ("id", "name", "sold_on", "at")) for row in table.rows()
    ]
    assert len(versions) < 3 * len(truth) + 200
    assert table.pending() == set()


def _in_utc(row: tuple[Any, ...]) -> tuple[Any, ...]:
    # PyMySQL gives instants without a zone.
    *values, at = row
    return (*values, at.astimezone(UTC).replace(tzinfo=None) if at and at.tzinfo else at)


@pytest.mark.parametrize("database", DIALECTS)
def test_no_row_is_missed_by_an_increasing_id(tmp_path: Path, database: str) -> None:
    dialect = DIALECTS[database]
    has_sequence = dialect.table is Table
    key = "primary key" if has_sequence else "auto_increment primary key"
    at = dialect.types["timestamptz"]
    table = dialect.table(
        tmp_path,
        f"create table {{}} (id bigint {key}, name text, sold_on date, at {at})",
        extract={"mode": "increasing_id", "cursor": "id", "overlap": 0},
        columns=_COLUMNS,
    )
    if has_sequence:
        table.write("create sequence {table}_ids")
    chance = random.Random(3)  # noqa: S311
    with writing(table, dialect, 300, Appender), table.transactions() as long:
        cursor, insert = long.cursor(), f"insert into {table.name} (id, name, sold_on, at) values"
        if has_sequence:
            cursor.execute(f"select nextval('{table.name}_ids')")
            first = cursor.fetchone()[0]
        else:
            cursor.execute(f"{insert} (null, 'long', '2017-01-02', now())")
        for number in range(_CAPTURES):
            days = sorted(table.pending()) if chance.random() < 0.5 else [*_DAYS]
            table.capture(*(days or _DAYS), publish=chance.random() < 0.8)
            if number == _CAPTURES // 2:
                # The id is the first, the row is committed after six captures.
                if has_sequence:
                    cursor.execute(f"{insert} ({first}, 'long', '2017-01-02', now())")
                long.commit()
            time.sleep(chance.choice([0.1, 0.3, 1.2]))
    if pending := table.pending():
        table.capture(*sorted(pending))
    table.capture(*_DAYS)
    assert json.loads(table.stored["watermark"])["low"] > 1
    truth = {row[0] for row in table.query("select id from {table}")}
    found = [row["id"] for row in table.rows()]
    assert len(truth) > 10
    assert {*found} == truth
    assert len(found) == len(truth)
    assert table.pending() == set()
