"""HEADRACE_HOME: what lies where in it, and the environment that its programs share.

Belongs here: paths and environment variables of one installation.
Elsewhere: what the paths hold (headrace.lake, headrace.warehouse.server).
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.config.loading import Project

# Without it a run over a range announces each partition of each asset by itself: 38.8 s a year.
_SUBSET_EVENTS = "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"


@dataclass(frozen=True)
class Home:
    """The folders of one installation."""

    root: Path

    @property
    def postgres(self) -> Path:
        """Data of the embedded Postgres."""
        return self.root / "postgres"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"

    @property
    def dbt(self) -> Path:
        """What dbt compiles and logs."""
        return self.root / "dbt"

    @property
    def conditions_seen(self) -> Path:
        """A hash of the SQL conditions that the engine took when it was last asked."""
        return self.root / "conditions.seen"


def environment_of(project: Project) -> dict[str, str]:
    """Variables under which Dagster's own commands work on this installation."""
    return {
        "HEADRACE_HOME": str(project.home),
        "HEADRACE_CONFIG": str(project.folder),
        "PIPELINE_ENV": project.environment,
        "DAGSTER_HOME": str(Home(project.home).dagster),
        _SUBSET_EVENTS: "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def shell_exports(variables: Mapping[str, str], *, first_on_path: Path) -> str:
    """Commands by which a shell takes the variables as they are, for `eval`."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={shlex.quote(str(first_on_path))}:"$PATH"')
    return "\n".join(lines)
