"""Random histories of the small shop, and naively what its readers may see, and must in the end.

A history has days of its own and customers of its own, so that several take turns in one
installation: each of them looks at its own alone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from threading import Event
from typing import Any

import psycopg

from headrace.cli.backfill import BackfillResult
from headrace.config.loader import load_project
from headrace.project.connections import postgres_url
from tests.e2e.installation import Installation
from tests.e2e.killing import run_killed, start_run
from tests.e2e.stale_shop import (
    FACTS,
    STAR,
    deliver,
    deliver_without_column,
    run_stale,
    stale,
)

LOADS = {"orders": "partition_replace", "returns": "upsert", "visits": "truncate_and_load"}
FIRST_DAY, LENGTH = date(2017, 1, 30), 4
_CUSTOMERS = 5
_ENTITIES = (*LOADS, "customers")
# What a step of a history does, besides what it delivers first.
_STEPS = ("run", "run", "run", "stale", "pair", "killed", "killed")

# A day's rows: id, customer and amount; customers: id and city.
Rows = frozenset[tuple[object, ...]]
Key = tuple[str, date]
NOTHING: Rows = frozenset()


@dataclass
class Told:
    """What the files of an entity's day have said, one after the other; None: a broken file.

    Attributes:
        versions: The first is what holds before there is a file.
        seen: Place of the version that readers saw last; none before it may come back.
    """

    versions: list[Rows | None] = field(default_factory=lambda: [NOTHING])
    seen: int = 0

    def see(self, rows: Rows) -> None:
        """Readers find these rows: a version that is not older than what they saw before.

        Raises:
            AssertionError: It is another one, or a mixture.
        """
        places = range(self.seen, len(self.versions))
        found = next((place for place in places if self.versions[place] == rows), None)
        assert found is not None, f"{_sorted(rows)} is not among {self.versions[self.seen :]}"
        self.seen = found


@dataclass
class History:
    """One random history.

    Attributes:
        shop: Where it happens.
        random: Decides.
        place: Among the histories of the shop.
        steps: What was done, in words.
    """

    shop: Installation
    random: Random
    place: int
    steps: list[str] = field(default_factory=list)
    told: dict[Key, Told] = field(default_factory=dict)
    pending: set[Key] = field(default_factory=set)
    _kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.told = {(name, day): Told() for name in _ENTITIES for day in self.days}
        self.pending = {*self.told}

    @property
    def days(self) -> list[date]:
        """Days that no other history has."""
        return [FIRST_DAY + timedelta(days=self.place * LENGTH + n) for n in range(LENGTH)]

    def happen(self, steps: int) -> None:
        """Deliver and run, some steps long; readers look all the while."""
        kinds = [*_STEPS, *self.random.choices(_STEPS, k=steps)][:steps]
        self.random.shuffle(kinds)
        doing: dict[str, Callable[[], None]] = {
            "run": self._run,
            "stale": self._run_stale,
            "pair": self._run_two_at_once,
            "killed": self._run_killed,
        }
        with self._readers():
            for kind in kinds:
                self._deliver_some()
                doing[kind]()

    def finish(self) -> None:
        """Ask for the files that no run was asked for, then build what is stale until nothing is.

        Raises:
            AssertionError: Something stays stale, or a run of nothing publishes.
        """
        with self._readers():
            for day in self.days:
                names = [name for name in _ENTITIES if (name, day) in self.pending]
                if names:
                    self._go(day, day, " or ".join(f'key:"raw/shop_{name}"' for name in names))
            for _ in range(3):
                if not stale(self.shop):
                    break
                self._note(f"stale: {stale(self.shop)}")
                _assert_ended(run_stale(self.shop))
        assert stale(self.shop) == {}
        again = run_stale(self.shop)
        assert (again.exit_code, again.published) == (0, 0), self.shop.sql(
            "select asset, partition, status, rows_in, rows_out, error "
            f"from platform.partition_attempt where run_id = '{again.run_id}'"
        )

    def expected(self) -> dict[Key, Rows]:
        """What readers must find of each day of each fact."""
        members = self._days_of_members()
        return {
            (name, day): self._shown(name, day) if day in members else NOTHING
            for name in LOADS
            for day in self.days
        }

    def expected_members(self) -> dict[int, list[tuple[str | None, date | None]]]:
        """By customer: its cities, and since when; the first holds from the beginning."""
        found: dict[int, list[tuple[str | None, date | None]]] = {}
        for day in self.days:
            for customer, city in sorted(self._shown("customers", day), key=str):
                versions = found.setdefault(int(str(customer)), [])
                if not versions or versions[-1][0] != city:
                    versions.append((str(city), day if versions else None))
        for rows in self.expected().values():
            for _, customer, _ in rows:
                found.setdefault(int(str(customer)), [(None, None)])
        return found

    def found(self) -> dict[Key, Rows]:
        """What readers find of each day of each fact."""
        with self._connected() as session:
            return {(name, day): rows for name in LOADS for day, rows in self._read(session, name)}

    def found_members(self) -> dict[int, list[tuple[str | None, date | None]]]:
        """What readers find of the customers, as `expected_members`."""
        rows = self.shop.sql(
            "select customer_id, city, nullif(valid_from::date, '1900-01-01') "
            f"from warehouse.dim_customer where customer_id / 100 = {self.place + 1} "
            "order by 1, valid_from"
        )
        found: dict[int, list[tuple[str | None, date | None]]] = {}
        for customer, city, since in rows:
            found.setdefault(customer, []).append((city, since))
        return found

    def cities(self, name: str) -> list[tuple[object, ...]]:
        """A fact's rows with the city that they point to."""
        return self.shop.sql(
            f"select to_date(f.date_key::text, 'YYYYMMDD'), f.{FACTS[name][0]}, d.city "
            f"from warehouse.fact_{name} as f join warehouse.dim_customer as d "
            f"using (customer_key) where {self._own_days()} order by 1, 2"
        )

    def expected_cities(self, name: str) -> list[tuple[object, ...]]:
        """A fact's rows with the city of their customer on their day."""
        members = self.expected_members()
        rows = []
        for day in self.days:
            for key, customer, _ in self.expected()[name, day]:
                versions = members[int(str(customer))]
                held = [city for city, since in versions if since is None or since <= day]
                rows.append((day, key, held[-1]))
        return sorted(rows, key=lambda row: (row[0], int(str(row[1]))))

    def _shown(self, name: str, day: date) -> Rows:
        """The latest good rows of a day that the platform was given."""
        told = self.told[name, day]
        latest = told.versions[-1]
        if latest is not None:
            return latest
        # Which of the earlier ones had come so far when the broken file came, processed knows.
        kept = self._processed(name, day)
        assert kept in told.versions, f"{name} {day}: processed has a mixture: {_sorted(kept)}"
        return kept

    def _processed(self, name: str, day: date) -> Rows:
        fact = (*FACTS.get(name, ())[:1], "customer_id", "amount")
        columns = fact if name in LOADS else ("customer_id", "city")
        if name not in self._kept:
            # Once, when all has happened: each look opens the lake's catalog anew.
            self._kept[name] = self.shop.lake(f"processed.shop_{name}")
        rows = self._kept[name]
        own = (row for row in rows if row["_partition_date"] == day)
        return frozenset(tuple(_plain(row[c]) for c in columns) for row in own)

    def _days_of_members(self) -> set[date]:
        """Days that the customers' dimension was built for: before it, facts must wait."""
        query = (
            "select partition from platform.partition_ledger "
            "where asset = 'curated/dim_customer' and published_at is not null"
        )
        return {day for (day,) in self.shop.sql(query)}

    def _deliver_some(self) -> None:
        for _ in range(self.random.choice([1, 2, 3, 5])):
            self._deliver()

    def _deliver(self) -> None:
        name, day = self.random.choice([*_ENTITIES]), self.random.choice(self.days)
        told = self.told[name, day]
        kind = self.random.choices(["rows", "back", "empty", "broken"], [6, 1, 1, 2])[0]
        rows: Rows | None
        if kind == "broken":
            deliver_without_column(self.shop, name, day)
            rows = None
        else:
            rows = NOTHING if kind == "empty" else self._rows(name, day)
            if kind == "back":
                rows = self.random.choice([some for some in told.versions if some is not None])
            lines = [",".join(map(str, row)) for row in _sorted(rows)]
            deliver(self.shop, name, day, lines)
        told.versions.append(rows)
        self.pending.add((name, day))
        self._note(f"deliver {kind} {name} {day}: {rows and _sorted(rows)}")

    def _rows(self, name: str, day: date) -> Rows:
        customers = range(1, _CUSTOMERS + 1)
        first = (self.place + 1) * 100
        if name == "customers":
            told = self.random.sample(customers, self.random.randint(1, 3))
            return frozenset((first + n, self.random.choice("AB")) for n in told)
        # The same ids with other amounts: a mixture of two versions is none of them.
        ids = range(1, self.random.randint(1, 4) + 1)
        key = day.toordinal() * 10
        return frozenset(
            (key + n, first + self.random.choice(customers), self.random.randint(1, 999))
            for n in ids
        )

    def _run(self) -> None:
        self._go(*self._range(), self._selection())

    def _range(self) -> tuple[date, date]:
        ends = sorted(self.random.choices(self.days, k=2))
        return ends[0], ends[1]

    def _selection(self) -> str:
        name = self.random.choice([*LOADS])
        return self.random.choice(
            [
                *[STAR] * 4,
                "group:raw",
                "group:processed",
                "group:curated",
                "group:warehouse",
                f'key:"raw/shop_{name}"',
                'key:"raw/shop_customers"',
                f'+key:"processed/shop_{name}"',
                f'+key:"curated/fact_{name}"',
                '+key:"curated/dim_customer"',
                f'(key:"raw/shop_{name}"+) and +group:warehouse',
            ]
        )

    def _ask(self, first: date, last: date, select: str) -> None:
        """Note which files a run is asked to read."""
        for name in _ENTITIES:
            if _reads(select, name):
                self.pending -= {(name, day) for day in self.days if first <= day <= last}

    def _go(self, first: date, last: date, select: str) -> None:
        self._note(f"run {first} {last} {select}")
        self._ask(first, last, select)
        _assert_ended(self.shop.backfill(first, last, select=select))

    def _run_stale(self) -> None:
        days = self.random.choice([(), self._range()])
        self._note(f"run --stale {' '.join(map(str, days))}")
        _assert_ended(run_stale(self.shop, *days))

    def _run_two_at_once(self) -> None:
        first, last = self._range()
        other = self._selection()
        self._note(f"run beside what follows: {first} {last} {other}")
        self._ask(first, last, other)
        runs = "select count(distinct run_id) from platform.partition_attempt"
        before = self.shop.sql(runs) if self._has_run() else [(0,)]
        process = start_run(self.shop, first, last, select=other)
        while process.poll() is None and not (self._has_run() and self.shop.sql(runs) > before):
            time.sleep(0.1)
        if self.random.random() < 0.5:
            self._deliver_some()
        self._go(*self._range(), self.random.choice([STAR, self._selection()]))
        _, errors = process.communicate()
        assert process.returncode in (0, 3), errors

    def _has_run(self) -> bool:
        return self.shop.sql("select to_regclass('platform.partition_attempt')") != [(None,)]

    def _run_killed(self) -> None:
        name = self.random.choice([*_ENTITIES])
        star = "curated/dim_customer" if name == "customers" else f"curated/fact_{name}"
        asset = self.random.choice([f"raw/shop_{name}", f"processed/shop_{name}", star])
        when = self.random.choice(["after", "after", "before"])
        first, last = self._range()
        self._note(f"run {first} {last} that dies {when} the commit of {asset}")
        self._ask(first, last, STAR)
        died = run_killed(
            self.shop,
            asset,
            "after" if when == "after" else "before",
            first,
            last,
            select=STAR,
        )
        self._note("it died" if died else "it ended before")

    def _own_days(self) -> str:
        first, last = (f"{day:%Y%m%d}" for day in (self.days[0], self.days[-1]))
        return f"date_key between {first} and {last}"

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        with self.shop.active():
            url = postgres_url(load_project(), "warehouse")
        with psycopg.connect(url, autocommit=True) as session:
            yield session

    @contextmanager
    def _readers(self) -> Iterator[None]:
        """Look at the facts again and again; what was seen is judged in the end."""
        looks: list[tuple[Key, Rows]] = []
        end = Event()
        with self.shop.active():
            url = postgres_url(load_project(), "warehouse")
        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(self._look, url, end, looks)
            try:
                yield
            finally:
                end.set()
        # Nothing that a load does may make a reader's query fail.
        reader.result()
        for (name, day), rows in looks:
            try:
                self.told[name, day].see(rows)
            except AssertionError as error:
                error.add_note(f"readers of {name} {day}")
                raise

    def _look(self, url: str, end: Event, looks: list[tuple[Key, Rows]]) -> None:
        last: dict[Key, Rows] = {}
        with psycopg.connect(url, autocommit=True) as session:
            is_last = False
            while not is_last:
                is_last = end.wait(0.1)
                for name in LOADS:
                    for day, rows in self._read(session, name):
                        if last.get((name, day), NOTHING) != rows:
                            looks.append(((name, day), rows))
                        last[name, day] = rows

    def _read(
        self, session: psycopg.Connection[tuple[object, ...]], name: str
    ) -> list[tuple[date, Rows]]:
        """A fact's rows by day, with the customer that their key points to."""
        if session.execute(f"select to_regclass('warehouse.fact_{name}')").fetchone() == (None,):
            return []
        query = (
            f"select to_date(f.date_key::text, 'YYYYMMDD'), f.{FACTS[name][0]}, d.customer_id, "
            f"f.amount::int from warehouse.fact_{name} as f left join warehouse.dim_customer as d "
            f"using (customer_key) where {self._own_days()}"
        )
        found: dict[date, set[tuple[object, ...]]] = {day: set() for day in self.days}
        for day, *row in session.execute(query):
            assert isinstance(day, date)
            found[day].add(tuple(row))
        return [(day, frozenset(rows)) for day, rows in found.items()]

    def _note(self, step: str) -> None:
        self.steps.append(step)


def _reads(select: str, name: str) -> bool:
    """Whether a selection has the raw asset of an entity."""
    everything = select in (STAR, "group:raw") or select.startswith('+key:"curated/')
    return (
        everything
        or f'key:"raw/shop_{name}"' in select
        or select == f'+key:"processed/shop_{name}"'
    )


def _assert_ended(result: BackfillResult) -> None:
    assert result.exit_code in (0, 3), result.summary


def _plain(value: object) -> object:
    return value if isinstance(value, str) else int(str(value).partition(".")[0])


def _sorted(rows: Rows) -> Sequence[tuple[object, ...]]:
    return sorted(rows, key=str)
