"""One match: baseline, platform and baseline for a year, then the day after by both."""

import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg
import yaml

from benchmarks.external.folder import Referee, State
from benchmarks.measure import Measured, measure
from benchmarks.rounds import Backfill, steps_of
from benchmarks.scratch import PROJECT, Database, Scratch, headrace, start_server
from headrace.project.home import Home

_CONFIG = PROJECT / "benchmarks/external/config"
_FIRST_DAY = date(2017, 1, 1)
_ONE_DAY = timedelta(days=1)
# Where the platform's star and marts are found by names without a namespace.
_SEARCH_PATH = "&options=-csearch_path%3Dwarehouse,marts"
_FLOOR = "floor"


@dataclass(frozen=True)
class Match:
    """What floor and platform took, and what the referee says.

    Attributes:
        floors: The year by the floor, before and after the platform's.
        floor_day: The day after by the floor.
        year: The year by the platform, on an empty home.
        day: The day after by the platform.
        verdicts: By contender and state, what is wrong; empty when all checks pass.
    """

    floors: tuple[Measured, Measured]
    floor_day: Measured
    year: Backfill
    day: Backfill
    verdicts: dict[tuple[str, State], tuple[str, ...]]

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

    @property
    def is_right(self) -> bool:
        """Whether every check of both states passed, the floor's too."""
        return not any(self.verdicts.values())


@dataclass(frozen=True)
class Arena:
    """Where a match takes place.

    Attributes:
        scratch: Its landing folder is shared by both.
        referee: Whose data it is.
        limit_seconds: When a command that does not end is ended.
        say: Told what is going on.
    """

    scratch: Scratch
    referee: Referee
    limit_seconds: float
    say: Callable[[str], None]

    def run(self) -> Match:
        """Measure the year and the day after; both servers have the platform's settings."""
        self.referee.deliver_year(self.scratch.landing)
        configure(self.scratch)
        floor_server = start_server(self.scratch.home("floor-server"))
        home = self.scratch.home("home")
        warehouse = start_server(home)
        last = self.referee.day - _ONE_DAY
        before, _ = self._floor_year(floor_server)
        year = self._backfill(home, warehouse, _FIRST_DAY, last)
        after, floor = self._floor_year(floor_server)
        verdicts = self._verdicts(floor, warehouse, "year")
        self.referee.deliver_day(self.scratch.landing)
        floor_day = self._floor(floor, "increment")
        day = self._backfill(home, warehouse, self.referee.day, self.referee.day)
        verdicts |= self._verdicts(floor, warehouse, "increment")
        return Match((before, after), floor_day, year, day, verdicts)

    def _floor_year(self, server: Database) -> tuple[Measured, Database]:
        database = server.emptied(_FLOOR)
        return self._floor(database, "year"), database

    def _floor(self, database: Database, state: State) -> Measured:
        command = self.referee.floor(self.scratch.landing, database.url, state)
        measured = self._measure(command, self.scratch.home("floor-server"), database)
        self.say(f"floor, {state}: {measured.seconds:.2f} s, {measured.cpu_seconds:.2f} CPU s")
        return measured

    def _backfill(self, home: Home, warehouse: Database, first: date, last: date) -> Backfill:
        command = headrace("backfill", "--from", str(first), "--to", str(last), "--json")
        measured = self._measure(command, home, warehouse)
        self.say(
            f"platform, {first} to {last}: "
            f"{measured.seconds:.2f} s, {measured.cpu_seconds:.2f} CPU s"
        )
        return Backfill(measured, steps_of(measured.stdout))

    def _measure(self, command: list[str], home: Home, database: Database) -> Measured:
        database.checkpoint()
        return measure(
            command,
            environment=self.scratch.environment(home),
            folder=PROJECT,
            server_pid=database.server_pid,
            limit_seconds=self.limit_seconds,
        )

    def _verdicts(
        self, floor: Database, warehouse: Database, state: State
    ) -> dict[tuple[str, State], tuple[str, ...]]:
        verdicts: dict[tuple[str, State], tuple[str, ...]] = {}
        for name, url in ((_FLOOR, floor.url), ("platform", warehouse.url + _SEARCH_PATH)):
            with psycopg.connect(url, autocommit=True) as session:
                session.execute("analyze")  # For the checks' own plans; not timed.
            verdicts[name, state] = self.referee.differences(url, state)
            found = verdicts[name, state]
            self.say(f"{name}, {state}: {f'{len(found)} differences' if found else 'OK'}")
        return verdicts


def configure(scratch: Scratch, landing: Path | None = None) -> None:
    """Copy the configuration for the referee's files, and say where they and dbt's models are."""
    shutil.copytree(_CONFIG, scratch.config, dirs_exist_ok=True)
    path = scratch.config / "development.yaml"
    overlay = yaml.safe_load(path.read_text())
    overlay |= {
        "landing": {"uri": str(landing or scratch.landing)},
        "dbt_project": str(PROJECT / "dbt"),
    }
    path.write_text(yaml.safe_dump(overlay))
