"""dbt commands with picklable arguments and results, to run in this process or in the worker."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from headrace.marts.dbt_project import DbtProject, without_rows


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
        """Whether rows made it fail, so that it may pass for other days."""
        return self.status == "fail" or self.message.startswith("Database Error")


# Results of all nodes, and the seconds of all commands.
Built = tuple[tuple[NodeResult, ...], float]


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        select: dbt selectors; empty for the whole project.
        days: Days whose rows are replaced; None for all history.
        full_refresh: Recreate the tables.
    """

    select: tuple[str, ...]
    days: tuple[date, ...] | None
    full_refresh: bool

    def arguments(self, command: str, phase: str | None = None) -> list[str]:
        """The arguments of dbt's command line; `phase` is a variable of the staging macros."""
        variables: dict[str, object] = {} if phase is None else {"phase": phase}
        if self.days is not None:
            variables["days"] = [day.isoformat() for day in self.days]
        return [
            command,
            *(("--select", *self.select) if self.select else ()),
            *(("--vars", json.dumps(variables)) if variables else ()),
            *(("--full-refresh",) if self.full_refresh else ()),
        ]


def build_in_place(project: DbtProject, options: BuildOptions, profile: Mapping[str, str]) -> Built:
    """Replace the rows of models, then test them.

    Raises:
        ConfigError: dbt rejects the project or the options.
        WarehouseUnavailableError: Postgres does not answer.
    """
    return _built(project.run(options.arguments("build"), profile))


def run_tests(project: DbtProject, tests: Sequence[str], profile: Mapping[str, str]) -> Built:
    """Run tests by name; raises as `build_in_place` does."""
    return _built(project.run(["test", "--select", *tests], profile))


def stage_and_publish(
    project: DbtProject, options: BuildOptions, profile: Mapping[str, str]
) -> Built:
    """Stage the rows of models, test them, and publish the models whose tests passed.

    Raises: as `build_in_place` does.
    """
    results, seconds = _built(project.run(options.arguments("build", "stage"), profile))
    passed = _models_that_passed(results)
    if not passed:
        return results, seconds
    chosen = replace(options, select=passed)
    published, more = _built(project.run(chosen.arguments("run", "publish"), profile))
    by_id = {result.unique_id: result for result in published}
    merged = tuple(_of_both_commands(each, by_id.get(each.unique_id)) for each in results)
    return merged, seconds + more


def _built(found: Any) -> Built:
    return tuple(_node_result(node) for node in found.results), found.elapsed_time


def _models_that_passed(results: Sequence[NodeResult]) -> tuple[str, ...]:
    """Names of the models that were staged and whose tests all passed."""
    bad = {model for test in results if not test.passed for model in test.models}
    return tuple(r.name for r in results if r.kind == "model" and r.passed and r.name not in bad)


def _of_both_commands(staged: NodeResult, published: NodeResult | None) -> NodeResult:
    """One result for staging and publication: that of the publication if it failed."""
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
