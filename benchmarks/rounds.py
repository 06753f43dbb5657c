"""One round: baseline, platform, baseline; then a warm year, one more day, a day again."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg

from benchmarks.contents import Difference, compare, compare_with_year
from benchmarks.measure import CommandFailedError, Measured, measure
from benchmarks.next_day import deliver_again
from benchmarks.scratch import (
    PROJECT,
    Database,
    Scratch,
    headrace,
    python,
    start_server,
)
from demo.journey import DAY_AFTER_LAST, FIRST_DAY
from headrace.embedded_postgres import server
from headrace.project.home import Home

_ONE_DAY = timedelta(days=1)
_LAST_DAY = DAY_AFTER_LAST - _ONE_DAY
_NEXT_DAY = DAY_AFTER_LAST
# A Saturday: among the year's largest days, and of a month that is not the newest.
_SOLD_ON = date(2017, 12, 30)


@dataclass(frozen=True)
class Backfill:
    """A `headrace backfill` as a process: what it took, and each step's seconds as it says."""

    measured: Measured
    steps: tuple[tuple[str, float], ...]

    @property
    def seconds(self) -> float:
        """From the start of the process to its end."""
        return self.measured.seconds

    @property
    def seconds_outside_steps(self) -> float:
        """Starting Python and Dagster, opening the run, and closing it."""
        return self.seconds - sum(seconds for _, seconds in self.steps)


@dataclass(frozen=True)
class Round:
    """What one round took, and what floor and platform disagree on.

    Attributes:
        floors: Before and after the platform.
        first_start_seconds: The home's Postgres: its files made, the server started.
        year: All days of the demo, on an empty home.
        next_day: One more day, on top of the year.
        rerun: A day of the year once more.
        differences: By when they were found.
    """

    floors: tuple[Measured, Measured]
    first_start_seconds: float
    year: Backfill
    next_day: Backfill
    rerun: Backfill
    differences: tuple[tuple[str, Difference], ...]

    @property
    def floor_seconds(self) -> float:
        """Mean of both: the machine is not equally quick all the time."""
        return statistics.mean(floor.seconds for floor in self.floors)

    @property
    def ratio(self) -> float:
        """The platform's year in multiples of the floor's."""
        return self.year.seconds / self.floor_seconds

    @property
    def cpu_ratio(self) -> float:
        """The same by CPU seconds: for a machine that others use too."""
        floor = statistics.mean(floor.cpu_seconds for floor in self.floors)
        return self.year.measured.cpu_seconds / floor


@dataclass(frozen=True)
class Bench:
    """What all rounds share.

    Attributes:
        scratch: Where they work; its landing folder holds the demo's files.
        floor: The server for the floor, which is the platform's in settings and release.
        limit_seconds: When a command that does not end is ended.
        say: Told what is going on.
    """

    scratch: Scratch
    floor: Database
    limit_seconds: float
    say: Callable[[str], None]

    def run_round(self, number: int) -> Round:
        """Measure and compare, on a home of its own."""
        self.scratch.configure(end=DAY_AFTER_LAST)
        self._warm_up(number)
        home = self.scratch.home(f"home-{number}")
        began = time.monotonic()
        warehouse = start_server(home)
        first_start_seconds = time.monotonic() - began
        try:
            return self._measure_round(home, warehouse, first_start_seconds)
        finally:
            # Its background work must not fall into the next round.
            server.stop(home.postgres)

    def _warm_up(self, number: int) -> None:
        """Run both once: whoever is measured first must not pay for reading programs from disk."""
        home = self.scratch.home(f"warm-up-{number}")
        warehouse = start_server(home)
        try:
            self._run_floor("warming up, floor")
            self.say("warming up, platform")
            self._backfill(home, warehouse, FIRST_DAY, FIRST_DAY)
        finally:
            server.stop(home.postgres)

    def _measure_round(self, home: Home, warehouse: Database, first_start_seconds: float) -> Round:
        before, _ = self._run_floor("floor")
        year = self._backfill(home, warehouse, FIRST_DAY, _LAST_DAY)
        after, floor = self._run_floor("floor")
        differences = self._compare("the year", floor, warehouse, is_year=True)
        self.scratch.configure(end=_NEXT_DAY + _ONE_DAY)
        delivered = deliver_again(self.scratch.landing, _SOLD_ON, _NEXT_DAY)
        try:
            next_day, rerun, found = self._one_more_day(home, warehouse)
        finally:
            delivered.unlink()
        return Round(
            floors=(before, after),
            first_start_seconds=first_start_seconds,
            year=year,
            next_day=next_day,
            rerun=rerun,
            differences=(*differences, *found),
        )

    def _one_more_day(
        self, home: Home, warehouse: Database
    ) -> tuple[Backfill, Backfill, list[tuple[str, Difference]]]:
        """The day after the last, whose file has arrived; then a day that is there already."""
        next_day = self._backfill(home, warehouse, _NEXT_DAY, _NEXT_DAY)
        _, floor = self._run_floor("floor with one more day, for comparison")
        differences = self._compare("one more day", floor, warehouse)
        rerun = self._backfill(home, warehouse, _SOLD_ON, _SOLD_ON)
        differences += self._compare("a day once more", floor, warehouse)
        return next_day, rerun, differences

    def _run_floor(self, what: str) -> tuple[Measured, Database]:
        database = self.floor.emptied("floor")
        landing = str(self.scratch.landing)
        command = python("benchmarks.baseline", "--landing", landing, "--url", database.url)
        measured = self._measure(command, self.scratch.home("floor"), database)
        self.say(f"{what}: {measured.seconds:.2f} s")
        return measured, database

    def _backfill(self, home: Home, warehouse: Database, first: date, last: date) -> Backfill:
        command = headrace("backfill", "--from", str(first), "--to", str(last), "--json")
        measured = self._measure(command, home, warehouse)
        steps = steps_of(measured.stdout)
        self.say(f"platform, {first} to {last}: {measured.seconds:.2f} s")
        return Backfill(measured, steps)

    def _measure(self, command: list[str], home: Home, database: Database) -> Measured:
        database.checkpoint()
        return measure(
            command,
            environment=self.scratch.environment(home),
            folder=PROJECT,
            server_pid=database.server_pid,
            limit_seconds=self.limit_seconds,
        )

    def _compare(
        self, when: str, floor: Database, warehouse: Database, *, is_year: bool = False
    ) -> list[tuple[str, Difference]]:
        with psycopg.connect(floor.url) as wanted, psycopg.connect(warehouse.url) as given:
            found = compare(wanted, given) + (compare_with_year(given) if is_year else [])
        self.say(f"{when}: {f'{len(found)} differences' if found else 'both hold the same'}")
        return [(when, difference) for difference in found]


def steps_of(stdout: str) -> tuple[tuple[str, float], ...]:
    """Each step of a backfill and its seconds, from what `headrace backfill --json` printed.

    Raises:
        CommandFailedError: It printed something else.
    """
    try:
        steps = json.loads(stdout)["steps"]
    except ValueError:
        raise CommandFailedError(
            f"headrace backfill --json printed something else: {stdout[:200]}",
            fix="with --json only data may be printed on stdout; what else is said is for stderr",
        ) from None
    return tuple((name, seconds) for name, seconds in steps)
