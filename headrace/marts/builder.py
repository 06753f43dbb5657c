"""Builds the models and tests of a dbt project for a window of days."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import structlog

from headrace.config.model import did_you_mean
from headrace.errors import ConfigError
from headrace.marts.dbt_project import (
    MANIFEST,
    DbtProject,
    lost_connection,
    profile_of,
    without_rows,
)
from headrace.marts.dbt_worker import DbtWorker
from headrace.warehouse.sessions import connection_factory, locked, map_errors

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NodeResult:
    """The result of one model or test.

    Attributes:
        unique_id: dbt's identifier, as in the manifest.
        kind: `model`, `test`, or another of dbt's resource types.
        name: The node's name; of a test, also the name of its Dagster check.
        status: A model's `success`, `error` or `skipped`; a test's `pass`, `warn`, `fail`, `error`
            or `skipped`.
        models: The model itself; for a test, the model that it is attached to, or all that it
            reads.
        rows_affected: Rows that a model wrote; None for tests and for models that did not run.
        seconds: Duration.
        message: dbt's message, without rows that Postgres quotes.
        failures: Rows that fail a test; None for models and for tests that did not run.
    """

    unique_id: str
    kind: str
    name: str
    status: str
    models: tuple[str, ...]
    rows_affected: int | None
    seconds: float
    message: str
    failures: int | None

    @property
    def passed(self) -> bool:
        """Whether it succeeded; a warning is no failure."""
        return self.status in {"success", "pass", "warn", "no-op"}

    @property
    def is_about_rows(self) -> bool:
        """Whether rows, possibly of a single day, made it fail."""
        return self.status == "fail" or self.message.startswith("Database Error")


# Results of all nodes, and the total seconds.
Built = tuple[tuple[NodeResult, ...], float]

_UNIT_STARTS: Mapping[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
    "quarter": lambda day: day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
    "year": lambda day: day.replace(month=1, day=1),
}
_GRAINS = (*_UNIT_STARTS,)
# Limit of repeated builds after a failed test: enough to bisect a year down to one day.
_REPEATED_BUILDS = 20


@dataclass(frozen=True)
class Mart:
    """A model that is materialized as a table.

    Attributes:
        schema: Its schema in Postgres.
        table: Its table in the schema.
        grain: Grain of the rows that a build replaces; None: a build replaces the whole table.
    """

    schema: str
    table: str
    grain: str | None


@dataclass(frozen=True)
class DaysBuilt:
    """One build of models and tests.

    Attributes:
        days: The days of the build; None: all.
        results: Results of all nodes, except those that were built again for fewer days.
        rebuilt: Models whose table was created, with all history, whatever the days.
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

        This makes the first build a second faster. Errors are raised by `build`, not here.
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
                built from all history, whatever the days.
            full_refresh: Recreate the tables.

        Returns:
            Results of all selected nodes, including failed and skipped ones.

        Raises:
            ConfigError: The project cannot be parsed, or nothing matches `select`.
            WarehouseUnavailableError: Postgres does not answer, or the connection was lost.
        """
        url = self.url()
        audits_first = audits_before_it_replaces(self.ensure_manifest())
        task = run_audited if audits_first else run_nodes
        options = _Options(tuple(select), None if days is None else tuple(days), full_refresh)
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

        A bad day then holds only itself, or its month in a mart by month. A model that replaces its
        whole table, or has none yet, is built once.

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
        allowed = _REPEATED_BUILDS
        while pending:
            names, some = pending.pop(0)
            results = self.build(names, some, full_refresh=rebuild)
            # A mart by month whose days are of one month cannot be divided; one by day can.
            failed = [name for name in _failed(results, grains) if _halves(some, [grains[name]])]
            halves = _halves(some, [grains[name] for name in failed])
            if failed and len(halves) <= allowed:
                allowed -= len(halves)
                pending = [*((tuple(failed), half) for half in halves), *pending]
                results = tuple(r for r in results if not {r.name, *r.models} & {*failed})
            final.append(DaysBuilt(some, results, rebuilt))
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


@dataclass(frozen=True)
class _Options:
    """Options of a build, as picklable values."""

    select: tuple[str, ...]
    days: tuple[date, ...] | None
    full_refresh: bool

    def arguments(self, command: str, phase: str | None = None) -> list[str]:
        """The arguments of dbt's command line."""
        variables: dict[str, object] = {} if phase is None else {"phase": phase}
        if self.days is not None:
            variables["days"] = [day.isoformat() for day in self.days]
        return [
            command,
            *(("--select", *self.select) if self.select else ()),
            *(("--vars", json.dumps(variables)) if variables else ()),
            *(("--full-refresh",) if self.full_refresh else ()),
        ]


def audits_before_it_replaces(manifest: Path) -> bool:
    """Whether the project has the macros that stage models."""
    return b".publish_model" in manifest.read_bytes()


def marts_of(manifest: Path) -> dict[str, Mart]:
    """The models that are materialized as tables, by name.

    Raises:
        ConfigError: A `meta.window` has unknown keys, no column, or an unknown grain.
    """
    nodes = json.loads(manifest.read_bytes())["nodes"].values()
    return {
        node["name"]: Mart(node["schema"], node["alias"], _grain_of(node))
        for node in nodes
        if node["resource_type"] == "model"
        and node["config"]["materialized"] in {"incremental", "table"}
    }


def missing_tables(manifest: Path, schema: str, tables: Collection[str]) -> list[str]:
    """One message for each table of a schema that models read and `tables` lacks."""
    parsed = json.loads(manifest.read_bytes())
    read = {
        name
        for node in parsed["nodes"].values()
        if node["resource_type"] == "model"
        for name in node["depends_on"]["nodes"]
    }
    return [
        f"dbt {source['original_file_path']}: sources[{source['source_name']}]: the star has no "
        f"table '{source['identifier']}'{did_you_mean(source['identifier'], tables)}"
        for name, source in parsed["sources"].items()
        if name in read and source["schema"] == schema and source["identifier"] not in tables
    ]


def _grain_of(node: Mapping[str, Any]) -> str | None:
    """The grain of a model's window, which dbt/macros/window.sql reads too."""
    window = (node["config"].get("meta") or {}).get("window")
    if window is None or node["config"]["materialized"] != "incremental":
        return None
    where, form = node["original_file_path"], "{'column': 'month', 'grain': 'month'}"
    if not isinstance(window, dict) or not isinstance(window.get("column"), str):
        raise ConfigError(f"dbt {where}: meta.window names no column", fix=f"write {form}")
    columns = [name for name in node.get("columns", ()) if _declares_all_columns(node)]
    if columns and window["column"] not in columns:
        near = did_you_mean(window["column"], columns)
        raise ConfigError(
            f"dbt {where}: meta.window: the model has no column '{window['column']}'{near}",
            fix="name a column of its contract",
        )
    if unknown := sorted({*window} - {"column", "grain", "whole_months"}):
        raise ConfigError(
            f"dbt {where}: meta.window: unknown key '{unknown[0]}'",
            fix=f"there are column and grain, such as {form}",
        )
    grain = window.get("grain") or ("month" if window.get("whole_months") else "day")
    if grain not in _GRAINS:
        raise ConfigError(
            f"dbt {where}: meta.window: grain '{grain}' is not one of {', '.join(_GRAINS)}",
            fix="name one of them; it is day if left out",
        )
    return str(grain)


def _declares_all_columns(node: Mapping[str, Any]) -> bool:
    """Whether a model has an enforced contract, which declares all columns."""
    return bool((node["config"].get("contract") or {}).get("enforced"))


def _failed(results: Sequence[NodeResult], grains: Mapping[str, str]) -> tuple[str, ...]:
    """Models with a window whose rows failed, and models that dbt skipped because of them."""
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
    """Split the days in two, at a boundary of the longest grain; empty if they have none."""
    start = _UNIT_STARTS[max(grains, key=_GRAINS.index, default="day")]
    units = sorted({start(day) for day in days})
    if len(units) == 1:
        return []
    middle = units[len(units) // 2]
    early = tuple(day for day in days if start(day) < middle)
    return [early, tuple(day for day in days if start(day) >= middle)]


def run_nodes(project: DbtProject, options: _Options, profile: Mapping[str, str]) -> Built:
    """Run dbt in this process; returns picklable results, and the seconds.

    Raises:
        ConfigError: dbt rejects the project or the options.
        WarehouseUnavailableError: Postgres does not answer.
    """
    found = project.run(options.arguments("build"), profile)
    return tuple(_node_result(node) for node in found.results), found.elapsed_time


def run_tests(project: DbtProject, tests: Sequence[str], profile: Mapping[str, str]) -> Built:
    """Run tests only; see `run_nodes`."""
    found = project.run(["test", "--select", *tests], profile)
    return tuple(_node_result(node) for node in found.results), found.elapsed_time


def run_audited(project: DbtProject, options: _Options, profile: Mapping[str, str]) -> Built:
    """Stage and test, then publish the models whose tests passed; see `run_nodes`."""
    staged = project.run(options.arguments("build", "stage"), profile)
    results = tuple(_node_result(node) for node in staged.results)
    passed = publishable(results)
    if not passed:
        return results, staged.elapsed_time
    chosen = replace(options, select=passed)
    published = project.run(chosen.arguments("run", "publish"), profile)
    by_id = {node.node.unique_id: _node_result(node) for node in published.results}
    merged = tuple(_published(result, by_id.get(result.unique_id)) for result in results)
    return merged, staged.elapsed_time + published.elapsed_time


def publishable(results: Sequence[NodeResult]) -> tuple[str, ...]:
    """Names of the models that were built and whose tests all passed."""
    bad = {model for test in results if not test.passed for model in test.models}
    return tuple(r.name for r in results if r.kind == "model" and r.passed and r.name not in bad)


def _published(staged: NodeResult, published: NodeResult | None) -> NodeResult:
    """One result of both commands; the error of the publication if it failed."""
    if published is None:
        return staged
    seconds = staged.seconds + published.seconds
    return replace(staged if published.passed else published, seconds=seconds)


def _node_result(found: Any) -> NodeResult:
    node = found.node
    is_test = node.resource_type == "test"
    return NodeResult(
        unique_id=node.unique_id,
        kind=str(node.resource_type),
        name=node.name,
        status=str(found.status),
        models=_models_of(node),
        rows_affected=None if is_test else found.adapter_response.get("rows_affected"),
        seconds=found.execution_time,
        message=without_rows(found.message or str(found.status)),
        failures=found.failures if is_test else None,
    )


def _models_of(node: Any) -> tuple[str, ...]:
    """Names of a node's models, from unique ids `model.<project>.<name>`."""
    unique_ids = [node.unique_id]
    if node.resource_type == "test":
        attached = getattr(node, "attached_node", None)
        unique_ids = [attached] if attached else node.depends_on.nodes
    return tuple(u.split(".")[2] for u in unique_ids if u.startswith("model."))


def _require_connection(results: Sequence[NodeResult]) -> None:
    """Raise if a model or test failed because the connection to Postgres was lost."""
    for result in results:
        if result.status == "error" and (lost := lost_connection(result.message)):
            raise lost
