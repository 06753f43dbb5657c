"""Loads YAML files into validated models; errors name file, line, path and remedy."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from headrace.config.document import Document, Place, read_document, read_place, show_place
from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.entities.lookups import with_lookups
from headrace.config.model import Secret, StrictModel, nearest
from headrace.config.references import project_problems
from headrace.config.settings import Settings
from headrace.config.sources.file_source import FileEntity, FilesSource
from headrace.config.sources.models import source_model
from headrace.config.star.dimension_entities import united_entity, with_full_snapshots
from headrace.config.star.models import DimensionConfig, StarConfig
from headrace.config.star.partition_grains import with_partitions
from headrace.config.star.references import (
    with_event_times,
    with_fact_times,
    with_joined_columns,
)
from headrace.config.validation_messages import faults_in
from headrace.errors import ConfigError

ENVIRONMENTS = ("development", "staging", "production")
_REFERENCE = "see docs/reference/configuration.md"
# `facts[0].grain: message`, the form in which modules that know no lines report a problem.
_PLACED = re.compile(r"([a-z_][\w.\[\]]*): (.*)", re.DOTALL)
# Names that headrace.warehouse.ddl.views accepts.
_VIEW = re.compile(r"[a-z][a-z0-9_]{0,50}")
Model = TypeVar("Model", bound=StrictModel)


@dataclass(frozen=True)
class Project:
    """The whole configuration, validated.

    Attributes:
        home: Folder of this installation's state.
        folder: Folder of the configuration.
        environment: One of ENVIRONMENTS.
        source_files: By file, the source that it declares.
    """

    home: Path
    folder: Path
    environment: str
    settings: Settings
    source_files: Mapping[Path, SourceConfig]
    star: StarConfig

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The sources, in the order of their files."""
        return tuple(self.source_files.values())

    @property
    def views(self) -> Path:
        """Folder of the SQL files that become views of the warehouse; it may not exist."""
        return self.folder / "views"

    def entities(self) -> dict[str, tuple[SourceConfig, EntityConfig]]:
        """By `source.entity`, source and entity, in the order of the files."""
        sources = {f"{s.name}.{e.name}": s for s in self.sources for e in s.entities}
        declared = {f"{s.name}.{e.name}": s.owned(e) for s in self.sources for e in s.entities}
        dated = with_partitions(self.star, with_event_times(self.star, declared))
        entities = with_joined_columns(self.star, with_lookups(dated))
        return {name: (source, entities[name]) for name, source in sources.items()}

    def file_entities(self, connection: str | None = None) -> dict[str, FileEntity]:
        """Those of `entities` that are files of a connection; None: in the landing zone."""
        return {
            name: entity
            for name, (source, entity) in self.entities().items()
            if isinstance(entity, FileEntity) and _file_connection(source) == connection
        }

    def file_connections(self) -> tuple[str, ...]:
        """The connections, besides the landing zone, whose files are sources."""
        names = {_file_connection(source) for source in self.sources}
        return tuple(sorted(name for name in names if name is not None))

    def dimension_entity(self, dimension: DimensionConfig) -> EntityConfig:
        """The entity of a dimension's rows; of several, one with the columns that it reads."""
        entities = self.entities()
        return united_entity(dimension, [entities[name][1] for name in dimension.entities])

    def expand(self, uri: str) -> str:
        """`uri` with {home} filled in."""
        return uri.replace("{home}", str(self.home))

    def dbt_project(self) -> Path:
        """The dbt project's folder."""
        return (self.folder / self.settings.dbt_project).resolve()


def _file_connection(source: SourceConfig) -> str | None:
    return source.connection if isinstance(source, FilesSource) else None


def home_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """HEADRACE_HOME, by default `.headrace` in the project's folder; absolute."""
    if home := environ.get("HEADRACE_HOME"):
        return Path(home).absolute()
    return _project_folder() / ".headrace"


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """HEADRACE_CONFIG, by default `config` in the project's folder; absolute."""
    if folder := environ.get("HEADRACE_CONFIG"):
        return Path(folder).absolute()
    return _project_folder() / "config"


def _project_folder() -> Path:
    """The working directory, or the nearest folder above it that has a configuration."""
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if (f / "config/base.yaml").is_file()), here)


def resolve_secret(secret: Secret, environ: Mapping[str, str] = os.environ) -> str:
    """The secret's value.

    Raises:
        ConfigError: The environment variable is not set.
    """
    if value := environ.get(secret.env):
        return value
    raise ConfigError(
        f"the environment variable {secret.env} is not set", fix=f"export {secret.env}=…"
    )


def load_project(environ: Mapping[str, str] = os.environ) -> Project:
    """Read the whole configuration; every problem of every file is reported at once.

    Raises:
        ConfigError: One line for each problem: file and line, path in the file, message.
    """
    folder = config_folder(environ)
    environment = environ.get("PIPELINE_ENV") or "development"
    if environment not in ENVIRONMENTS:
        raise ConfigError(
            f"PIPELINE_ENV: '{environment}' is not one of {', '.join(ENVIRONMENTS)}",
            fix="unset it or choose one of them",
        )
    if not (folder / "base.yaml").is_file():
        raise ConfigError(
            f"{folder}: no base.yaml here", fix="run in the project's folder or set HEADRACE_CONFIG"
        )
    problems = _Problems()
    problems.collect(lambda: _refuse_unread_files(folder))
    settings = problems.collect(lambda: _load_settings(folder, environment))
    paths = sorted((folder / "sources").glob("*.yaml"))
    if not paths:
        problems.errors.append(
            ConfigError(f"{folder / 'sources'}: no source is here", fix="add sources/<name>.yaml")
        )
    sources = {path: problems.collect(lambda p=path: load_source(p)) for path in paths}
    entities = {f"{s.name}.{e.name}": e for s in sources.values() if s for e in s.entities}
    star = problems.collect(lambda: _load_star(folder / "star.yaml", entities))
    problems.raise_if_any()
    star = with_fact_times(star, with_lookups(entities))
    project = Project(home_folder(environ), folder, environment, settings, sources, star)
    lines = [
        located(folder / name, what) for name, what in project_problems(settings, star, sources)
    ]
    if lines:
        raise ConfigError("\n".join(lines), fix=_REFERENCE)
    return project


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings | None:
    """The settings alone, for commands that need no source yet; None without a base.yaml.

    Raises:
        ConfigError: One line a problem.
    """
    folder = config_folder(environ)
    if not (folder / "base.yaml").is_file():
        return None
    return _load_settings(folder, environ.get("PIPELINE_ENV") or "development")


def load_source(path: Path) -> SourceConfig:
    """Read one source file; every problem in it is reported at once, as one ConfigError."""
    document = _read_keys(path)
    return _validated(document.values, source_model(document.values), [document])


def located(path: Path, what: str) -> str:
    """One line for a fault of a file: `config/star.yaml:31: facts[fact_sales].grain: …`.

    Args:
        path: The file.
        what: The path in it, `: `, and the message.
    """
    return _message_line([read_document(path)], what)


class _Problems:
    """Collects ConfigErrors, so that all of them are reported at once."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    def collect(self, load: Any) -> Any:
        try:
            return load()
        except ConfigError as error:
            self.errors.append(error)
            return None

    def raise_if_any(self) -> None:
        if self.errors:
            what = "\n".join(str(error) for error in self.errors)
            raise ConfigError(what, fix=self.errors[0].fix)


def _refuse_unread_files(folder: Path) -> None:
    """Refuse files that nothing reads: most often, their name is misspelt."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [
        f"{path}: nothing reads this file{why}"
        for path in files
        if (why := _why_unread(path.relative_to(folder)))
    ]
    if lines:
        raise ConfigError("\n".join(lines), fix="rename it, or move it out of the configuration")


def _why_unread(file: Path) -> str | None:
    """The fault in the name of a file of the configuration's folder; None if it is read."""
    *folders, _ = file.parts
    if folders == ["views"] and file.suffix == ".sql" and not _VIEW.fullmatch(file.stem):
        return ": a view's name is lower snake case"
    is_hidden = any(part.startswith(".") for part in file.parts)
    if is_hidden or file.suffix.lower() not in {".yaml", ".yml"}:
        return None
    if folders == ["sources"]:
        return None if file.suffix == ".yaml" else f": call it {file.stem}.yaml"
    if folders:
        return ": only sources/*.yaml is read"
    known = {"base", "star", *ENVIRONMENTS}
    if file.suffix == ".yaml" and file.stem in known:
        return None
    near = nearest(file.stem, known)
    return f"; did you mean {near}.yaml?" if near else ": sources are in sources/"


def _load_settings(folder: Path, environment: str) -> Settings:
    base, overlay = folder / "base.yaml", folder / f"{environment}.yaml"
    documents = [read_document(base)]
    if overlay.is_file():
        documents.insert(0, read_document(overlay))
    values: dict[str, Any] = {}
    for document in reversed(documents):
        values = _overlaid(values, document.values)
    return _validated(values, Settings, documents)


def _overlaid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict | None) and isinstance(merged.get(key), dict)
        merged[key] = _overlaid(merged[key], value or {}) if both else value
    return merged


def _load_star(path: Path, entities: Mapping[str, EntityConfig]) -> StarConfig:
    document = _read_keys(path)
    return _validated(with_full_snapshots(document.values, entities), StarConfig, [document])


def _read_keys(path: Path) -> Document:
    document = read_document(path)
    if document.root is None:
        raise ConfigError(f"{path}: is empty", fix=_REFERENCE)
    return document


def _validated(values: dict[str, Any], model: type[Model], documents: Sequence[Document]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [
            _line(documents, fault.place, show_place(values, fault.place), fault.what)
            if fault.place
            else _message_line(documents, fault.what)
            for fault in faults_in(error, values, model)
        ]
        raise ConfigError("\n".join(lines), fix=_REFERENCE) from None


def _message_line(documents: Sequence[Document], what: str) -> str:
    """The line for a message that begins with a path, or with the name of a list's entry."""
    found = _PLACED.fullmatch(what)
    values = documents[0].values
    if found is None:
        return f"{documents[-1].path}: {what}"
    place = _entry_called(values, found[1]) or read_place(values, found[1])
    if not isinstance(place[0], str) or place[0] not in values:
        return f"{documents[-1].path}: {what}"
    return _line(documents, place, show_place(values, place), found[2])


def _entry_called(values: Mapping[str, Any], name: str) -> Place | None:
    entries: Iterator[tuple[str, int, Any]] = (
        (key, i, entry)
        for key, value in values.items()
        if isinstance(value, list)
        for i, entry in enumerate(value)
    )
    return next(
        (
            (k, i)
            for k, i, entry in entries
            if isinstance(entry, dict) and entry.get("name") == name
        ),
        None,
    )


def _line(documents: Sequence[Document], place: Place, shown: str, what: str) -> str:
    document = next((d for d in documents if d.holds(place)), documents[-1])
    line = document.line_of(place)
    at = f"{document.path}:{line}" if line else str(document.path)
    return f"{at}: {shown}: {what}"
