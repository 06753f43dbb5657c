"""Measures baseline, platform and baseline for a year, then both for the day after."""

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg
import yaml

from benchmarks.external.folder import BenchmarkFolder, State
from benchmarks.measure import Measured
from benchmarks.rounds import Backfill, MeasuredCommands, YearComparison
from benchmarks.scratch import PROJECT, Database, Scratch, start_server

_CONFIG = PROJECT / "benchmarks/external/config"
_FIRST_DAY = date(2017, 1, 1)
_ONE_DAY = timedelta(days=1)
# The checks use names of tables without a namespace.
_SEARCH_PATH = "&options=-csearch_path%3Dwarehouse,marts"
_BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class ExternalComparison(YearComparison):
    """The measurements of baseline and platform, and the external benchmark's verdicts.

    Attributes:
        baseline_day: The day after the year by the baseline.
        day: The day after the year by the platform.
        verdicts: By program and state, the failed checks.
    """

    baseline_day: Measured
    day: Backfill
    verdicts: dict[tuple[str, State], tuple[str, ...]]

    @property
    def is_right(self) -> bool:
        """Whether all checks passed, for both programs and both states."""
        return not any(self.verdicts.values())


@dataclass(frozen=True, kw_only=True)
class ExternalBench(MeasuredCommands):
    """Runs baseline and platform on the files of an external benchmark.

    Attributes:
        external: The folder with the data and the expected answers.
    """

    external: BenchmarkFolder

    def run(self) -> ExternalComparison:
        """Measure the year and the day after; both servers have the platform's settings."""
        self.external.deliver_year(self.scratch.landing)
        configure(self.scratch)
        baseline_server = start_server(self.scratch.home("baseline-server"))
        home = self.scratch.home("home")
        warehouse = start_server(home)
        last = self.external.day - _ONE_DAY
        before, _ = self._baseline_year(baseline_server)
        year = self.backfill(home, warehouse, _FIRST_DAY, last)
        after, baseline = self._baseline_year(baseline_server)
        verdicts = self._verdicts(baseline, warehouse, "year")
        self.external.deliver_day(self.scratch.landing)
        baseline_day = self._baseline(baseline, "increment")
        day = self.backfill(home, warehouse, self.external.day, self.external.day)
        verdicts |= self._verdicts(baseline, warehouse, "increment")
        return ExternalComparison(
            baselines=(before, after),
            year=year,
            baseline_day=baseline_day,
            day=day,
            verdicts=verdicts,
        )

    def _baseline_year(self, server: Database) -> tuple[Measured, Database]:
        database = server.emptied(_BASELINE)
        return self._baseline(database, "year"), database

    def _baseline(self, database: Database, state: State) -> Measured:
        command = self.external.baseline(self.scratch.landing, database.url, state)
        measured = self.measure(command, self.scratch.home("baseline-server"), database)
        self.say(f"baseline, {state}: {measured.seconds:.2f} s, {measured.cpu_seconds:.2f} CPU s")
        return measured

    def _verdicts(
        self, baseline: Database, warehouse: Database, state: State
    ) -> dict[tuple[str, State], tuple[str, ...]]:
        verdicts: dict[tuple[str, State], tuple[str, ...]] = {}
        for name, url in ((_BASELINE, baseline.url), ("platform", warehouse.url + _SEARCH_PATH)):
            with psycopg.connect(url, autocommit=True) as session:
                session.execute("analyze")  # For the query plans of the checks; not measured.
            verdicts[name, state] = self.external.differences(url, state)
            found = verdicts[name, state]
            self.say(f"{name}, {state}: {f'{len(found)} differences' if found else 'OK'}")
        return verdicts


def configure(scratch: Scratch, landing: Path | None = None) -> None:
    """Copy the configuration for the external benchmark, with the paths of files and models."""
    shutil.copytree(_CONFIG, scratch.config, dirs_exist_ok=True)
    path = scratch.config / "development.yaml"
    overlay = yaml.safe_load(path.read_text())
    overlay |= {
        "landing": {"uri": str(landing or scratch.landing)},
        "dbt_project": str(PROJECT / "demo/files/dbt"),
    }
    path.write_text(yaml.safe_dump(overlay))
