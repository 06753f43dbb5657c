"""Builds and tests the models of a dbt project for a window of days, and bisects failed windows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import structlog

from headrace.errors import ConfigError
from headrace.marts.commands import (
    BuildOptions,
    Built,
    NodeResult,
    build_in_place,
    run_tests,
    stage_and_publish,
)
from headrace.marts.dbt_project import MANIFEST, DbtProject, lost_connection, profile_of
from headrace.marts.dbt_worker import DbtWorker
from headrace.marts.manifest import GRAINS, Mart, has_staging_macros, marts_of
from headrace.warehouse.sessions import connection_factory, locked, map_errors

log = structlog.get_logger(__name__)


# First day of the period of a day, by grain.
_PERIOD_STARTS: Mapping[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
    "quarter": lambda day: day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
    "year": lambda day: day.replace(month=1, day=1),
}
# Limit of builds after the first: enough to bisect a year down to one bad day.
_REPEATED_BUILDS = 20


@dataclass(frozen=True)
class DaysBuilt:
    """One build of models and tests.

    Attributes:
        days: The days of the build; None: all.
        results: Results of all nodes, except those that were built again for fewer days.
        rebuilt: Models whose table was created, and therefore has all history.
    """

    days: tuple[date, ...] | None
    results: tuple[NodeResult, ...]
    rebuilt: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MartBuilder:
    """Builds the models of one dbt project.

    Attributes:
        project_dir: The project with its profiles.yml; nothing is written to it.
        target_path: Folder for parsed and compiled files; several processes may share it.
        url: Returns the warehouse's postgresql:// URL; called at each build only.
        database: The warehouse's database, if the URL is unknown or names none.
        worker: Returns the process in which dbt runs; None: it runs in this one.
    """

    project_dir: Path
    target_path: Path
    url: Callable[[], str]
    database: str = "warehouse"
    worker: Callable[[], DbtWorker | None] = lambda: None

    def ensure_manifest(self) -> Path:
        """The project's manifest.json; parses the project if one of its files has changed.

        Raises:
            ConfigError: The project cannot be parsed; the message names the file.
        """
        # Looked up here first: a call to the worker waits for its current task.
        cached = self._project.parsed_before(self.database)
        return Path(cached or self._run(self._project.parsed, self.database)) / MANIFEST

    def warm_up(self) -> None:
        """Run dbt once in the worker, without the database and without waiting for it.

        This makes the first build a second faster. An error is raised by `build`, not here.
        """
        if worker := self.worker():
            worker.prepare(DbtProject.warm_up, self._project, profile_of("", self.database))

    def build(
        self,
        select: Sequence[str] = (),
        days: Sequence[date] | None = None,
        *,
        full_refresh: bool = False,
    ) -> tuple[NodeResult, ...]:
        """Build models for some days, and run their tests; waits while another build runs.

        A model's rows are staged, tested, and published if its tests pass. If a test fails, the
        published rows stay, and the staged rows remain in `<schema>_staged`. A project without
        `dbt/macros/write_audit_publish.sql` replaces the rows before it tests them.

        Args:
            select: dbt selectors, such as names of models; empty for the whole project.
            days: Days whose rows are replaced; None for all history. A model without a table is
                always built from all history.
            full_refresh: Recreate the tables.

        Returns:
            Results of all selected nodes, including failed and skipped ones.

        Raises:
            ConfigError: The project cannot be parsed, or nothing matches `select`.
            WarehouseUnavailableError: Postgres does not answer, or the connection was lost.
        """
        url = self.url()
        task = stage_and_publish if has_staging_macros(self.ensure_manifest()) else build_in_place
        options = BuildOptions(tuple(select), None if days is None else tuple(days), full_refresh)
        # Concurrent builds would collide if they create the same table.
        with locked(connection_factory(url), "marts"):
            profile = profile_of(url, self.database)
            built: Built = self._run(task, self._project, options, profile)
        results, seconds = built
        if not results:
            raise ConfigError(
                f"nothing in {self.project_dir} matches '{' '.join(select)}'",
                fix="select models by name, or nothing for all of them",
            )
        _require_connection(results)
        log.info(
            "marts_built",
            passed=sum(result.passed for result in results),
            not_passed=[result.name for result in results if not result.passed],
            seconds=round(seconds, 2),
        )
        return results

    def test(self, tests: Sequence[str]) -> tuple[NodeResult, ...]:
        """Run tests by name on the whole published tables; nothing is built.

        Raises:
            ConfigError: The project cannot be parsed.
            WarehouseUnavailableError: Postgres does not answer, or the connection was lost.
        """
        profile = profile_of(self.url(), self.database)
        tested: Built = self._run(run_tests, self._project, tuple(tests), profile)
        _require_connection(tested[0])
        return tested[0]

    def build_days(
        self, select: Sequence[str], days: Sequence[date] | None, *, rebuild: bool = False
    ) -> list[DaysBuilt]:
        """Build models; bisect the days of models that fail, so that good days are published.

        A bad day then holds that day only, or its month in a mart by month. A model that replaces
        its whole table, or has no table yet, is built once.

        Args:
            select: Names of models.
            days: In order; None for all history, which is built at once.
            rebuild: Recreate the tables, from all history.

        Returns:
            The final builds: one for each day and model.
        """
        marts = marts_of(self.ensure_manifest())
        rebuilt = frozenset(select) & {*marts} if rebuild else self.without_table(marts)
        if days is None:
            return [DaysBuilt(None, self.build(select, full_refresh=rebuild), rebuilt)]
        grains = {name: m.grain for name, m in marts.items() if m.grain and name not in rebuilt}
        final: list[DaysBuilt] = []
        pending = [(tuple(select), tuple(days))]
        builds_left = _REPEATED_BUILDS
        while pending:
            names, window = pending.pop(0)
            results = self.build(names, window, full_refresh=rebuild)
            # A mart by month whose days are of one month cannot be divided; a mart by day can.
            failed = [name for name in _failed(results, grains) if _halves(window, [grains[name]])]
            halves = _halves(window, [grains[name] for name in failed])
            if failed and len(halves) <= builds_left:
                builds_left -= len(halves)
                pending = [*((tuple(failed), half) for half in halves), *pending]
                results = tuple(r for r in results if not {r.name, *r.models} & {*failed})
            final.append(DaysBuilt(window, results, rebuilt))
        return final

    def without_table(self, marts: Mapping[str, Mart]) -> frozenset[str]:
        """The models without a table yet, which are built from all history."""
        names = [*marts]
        with map_errors("looking for the marts"), connection_factory(self.url())() as session:
            found = session.execute(
                "select name from unnest(%s::text[], %s::text[], %s::text[])"
                " as mart (name, namespace, relation)"
                " where to_regclass(format('%%I.%%I', namespace, relation)) is null",
                (names, [marts[n].schema for n in names], [marts[n].table for n in names]),
            ).fetchall()
        return frozenset(row[0] for row in found)

    @property
    def _project(self) -> DbtProject:
        return DbtProject(self.project_dir, self.target_path)

    def _run(self, task: Callable[..., Any], *arguments: Any) -> Any:
        worker = self.worker()
        return worker.run(task, *arguments) if worker else task(*arguments)


def _failed(results: Sequence[NodeResult], grains: Mapping[str, str]) -> tuple[str, ...]:
    """Models with a window whose rows or tests failed, and models that dbt skipped after them."""
    bad = {
        name
        for result in results
        if not result.passed and result.is_about_rows
        for name in ((result.name,) if result.kind == "model" else result.models)
    }
    if not bad & {*grains}:
        return ()
    models = [r for r in results if r.kind == "model" and r.name in grains]
    return tuple(r.name for r in models if r.name in bad or r.status == "skipped")


def _halves(days: Sequence[date], grains: Sequence[str]) -> list[tuple[date, ...]]:
    """Split the days in two between periods of the longest grain; empty if all are in one."""
    start = _PERIOD_STARTS[max(grains, key=GRAINS.index, default="day")]
    periods = sorted({start(day) for day in days})
    if len(periods) == 1:
        return []
    middle = periods[len(periods) // 2]
    early = tuple(day for day in days if start(day) < middle)
    return [early, tuple(day for day in days if start(day) >= middle)]


def _require_connection(results: Sequence[NodeResult]) -> None:
    """Raise if a model or test failed because the connection to Postgres was lost."""
    for result in results:
        if result.status == "error" and (lost := lost_connection(result.message)):
            raise lost
