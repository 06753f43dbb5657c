"""The external benchmark's folder: its data, its baseline, its checks."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure import CommandFailedError
from benchmarks.scratch import PROJECT
from headrace.errors import ConfigError

State = Literal["year", "increment"]

_PROGRAMS = ("stage.py", "peer_floor.py", "verify.py", "schema.py")


@dataclass(frozen=True)
class BenchmarkFolder:
    """An external benchmark.

    Attributes:
        bench: The folder with its programs.
        work: The folder for its data: `landing`, `increment`, `expected.json`.
    """

    bench: Path
    work: Path

    def require(self) -> None:
        """Raise ConfigError if a program is missing in the folder."""
        if missing := [name for name in _PROGRAMS if not (self.bench / name).is_file()]:
            raise ConfigError(
                f"{self.bench}: missing {', '.join(missing)}",
                fix="give the benchmark's folder: --bench DIR, or HEADRACE_EXTERNAL_BENCHMARK=DIR",
            )

    def stage(self, say: Callable[[str], None]) -> None:
        """Generate the data and the expected answers, unless they exist.

        Raises:
            ConfigError: A package that its program needs cannot be installed.
            CommandFailedError: Its program failed.
        """
        if (self.work / "expected.json").is_file():
            return
        say(f"staging the external benchmark's data in {self.work}: once, about a minute")
        self.work.mkdir(parents=True, exist_ok=True)
        packages = self._packages()
        command = [sys.executable, str(self.bench / "stage.py"), "--out", str(self.work)]
        _run(command, environment={"PYTHONPATH": str(packages)})

    @cached_property
    def day(self) -> date:
        """The day after the year."""
        expected = json.loads((self.work / "expected.json").read_text())
        return date.fromisoformat(expected["increment_day"])

    def deliver_year(self, landing: Path) -> None:
        """Copy the year's files, with their modification times."""
        shutil.copytree(self.work / "landing", landing)

    def deliver_day(self, landing: Path) -> None:
        """Add the files of the day after."""
        shutil.copytree(self.work / "increment", landing, dirs_exist_ok=True)

    def baseline(self, landing: Path, url: str, state: State) -> list[str]:
        """The command of the baseline: the year into an empty database, or the day on top of it."""
        command = [sys.executable, str(self.bench / "peer_floor.py")]
        command += ["--landing", str(landing), "--pg", url]
        return command if state == "year" else [*command, "--increment", str(self.day)]

    def differences(self, url: str, state: State) -> tuple[str, ...]:
        """The failed checks of a warehouse.

        Args:
            url: URL of the database, with a search path to the tables.
            state: The expected state.
        """
        command = [sys.executable, str(self.bench / "verify.py"), "--pg", url]
        command += ["--expected", str(self.work / "expected.json"), "--state", state]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        lines = answer.stdout.split("\n") if answer.stdout else []
        found = tuple(line for line in lines if line and line != "OK")
        if answer.returncode and not found:
            # The program failed: a table or a column is missing.
            return (answer.stderr.strip().split("\n")[-1],)
        return found

    def run_peers(self, names: str, results: Path) -> list[dict[str, Any]]:
        """Run other programs with the benchmark's own runner and server.

        Args:
            names: Names of programs, separated by commas.
            results: File for the figures.

        Returns:
            One document a run, including runs of its baseline.

        Raises:
            ConfigError: The environments of the programs are not set up.
        """
        python = self.work / "venv-base/bin/python"
        if not python.exists():
            raise ConfigError(
                f"{self.work} has no environments for peers",
                fix=f"{self.bench / 'setup.sh'} {self.work}",
            )
        command = [str(python), str(self.bench / "run_all.py"), "--work", str(self.work)]
        _run([*command, "--only", names, "--repeat", "1", "--out", str(results)])
        runs: list[dict[str, Any]] = json.loads(results.read_text())["runs"]
        return runs

    def _packages(self) -> Path:
        """Folder with polars, which `stage.py` needs and the project does not."""
        packages = self.work / "stage-packages"
        uv = shutil.which("uv") or str(PROJECT / ".venv-uv/bin/uv")
        try:
            _run([uv, "pip", "install", "--quiet", "--target", str(packages), "polars"])
        except (CommandFailedError, FileNotFoundError) as error:
            raise ConfigError(
                "polars, which the external benchmark's stage.py needs, could not be installed",
                fix=f"{self.bench / 'setup.sh'} {self.work}",
            ) from error
        return packages


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    answer = subprocess.run(  # noqa: S603 - the folder that the caller chose
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if answer.returncode:
        raise CommandFailedError(
            f"{' '.join(command)} ended with code {answer.returncode}:\n{answer.stderr.rstrip()}",
            fix="see the output of the external benchmark's program",
        )
