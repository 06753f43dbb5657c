"""Watermarks while writers never stop: afterwards the latest state in raw equals the table's."""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

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


class Writer:
    """A client of the table, with a clock of its own; keys that it writes are its own too."""

    def __init__(self, table: Table, number: int, seed: int) -> None:
        self.table, self.number = table, number
        self.random = random.Random(seed)  # noqa: S311
        self.skew = self.random.choice([0.0, 0.0, self.random.uniform(-_SKEW_SECONDS, 1.0)])
        self.keys: list[int] = []
        self.error: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        try:
            with psycopg.connect(self.table.url) as session:
                while not stop.is_set():
                    self.transact(session)
        except BaseException as error:  # noqa: BLE001  # the test raises it
            self.error = error

    def transact(self, session: psycopg.Connection) -> None:
        """Some writes, then a pause, then commit or rollback."""
        known = [*self.keys]
        # The time of the transaction's begin, however long it takes.
        session.execute("select now()")
        time.sleep(self.random.choice([0, 0, 0.01, 0.3]))
        for _ in range(self.random.randint(1, 4)):
            self.write(session)
        time.sleep(self.random.choice([0, 0, 0.02, 0.5]))
        if self.random.random() < 0.15:
            session.rollback()
            self.keys = known
        else:
            session.commit()

    def write(self, session: psycopg.Connection) -> None:
        # Now as the server says it, cut to seconds (ties), by the client's own clock, or never.
        at = self.random.choice(
            ["now()", "now()", "date_trunc('second', now())", "%(client)s::timestamptz", "null"]
        )
        values: dict[str, Any] = {
            "client": f"{time.time() + self.skew}",
            "name": self.random.choice(["a", "b", "c", None]),
            "day": self.random.choice(_DAYS),
        }
        at = at.replace("%(client)s::timestamptz", "to_timestamp(%(client)s::float8)")
        if self.keys and self.random.random() < 0.6:
            # A row keeps its day.
            values["id"] = self.random.choice(self.keys)
            session.execute(
                f"update {self.table.name} set name = %(name)s, at = {at} where id = %(id)s", values
            )
            return
        values["id"] = self.number * 1_000_000 + len(self.keys)
        session.execute(
            f"insert into {self.table.name} values (%(id)s, %(name)s, %(day)s, {at})"
            " on conflict (id) do update set name = excluded.name, at = excluded.at",
            values,
        )
        self.keys.append(values["id"])


class Appender(Writer):
    """A client that adds rows only, and may reserve an id long before it writes the row."""

    def write(self, session: psycopg.Connection) -> None:
        (key,) = session.execute(f"select nextval('{self.table.name}_ids')").fetchone() or (0,)
        time.sleep(self.random.choice([0, 0, 0.05, 0.2]))
        values = (key, self.random.choice(["a", "b"]), self.random.choice(_DAYS))
        session.execute(f"insert into {self.table.name} values (%s, %s, %s, now())", values)


@contextmanager
def writing(table: Table, seed: int, kind: type[Writer] = Writer) -> Iterator[None]:
    stop, writers = threading.Event(), [kind(table, n, seed + n) for n in range(_WRITERS)]
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
def test_the_latest_state_in_raw_is_the_tables_once_writers_stop(
    tmp_path: Path, seed: int, kind: str
) -> None:
    chance = random.Random(seed)  # noqa: S311
    table = Table(
        tmp_path,
        _CREATE.replace("timestamptz", kind),
        extract={"mode": "watermark", "cursor": "at", "overlap": _OVERLAP},
        columns=[*_COLUMNS[:-1], {"name": "at", "type": kind}],
    )
    with writing(table, seed * 100), psycopg.connect(table.url) as long:
        # A transaction that is open through half of the captures.
        long.execute(f"insert into {table.name} values (-1, 'long', '2017-01-02', now())")
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
    assert {*found} == {*truth}
    # Windows of an overlap are read many times, and stored once.
    versions = [
        tuple(row[name] for name in ("id", "name", "sold_on", "at")) for row in table.rows()
    ]
    assert len(versions) < 3 * len(truth) + 200
    assert table.pending() == set()


def test_no_row_is_missed_by_an_increasing_id(tmp_path: Path) -> None:
    table = Table(
        tmp_path,
        _CREATE,
        extract={"mode": "increasing_id", "cursor": "id", "overlap": 0},
        columns=_COLUMNS,
    )
    table.write("create sequence {table}_ids")
    chance = random.Random(3)  # noqa: S311
    with writing(table, 300, Appender), psycopg.connect(table.url) as long:
        key = long.execute(f"select nextval('{table.name}_ids')").fetchone()
        for number in range(_CAPTURES):
            days = sorted(table.pending()) if chance.random() < 0.5 else [*_DAYS]
            table.capture(*(days or _DAYS), publish=chance.random() < 0.8)
            if number == _CAPTURES // 2:
                # The id is the first, the row is written after six captures.
                insert = f"insert into {table.name} values (%s, 'long', '2017-01-02', now())"
                long.execute(insert, key)
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
