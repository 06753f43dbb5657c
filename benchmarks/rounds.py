"""One round: baseline, platform, baseline for the year; then one more day, and a day again."""

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
    """A measured `headrace backfill`, with the seconds of each step that it reports."""

    measured: Measured
    steps: tuple[tuple[str, float], ...]

    @property
    def seconds(self) -> float:
        """From the start of the process to its end."""
        return self.measured.seconds

    @property
    def seconds_outside_steps(self) -> float:
        """Start of Python and Dagster, start and end of the run."""
        return self.seconds - sum(seconds for _, seconds in self.steps)


@dataclass(frozen=True, kw_only=True)
class YearComparison:
    """A year by the platform, between two runs of a baseline.

    Attributes:
        baselines: The year by the baseline, before and after the platform.
        year: The year by the platform, on an empty home.
    """

    baselines: tuple[Measured, Measured]
    year: Backfill

    @property
    def baseline_seconds(self) -> float:
        """Mean of both runs, because the speed of the machine varies."""
        return statistics.mean(baseline.seconds for baseline in self.baselines)

    @property
    def ratio(self) -> float:
        """The platform's seconds as a multiple of the baseline's."""
        return self.year.seconds / self.baseline_seconds

    @property
    def cpu_ratio(self) -> float:
        """The same by CPU seconds, for machines with other load."""
        baseline = statistics.mean(baseline.cpu_seconds for baseline in self.baselines)
        return self.year.measured.cpu_seconds / baseline


@dataclass(frozen=True, kw_only=True)
class Round(YearComparison):
    """The measurements of one round, and the differences of the platform's tables.

    Attributes:
        first_start_seconds: Creation and first start of the home's Postgres.
        next_day: One more day after the year.
        rerun: A day of the year again.
        differences: Differences to the baseline's tables, by the measurement that preceded them.
    """

    first_start_seconds: float
    next_day: Backfill
    rerun: Backfill
    differences: tuple[tuple[str, Difference], ...]


@dataclass(frozen=True, kw_only=True)
class MeasuredCommands:
    """Runs commands in a scratch folder and measures them.

    Attributes:
        scratch: The folder; its landing folder has the files.
        limit_seconds: A command that runs longer is killed.
        say: Prints progress.
    """

    scratch: Scratch
    limit_seconds: float
    say: Callable[[str], None]

    def backfill(self, home: Home, warehouse: Database, first: date, last: date) -> Backfill:
        """Measure a backfill of the days from `first` to `last`."""
        command = headrace("backfill", "--from", str(first), "--to", str(last), "--json")
        measured = self.measure(command, home, warehouse)
        self.say(
            f"platform, {first} to {last}: "
            f"{measured.seconds:.2f} s, {measured.cpu_seconds:.2f} CPU s"
        )
        return Backfill(measured, steps_of(measured.stdout))

    def measure(self, command: list[str], home: Home, database: Database) -> Measured:
        """Measure a command with the variables of a home, after a checkpoint of its server."""
        database.checkpoint()
        return measure(
            command,
            environment=self.scratch.environment(home),
            folder=PROJECT,
            server_pid=database.server_pid,
            limit_seconds=self.limit_seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Bench(MeasuredCommands):
    """Runs rounds over the demo's files.

    Attributes:
        baseline: The server of the baseline, with the release and settings of the platform's.
    """

    baseline: Database

    def run_round(self, number: int) -> Round:
        """Measure and compare, on a new home."""
        self.scratch.configure(end=DAY_AFTER_LAST)
        self._warm_up(number)
        home = self.scratch.home(f"home-{number}")
        began = time.monotonic()
        warehouse = start_server(home)
        first_start_seconds = time.monotonic() - began
        try:
            return self._measure_round(home, warehouse, first_start_seconds)
        finally:
            # Its background processes must not disturb the next round.
            server.stop(home.postgres)

    def _warm_up(self, number: int) -> None:
        """Run both once, so that the first measurement does not include reads of programs."""
        home = self.scratch.home(f"warm-up-{number}")
        warehouse = start_server(home)
        try:
            self._run_baseline("warming up, baseline")
            self.say("warming up, platform")
            self.backfill(home, warehouse, FIRST_DAY, FIRST_DAY)
        finally:
            server.stop(home.postgres)

    def _measure_round(self, home: Home, warehouse: Database, first_start_seconds: float) -> Round:
        before, _ = self._run_baseline("baseline")
        year = self.backfill(home, warehouse, FIRST_DAY, _LAST_DAY)
        after, baseline = self._run_baseline("baseline")
        differences = self._compare("the year", baseline, warehouse, is_year=True)
        self.scratch.configure(end=_NEXT_DAY + _ONE_DAY)
        delivered = deliver_again(self.scratch.landing, _SOLD_ON, _NEXT_DAY)
        try:
            next_day, rerun, found = self._one_more_day(home, warehouse)
        finally:
            delivered.unlink()
        return Round(
            baselines=(before, after),
            first_start_seconds=first_start_seconds,
            year=year,
            next_day=next_day,
            rerun=rerun,
            differences=(*differences, *found),
        )

    def _one_more_day(
        self, home: Home, warehouse: Database
    ) -> tuple[Backfill, Backfill, list[tuple[str, Difference]]]:
        """The day after the year, whose file has arrived; then a day that is published already."""
        next_day = self.backfill(home, warehouse, _NEXT_DAY, _NEXT_DAY)
        _, baseline = self._run_baseline("baseline with one more day, for comparison")
        differences = self._compare("one more day", baseline, warehouse)
        rerun = self.backfill(home, warehouse, _SOLD_ON, _SOLD_ON)
        differences += self._compare("a day once more", baseline, warehouse)
        return next_day, rerun, differences

    def _run_baseline(self, what: str) -> tuple[Measured, Database]:
        database = self.baseline.emptied("baseline")
        landing = str(self.scratch.landing)
        command = python("benchmarks.baseline", "--landing", landing, "--url", database.url)
        measured = self.measure(command, self.scratch.home("baseline"), database)
        self.say(f"{what}: {measured.seconds:.2f} s")
        return measured, database

    def _compare(
        self, when: str, baseline: Database, warehouse: Database, *, is_year: bool = False
    ) -> list[tuple[str, Difference]]:
        with psycopg.connect(baseline.url) as wanted, psycopg.connect(warehouse.url) as given:
            found = compare(wanted, given) + (compare_with_year(given) if is_year else [])
        self.say(f"{when}: {f'{len(found)} differences' if found else 'the tables are equal'}")
        return [(when, difference) for difference in found]


def steps_of(stdout: str) -> tuple[tuple[str, float], ...]:
    """Each step of a backfill and its seconds, from the output of `headrace backfill --json`.

    Raises:
        CommandFailedError: The output is not JSON.
    """
    try:
        steps = json.loads(stdout)["steps"]
    except ValueError:
        raise CommandFailedError(
            f"headrace backfill --json printed something else: {stdout[:200]}",
            fix="with --json, stdout may have data only; print messages to stderr",
        ) from None
    return tuple((name, seconds) for name, seconds in steps)
