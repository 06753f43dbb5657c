"""A dbt project in this process: parsed once, run in silence.

dbt's command line takes 12 s for a build that takes dbt 0.6 s, because it imports and parses
everything anew. Here the import happens once a process, when dbt is first needed, and the parsed
project is kept until one of its files changes.
"""

import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from headrace.errors import ConfigError, WarehouseUnavailableError

MANIFEST = "manifest.json"
# dbt's own cache of the manifest. The JSON is for others: dbt itself cannot read it back whole.
_PARSED = "partial_parse.msgpack"
_PARSED_KEPT = 3
_MADE_BY_DBT = {"target", "logs", "dbt_packages"}
# Tests use what models use, and can be compiled without asking the database what is there.
_WARM_UP = ("compile", "--no-introspect", "--no-populate-cache", "--select", "test_type:data")
# Whose macros dbt calls where a macro is dispatched by adapter.
_DISPATCHED = ("postgres", "default")
_CALLED_BY_ADAPTER = (
    "create_schema",
    "get_columns_in_relation",
    "list_relations_without_caching",
    "list_schemas",
    "postgres__get_relations",
)
_QUIET = ("--quiet", "--no-print", "--log-level", "none", "--log-level-file", "none")

# dbt keeps flags, adapters and events in globals, and reads its profile from the environment.
_ONE_AT_A_TIME = threading.RLock()

# Where Postgres quotes rows: in a detail, in a context, and a value at the end of its message.
_DETAIL = re.compile(r"\n\s*(?:DETAIL|CONTEXT):.*?(?=\n\s*compiled code at|\Z)", re.DOTALL)
_VALUE = re.compile(r': ".*?"(?=\s*(?:\n\s*(?:LINE \d|compiled code at)|\Z))', re.DOTALL)
# Which macro called which: of use to whoever writes macros, and longer than the message.
_CALLERS = re.compile(r"\n\s*> (?:in|called by) .*")
_LOST = re.compile(
    r"connection to server|server closed the connection|connection already closed"
    r"|terminating connection|the database system is|too many (?:connections|clients)"
    r"|deadlock detected|could not serialize",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class DbtProject:
    """One dbt project and what is kept of it.

    Attributes:
        folder: The project, its profiles.yml included; nothing is written there.
        target: Folder for what dbt parses and compiles; several processes may share it.
    """

    folder: Path
    target: Path

    def parsed(self, database: str) -> Path:
        """The folder that holds MANIFEST; its name tells all that the parsing depends on.

        Args:
            database: Name of the database, which the manifest puts before every table.

        Raises:
            ConfigError: The project cannot be parsed; the message names the file.
        """
        kept = self._kept(database)
        with _ONE_AT_A_TIME:
            if not kept.exists():
                self._parse(kept, database)
        return kept

    def parsed_before(self, database: str) -> Path | None:
        """The same folder if it is there: found without dbt."""
        kept = self._kept(database)
        return kept if kept.exists() else None

    def run(self, arguments: Sequence[str], profile: Mapping[str, str]) -> Any:
        """What dbt's command returns; failing models and tests are part of that.

        Args:
            arguments: The command and its options, less those that say where things are.
            profile: From `profile_of`.

        Raises:
            ConfigError: dbt refused the project or the options.
            WarehouseUnavailableError: Postgres did not answer.
        """
        with _ONE_AT_A_TIME:
            return self._run(arguments, profile, self._manifest(profile))

    def warm_up(self, profile: Mapping[str, str]) -> None:
        """Use dbt once, without the database, so that the first build finds it ready.

        dbt compiles each macro when a node first calls it; 100 of them take 0.2 s of a build.
        """
        with _ONE_AT_A_TIME:
            manifest = self._manifest(profile)
            called = _called_by_builds(manifest)
            self._run(_WARM_UP, profile, manifest)
            templates = import_module("dbt_common.clients.jinja").template_cache
            for macro in called:
                templates.get_node_template(macro)

    def _run(self, arguments: Sequence[str], profile: Mapping[str, str], manifest: object) -> Any:
        command = [*arguments, "--no-write-json"]
        return self._invoke(command, profile, self.target / "target", manifest)

    def _manifest(self, profile: Mapping[str, str]) -> Any:
        """A new manifest each time: dbt keeps in it what it compiled.

        The second build of a model on an ephemeral one fails on the same manifest with
        'relation "__dbt__cte__…" does not exist'.
        """
        parsed = self.parsed(profile["HEADRACE_DBT_DBNAME"]) / _PARSED
        manifest = import_module("dbt.contracts.graph.manifest").Manifest.from_msgpack(
            parsed.read_bytes(),
            decoder=import_module("dbt.parser.manifest").extended_mashumuro_decoder,
        )
        # The variable `graph` of macros, which dbt fills only after it parsed.
        manifest.build_flat_graph()
        return manifest

    def _parse(self, kept: Path, database: str) -> None:
        """Parse into a folder of its own, which gets its name when it is whole."""
        self.target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".parsing-", dir=self.target) as scratch:
            self._invoke(["parse"], _variables({"dbname": database}), Path(scratch))
            whole = Path(scratch, "whole")
            whole.mkdir()
            for name in (MANIFEST, _PARSED):
                Path(scratch, name).rename(whole / name)
            try:
                whole.rename(kept)
            except OSError:
                if not kept.exists():
                    raise  # else another process was quicker: the same files under the same name
        by_age = sorted(self.target.glob("parsed-*"), key=lambda path: path.stat().st_mtime)
        for outdated in by_age[:-_PARSED_KEPT]:
            shutil.rmtree(outdated, ignore_errors=True)

    def _invoke(
        self,
        arguments: Sequence[str],
        profile: Mapping[str, str],
        target: Path,
        manifest: object = None,
    ) -> Any:
        project = str(self.folder)
        _name_no_sources_of_flags()
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
            # Not `from` it: dbt's text may quote rows, and would be printed as the cause.
            raise self._translated(found.exception) from None
        return found.result

    def _translated(self, error: BaseException) -> BaseException:
        """Our error for one that stopped dbt as a whole; what is none of dbt's stays as it is."""
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
            f"dbt project {self.folder}: {what}", fix="mend the project; nothing was built"
        )

    def _kept(self, database: str) -> Path:
        return self.target / f"parsed-{self._key(database)}"

    def _key(self, database: str) -> str:
        """A short hash of the project's files, their place, dbt's release and the database."""
        content = hashlib.sha256()
        releases = [f"{package} {version(package)}" for package in ("dbt-core", "dbt-postgres")]
        content.update("\n".join([str(self.folder.resolve()), database, *releases]).encode())
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            if path.is_file() and relative.parts[0] not in _MADE_BY_DBT:
                content.update(f"\n{relative.as_posix()} {path.stat().st_size}\n".encode())
                content.update(path.read_bytes())
        return content.hexdigest()[:16]


def _called_by_builds(manifest: Any) -> list[Any]:
    """The macros that a build of the project's models and tests may call."""
    by_name: dict[str, list[Any]] = {}
    for macro in manifest.macros.values():
        by_name.setdefault(macro.name, []).append(macro)

    def named(names: Iterable[str]) -> list[Any]:
        return [macro for name in names for macro in by_name.get(name, ())]

    nodes, package = manifest.nodes.values(), manifest.metadata.project_name
    kinds = {node.config.materialized for node in nodes}
    todo = [manifest.macros[each] for node in nodes for each in node.depends_on.macros]
    todo += [macro for macro in manifest.macros.values() if macro.package_name == package]
    todo += named(_CALLED_BY_ADAPTER)
    todo += named(f"materialization_{kind}_{each}" for kind in kinds for each in _DISPATCHED)
    found: dict[str, Any] = {}
    while todo:
        macro = todo.pop()
        if macro.unique_id in found:
            continue
        found[macro.unique_id] = macro
        todo += [manifest.macros[each] for each in macro.depends_on.macros]
        # What a macro dispatches to is not among those that it depends on.
        todo += named(f"{each}__{macro.name}" for each in _DISPATCHED)
    return list(found.values())


def _name_no_sources_of_flags() -> None:
    """Have dbt not look for who declares a flag, of which it would only speak in its log.

    For each flag of an adapter it looks through the files of all modules that are imported: half a
    second the first time, a tenth later.
    """
    flags: Any = import_module("dbt_common.behavior_flags")
    flags.BehaviorFlagRendered._default_source = staticmethod(lambda: "Unknown")  # noqa: SLF001


def profile_of(url: str, database: str) -> dict[str, str]:
    """The variables that profiles.yml reads.

    Args:
        url: A postgresql:// URL that libpq can read.
        database: The database, if the URL names none.
    """
    return _variables({"dbname": database, **conninfo_to_dict(url)})


def without_rows(message: str) -> str:
    """A message of dbt's, less what Postgres quotes of rows in it, and less its macros' calls."""
    return _VALUE.sub(": (a value)", _DETAIL.sub("", _CALLERS.sub("", message))).strip()


def lost_connection(message: str) -> WarehouseUnavailableError | None:
    """The error to raise if a message of dbt's says that Postgres did not answer or broke off."""
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
        # dbt keeps a variable of this prefix out of its logs and out of the manifest.
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
