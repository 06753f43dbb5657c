"""Marts: models and tests of a dbt project, built for some days.

Belongs here: which days are built, what came of each model and test.
Elsewhere: running dbt (headrace.dbt_project), the models and tests (dbt/), their Dagster assets and
checks (platform_assets.marts).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import structlog

from headrace.dbt_project import MANIFEST, DbtProject, lost_connection, profile_of, without_rows
from headrace.dbt_worker import DbtWorker
from headrace.errors import ConfigError
from headrace.warehouse.sessions import connector, locked

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NodeResult:
    """What became of one model or test.

    Attributes:
        unique_id: dbt's identifier, as in the manifest.
        kind: `model`, `test`, or another of dbt's resource types.
        name: The node's name; of a test, also the name of its Dagster check.
        status: A model's `success`, `error` or `skipped`; a test's `pass`, `warn`, `fail`, `error`
            or `skipped`.
        models: The model itself; the model that a test is attached to, or else all that it reads.
        rows_affected: Rows that a model wrote; None for tests and for models that did not run.
        seconds: Time it took.
        message: dbt's words, less what Postgres quotes of rows.
        failures: Rows that break a test; None for models and for tests that did not run.
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
        """Whether it did what it should; a warning is no failure."""
        return self.status in {"success", "pass", "warn", "no-op"}


# What became of each node, and the seconds that all took.
Built = tuple[tuple[NodeResult, ...], float]


@dataclass(frozen=True)
class MartBuilder:
    """Builds the models of one dbt project.

    Attributes:
        project_dir: The project, its profiles.yml included; nothing is written there.
        target_path: Folder for what dbt parses and compiles; several processes may share it.
        url: Asked at each build for the warehouse's postgresql:// URL, and never before.
        database: The warehouse's database, as far as the URL is not asked for or names none.
        worker: Asked at each use for the process in which dbt runs; None: it runs in this one.
    """

    project_dir: Path
    target_path: Path
    url: Callable[[], str]
    database: str = "warehouse"
    worker: Callable[[], DbtWorker | None] = lambda: None

    def ensure_manifest(self) -> Path:
        """The project's manifest.json, parsed anew if a file of the project changed.

        Raises:
            ConfigError: The project cannot be parsed; the message names the file.
        """
        # Asked in dbt's process, it would wait for what runs there.
        known = self._project.parsed_before(self.database)
        return Path(known or self._run(self._project.parsed, self.database)) / MANIFEST

    def warm_up(self) -> None:
        """Have dbt used once in its process, without the database, while this one goes on.

        It saves the first build a second. What fails here fails again, and is raised, in `build`.
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

        Args:
            select: dbt selectors, most simply names of models; empty for the whole project.
            days: Days whose rows are replaced; None for all history. A model that has no table
                yet takes all history, whatever the days.
            full_refresh: Make the tables anew.

        Returns:
            Every selected node, failed and skipped ones too: that a model or a test fails is no
            exception.

        Raises:
            ConfigError: The project cannot be parsed, or nothing matches `select`.
            WarehouseUnavailableError: Postgres did not answer, or broke off.
        """
        url = self.url()
        arguments = _build_arguments(select, days, full_refresh=full_refresh)
        # Builds at the same time would collide where a model has no table yet, or is made anew.
        with locked(connector(url), "marts"):
            profile = profile_of(url, self.database)
            built: Built = self._run(run_nodes, self._project, arguments, profile)
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
        """Run tests by name on what is published, whole tables; nothing is built.

        Raises:
            ConfigError: The project cannot be parsed.
            WarehouseUnavailableError: Postgres did not answer, or broke off.
        """
        profile = profile_of(self.url(), self.database)
        tested: Built = self._run(run_tests, self._project, tuple(tests), profile)
        _require_connection(tested[0])
        return tested[0]

    @property
    def _project(self) -> DbtProject:
        return DbtProject(self.project_dir, self.target_path)

    def _run(self, task: Callable[..., Any], *arguments: Any) -> Any:
        worker = self.worker()
        return worker.run(task, *arguments) if worker else task(*arguments)


def run_nodes(project: DbtProject, arguments: Sequence[str], profile: Mapping[str, str]) -> Built:
    """Run dbt here: what became of each node, in values that another process can take, and seconds.

    Raises:
        ConfigError: dbt refused the project or the options.
        WarehouseUnavailableError: Postgres did not answer.
    """
    found = project.run(arguments, profile)
    return tuple(_node_result(node) for node in found.results), found.elapsed_time


def run_tests(project: DbtProject, tests: Sequence[str], profile: Mapping[str, str]) -> Built:
    """As `run_nodes`, tests alone."""
    found = project.run(["test", "--select", *tests], profile)
    return tuple(_node_result(node) for node in found.results), found.elapsed_time


def _build_arguments(
    select: Sequence[str], days: Sequence[date] | None, *, full_refresh: bool
) -> list[str]:
    arguments = ["build"]
    if select:
        arguments += ["--select", *select]
    if days is not None:
        arguments += ["--vars", json.dumps({"days": [day.isoformat() for day in days]})]
    if full_refresh:
        arguments.append("--full-refresh")
    return arguments


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
    """Names of the models that a node is about; a unique id is `model.<project>.<name>`."""
    unique_ids = [node.unique_id]
    if node.resource_type == "test":
        attached = getattr(node, "attached_node", None)
        unique_ids = [attached] if attached else node.depends_on.nodes
    return tuple(u.split(".")[2] for u in unique_ids if u.startswith("model."))


def _require_connection(results: Sequence[NodeResult]) -> None:
    """Raise if a model or test failed because Postgres was lost, and not by its own fault."""
    for result in results:
        if result.status == "error" and (lost := lost_connection(result.message)):
            raise lost
