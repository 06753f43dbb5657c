"""One round: floor, platform and floor in turn, a year warm, one more day, a day again; compared.

Belongs here: what is run in which order, and what is prepared before the clock starts.
Elsewhere: measuring a command (benchmarks.measure), printing (benchmarks.report).
"""

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg

from benchmarks.contents import Difference, compare, compare_with_year
from benchmarks.measure import CommandFailedError, Measured, measure
from benchmarks.next_day import deliver_again
from benchmarks.scratch import (
    PROJECT,
    WARM_MINUTES,
    Database,
    Scratch,
    headrace,
    python,
    start_server,
)
from demo.journey import DAY_AFTER_LAST, FIRST_DAY
from headrace.home import Home
from headrace.warehouse import server
from headrace.warm import client

_ONE_DAY = timedelta(days=1)
_LAST_DAY = DAY_AFTER_LAST - _ONE_DAY
_NEXT_DAY = DAY_AFTER_LAST
_WARM_DAY = _NEXT_DAY + _ONE_DAY
# Saturdays: among the year's largest days, and of a month that is not the newest.
_SOLD_ON = date(2017, 12, 30)
_ALSO_SOLD_ON = date(2017, 12, 16)
_POLL_SECONDS = 0.1


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
        year: All days of the demo, on an empty home: cold, in a process that imports everything.
        warm_year: The same on another empty home: warm, in a fork of the process that stays.
        next_day: One more day, on top of the cold year: cold.
        warm_day: One more day after that one: warm.
        rerun: A day of the year once more.
        differences: By when they were found.
    """

    floors: tuple[Measured, Measured]
    first_start_seconds: float
    year: Backfill
    warm_year: Backfill
    next_day: Backfill
    warm_day: Backfill
    rerun: Backfill
    differences: tuple[tuple[str, Difference], ...]

    @property
    def floor_seconds(self) -> float:
        """Mean of both: the machine is not equally quick all the time."""
        return statistics.mean(floor.seconds for floor in self.floors)

    @property
    def ratio(self) -> float:
        """The platform's cold year in multiples of the floor's."""
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
        differences = self._compare("the year, cold", floor, warehouse, is_year=True)
        other_home = self.scratch.home(f"{home.root.name}-warm")
        warm_year, found_in_year = self._year_warm(other_home, floor)
        self.scratch.configure(end=_WARM_DAY + _ONE_DAY)
        delivered: list[Path] = []
        try:
            next_day, rerun, found = self._one_more_day(home, warehouse, delivered)
            warm_day, found_warm = self._one_more_day_warm(home, warehouse, delivered)
        finally:
            for path in delivered:
                path.unlink()
        return Round(
            floors=(before, after),
            first_start_seconds=first_start_seconds,
            year=year,
            warm_year=warm_year,
            next_day=next_day,
            warm_day=warm_day,
            rerun=rerun,
            differences=(*differences, *found_in_year, *found, *found_warm),
        )

    def _year_warm(
        self, home: Home, floor: Database
    ) -> tuple[Backfill, list[tuple[str, Difference]]]:
        """The year on an empty home, in which a command has left a process before."""
        warehouse = start_server(home)
        try:
            pid = leave_warm_process(self.scratch, home, self.limit_seconds)
            year = self._backfill(home, warehouse, FIRST_DAY, _LAST_DAY, warm_pid=pid)
            return year, self._compare("the year, warm", floor, warehouse, is_year=True)
        finally:
            client.end(home.root)
            server.stop(home.postgres)

    def _one_more_day(
        self, home: Home, warehouse: Database, delivered: list[Path]
    ) -> tuple[Backfill, Backfill, list[tuple[str, Difference]]]:
        """A file arrives for the day after the last; then a day is run that is there already."""
        delivered.append(deliver_again(self.scratch.landing, _SOLD_ON, _NEXT_DAY))
        next_day = self._backfill(home, warehouse, _NEXT_DAY, _NEXT_DAY)
        _, floor = self._run_floor("floor with one more day, for comparison")
        differences = self._compare("one more day, cold", floor, warehouse)
        rerun = self._backfill(home, warehouse, _SOLD_ON, _SOLD_ON)
        differences += self._compare("a day once more", floor, warehouse)
        return next_day, rerun, differences

    def _one_more_day_warm(
        self, home: Home, warehouse: Database, delivered: list[Path]
    ) -> tuple[Backfill, list[tuple[str, Difference]]]:
        """The file of another day; a command before has left a process with everything imported."""
        delivered.append(deliver_again(self.scratch.landing, _ALSO_SOLD_ON, _WARM_DAY))
        try:
            pid = leave_warm_process(self.scratch, home, self.limit_seconds)
            warm_day = self._backfill(home, warehouse, _WARM_DAY, _WARM_DAY, warm_pid=pid)
        finally:
            client.end(home.root)
        _, floor = self._run_floor("floor with two more days, for comparison")
        return warm_day, self._compare("one more day, warm", floor, warehouse)

    def _run_floor(self, what: str) -> tuple[Measured, Database]:
        database = self.floor.emptied("floor")
        landing = str(self.scratch.landing)
        command = python("benchmarks.floor", "--landing", landing, "--url", database.url)
        measured = self._measure(command, self.scratch.home("floor"), database)
        self.say(f"{what}: {measured.seconds:.2f} s")
        return measured, database

    def _backfill(
        self,
        home: Home,
        warehouse: Database,
        first: date,
        last: date,
        *,
        warm_pid: int | None = None,
    ) -> Backfill:
        command = headrace("backfill", "--from", str(first), "--to", str(last), "--json")
        measured = self._measure(command, home, warehouse, warm_pid)
        steps = steps_of(measured.stdout)
        state = "warm" if warm_pid else "cold"
        self.say(f"platform, {first} to {last}, {state}: {measured.seconds:.2f} s")
        return Backfill(measured, steps)

    def _measure(
        self, command: list[str], home: Home, database: Database, warm_pid: int | None = None
    ) -> Measured:
        database.checkpoint()
        warm = {WARM_MINUTES: "15"} if warm_pid else {}
        return measure(
            command,
            environment=self.scratch.environment(home) | warm,
            folder=PROJECT,
            server_pid=database.server_pid,
            limit_seconds=self.limit_seconds,
            warm_pid=warm_pid,
        )

    def _compare(
        self, when: str, floor: Database, warehouse: Database, *, is_year: bool = False
    ) -> list[tuple[str, Difference]]:
        with psycopg.connect(floor.url) as wanted, psycopg.connect(warehouse.url) as given:
            found = compare(wanted, given) + (compare_with_year(given) if is_year else [])
        self.say(f"{when}: {f'{len(found)} differences' if found else 'both hold the same'}")
        return [(when, difference) for difference in found]


def leave_warm_process(scratch: Scratch, home: Home, limit_seconds: float) -> int:
    """Run a command that leaves a warm process, and wait for it: its id; `client.end` ends it.

    Raises:
        CommandFailedError: None came in time.
    """
    environment = scratch.environment(home) | {WARM_MINUTES: "15"}
    subprocess.run(  # noqa: S603  # our own command
        headrace("check"), check=True, env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL
    )
    gives_up_at = time.monotonic() + limit_seconds
    while (pid := client.process_of(home.root)) is None:
        if time.monotonic() > gives_up_at:
            raise CommandFailedError(
                "no process stayed after a command", fix="see docs/how-to/start-quickly.md"
            )
        time.sleep(_POLL_SECONDS)
    return pid


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
