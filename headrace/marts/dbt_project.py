"""One dbt project: its parsed manifest, cached until a file changes, and its commands.

dbt's own command line takes 12 s for a build of 0.6 s, because each command imports dbt and parses
the project. Here, a process imports dbt once.
"""

import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from headrace.errors import ConfigError, WarehouseUnavailableError

MANIFEST = "manifest.json"
# dbt's own cache of the manifest; dbt cannot read the JSON back completely.
_PARSED = "partial_parse.msgpack"
_MAX_CACHED = 3
_MADE_BY_DBT = {"target", "logs", "dbt_packages"}
# Tests call the macros that models call, and compile without introspecting the database.
_WARM_UP = ("compile", "--no-introspect", "--no-populate-cache", "--select", "test_type:data")
_QUIET = ("--quiet", "--no-print", "--log-level", "none", "--log-level-file", "none")

# Commands exclude each other: dbt's flags, adapters and events are global, and it reads its profile
# from the environment.
_ONE_AT_A_TIME = threading.RLock()

# Where Postgres quotes rows: in a message's detail, in its context, and as a value at its end.
_DETAIL = re.compile(r"\n\s*(?:DETAIL|CONTEXT):.*?(?=\n\s*compiled code at|\Z)", re.DOTALL)
_VALUE = re.compile(r': ".*?"(?=\s*(?:\n\s*(?:LINE \d|compiled code at)|\Z))', re.DOTALL)
# The call stack of macros, which is longer than the message.
_CALLERS = re.compile(r"\n\s*> (?:in|called by) .*")
_LOST = re.compile(
    r"connection to server|server closed the connection|connection already closed"
    r"|terminating connection|the database system is|too many (?:connections|clients)"
    r"|deadlock detected|could not serialize",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class DbtProject:
    """One dbt project and the folder of its parsed manifests.

    Attributes:
        folder: The project with its profiles.yml; nothing is written to it.
        target: Folder for parsed and compiled files; several processes may share it.
    """

    folder: Path
    target: Path

    def parsed(self, database: str) -> Path:
        """The folder with MANIFEST; its name is a hash of everything that affects parsing.

        Args:
            database: Name of the database, with which the manifest qualifies every table.

        Raises:
            ConfigError: The project cannot be parsed; the message names the file.
        """
        cached = self._cached(database)
        with _ONE_AT_A_TIME:
            if not cached.exists():
                self._parse(cached, database)
        return cached

    def parsed_before(self, database: str) -> Path | None:
        """The folder of `parsed` if it exists; does not import dbt."""
        cached = self._cached(database)
        return cached if cached.exists() else None

    def run(self, arguments: Sequence[str], profile: Mapping[str, str]) -> Any:
        """The result of a dbt command; failed models and tests are part of it.

        Args:
            arguments: The command and its options, without those that name folders.
            profile: From `profile_of`.

        Raises:
            ConfigError: dbt refused the project or the options.
            WarehouseUnavailableError: Postgres did not answer.
        """
        with _ONE_AT_A_TIME:
            return self._run(arguments, profile, self._manifest(profile))

    def warm_up(self, profile: Mapping[str, str]) -> None:
        """Compile the project's tests, without the database: the first build takes 0.7 s less."""
        with _ONE_AT_A_TIME:
            self._run(_WARM_UP, profile, self._manifest(profile))

    def _run(self, arguments: Sequence[str], profile: Mapping[str, str], manifest: object) -> Any:
        command = [*arguments, "--no-write-json"]
        return self._invoke(command, profile, self.target / "target", manifest)

    def _manifest(self, profile: Mapping[str, str]) -> Any:
        """A new manifest each time: dbt stores in it what it compiled.

        The second build of a model on an ephemeral one fails on the same manifest with
        'relation "__dbt__cte__…" does not exist'.
        """
        parsed = self.parsed(profile["HEADRACE_DBT_DBNAME"]) / _PARSED
        manifest = import_module("dbt.contracts.graph.manifest").Manifest.from_msgpack(
            parsed.read_bytes(),
            decoder=import_module("dbt.parser.manifest").extended_mashumuro_decoder,
        )
        # The variable `graph` of macros, which dbt itself fills only when it parses.
        manifest.build_flat_graph()
        return manifest

    def _parse(self, cached: Path, database: str) -> None:
        """Parse into a temporary folder and rename it when it is complete."""
        self.target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".parsing-", dir=self.target) as scratch:
            self._invoke(["parse"], _variables({"dbname": database}), Path(scratch))
            whole = Path(scratch, "whole")
            whole.mkdir()
            for name in (MANIFEST, _PARSED):
                Path(scratch, name).rename(whole / name)
            try:
                whole.rename(cached)
            except OSError:
                if not cached.exists():
                    raise  # If it exists, another process has parsed the same files.
        by_age = sorted(self.target.glob("parsed-*"), key=lambda path: path.stat().st_mtime)
        for outdated in by_age[:-_MAX_CACHED]:
            shutil.rmtree(outdated, ignore_errors=True)

    def _invoke(
        self,
        arguments: Sequence[str],
        profile: Mapping[str, str],
        target: Path,
        manifest: object = None,
    ) -> Any:
        project = str(self.folder)
        with _ONE_AT_A_TIME, _environment(profile):
            found = (
                import_module("dbt.cli.main")
                .dbtRunner(manifest=manifest)
                .invoke(
                    [
                        *arguments,
                        *("--project-dir", project, "--profiles-dir", project),
                        *("--target-path", str(target), "--log-path", str(self.target / "logs")),
                        *_QUIET,
                    ]
                )
            )
        if found.exception is not None:
            # Without its cause: dbt's text may quote rows, and would be printed.
            raise self._map_error(found.exception) from None
        return found.result

    def _map_error(self, error: BaseException) -> BaseException:
        """Our error for an error of dbt as a whole; other errors are returned unchanged."""
        expected = (
            import_module("dbt_common.exceptions").DbtBaseException,
            import_module("dbt.cli.exceptions").DbtUsageException,
        )
        if not isinstance(error, expected):
            return error
        what = without_rows(str(error))
        if unavailable := lost_connection(what):
            return unavailable
        return ConfigError(
            f"dbt project {self.folder}: {what}", fix="correct the project; nothing was built"
        )

    def _cached(self, database: str) -> Path:
        return self.target / f"parsed-{self._key(database)}"

    def _key(self, database: str) -> str:
        """A hash of the project's files and folder, dbt's release and the database."""
        content = hashlib.sha256()
        releases = [f"{package} {version(package)}" for package in ("dbt-core", "dbt-postgres")]
        content.update("\n".join([str(self.folder.resolve()), database, *releases]).encode())
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            if path.is_file() and relative.parts[0] not in _MADE_BY_DBT:
                content.update(f"\n{relative.as_posix()} {path.stat().st_size}\n".encode())
                content.update(path.read_bytes())
        return content.hexdigest()[:16]


def profile_of(url: str, database: str) -> dict[str, str]:
    """The variables that profiles.yml reads.

    Args:
        url: A postgresql:// URL that libpq can read.
        database: The database, if the URL names none.
    """
    return _variables({"dbname": database, **conninfo_to_dict(url)})


def without_rows(message: str) -> str:
    """A message of dbt without the rows that Postgres quotes and the macros' call stack."""
    return _VALUE.sub(": (a value)", _DETAIL.sub("", _CALLERS.sub("", message))).strip()


def lost_connection(message: str) -> WarehouseUnavailableError | None:
    """The error to raise if dbt's message reports a lost connection; else None."""
    if not _LOST.search(message):
        return None
    return WarehouseUnavailableError(
        f"dbt: {message}", fix="run it again once Postgres answers; each mart is whole, old or new"
    )


def _variables(connection: Mapping[str, Any]) -> dict[str, str]:
    return {
        "HEADRACE_DBT_HOST": str(connection.get("host", "localhost")),
        "HEADRACE_DBT_PORT": str(connection.get("port", 5432)),
        "HEADRACE_DBT_USER": str(connection.get("user", "postgres")),
        "HEADRACE_DBT_DBNAME": str(connection["dbname"]),
        "HEADRACE_DBT_SSLMODE": str(connection.get("sslmode", "prefer")),
        "HEADRACE_DBT_SSLROOTCERT": str(connection.get("sslrootcert", "")),
        # dbt masks variables with this prefix in its logs and in the manifest.
        "DBT_ENV_SECRET_HEADRACE_PASSWORD": str(connection.get("password", "")),
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, secrets among them, while the block runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
