"""Folders below HEADRACE_HOME, and environment variables as shell commands."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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
        """Compiled files and logs of dbt."""
        return self.root / "dbt"

    @property
    def conditions_seen(self) -> Path:
        """File with a hash of the SQL conditions that the engine has accepted."""
        return self.root / "conditions.seen"


def shell_exports(variables: Mapping[str, str], *, first_on_path: Path) -> str:
    """Shell commands, for `eval`, that export the variables."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'export PATH={shlex.quote(str(first_on_path))}:"$PATH"')
    return "\n".join(lines)
