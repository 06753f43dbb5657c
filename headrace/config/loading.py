"""From YAML files to checked models, with errors that name file, path and fix.

Belongs here: reading, overlaying, explaining what is wrong; the only reader of the environment.
Elsewhere: the models (headrace.config.settings, .sources, .star).
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from headrace.config.model import StrictModel
from headrace.config.settings import Secret, Settings
from headrace.config.sources import EntityConfig, SourceConfig
from headrace.config.star import StarConfig
from headrace.config.star_references import star_problems
from headrace.errors import ConfigError

ENVIRONMENTS = ("development", "staging", "production")
Model = TypeVar("Model", bound=StrictModel)


@dataclass(frozen=True)
class Project:
    """Everything that a user configured, checked as a whole.

    Attributes:
        home: Where this installation's state lives.
        folder: Where the configuration lies.
        environment: One of ENVIRONMENTS.
    """

    home: Path
    folder: Path
    environment: str
    settings: Settings
    sources: tuple[SourceConfig, ...]
    star: StarConfig

    @property
    def views(self) -> Path:
        """Folder of the SQL files that become views of the warehouse; it need not be there."""
        return self.folder / "views"

    def entities(self) -> dict[str, tuple[SourceConfig, EntityConfig]]:
        """`source.entity` to both, in the order of the files."""
        return {f"{s.name}.{e.name}": (s, e) for s in self.sources for e in s.entities}

    def expand(self, uri: str) -> str:
        """`uri` with {home} filled in."""
        return uri.replace("{home}", str(self.home))

    def dbt_project(self) -> Path:
        """The dbt project's folder."""
        return (self.folder / self.settings.dbt_project).resolve()


def home_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """HEADRACE_HOME, `.headrace` by default; absolute."""
    return Path(environ.get("HEADRACE_HOME") or ".headrace").absolute()


def config_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """HEADRACE_CONFIG, `config` by default; absolute."""
    return Path(environ.get("HEADRACE_CONFIG") or "config").absolute()


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
        ConfigError: One line a problem: file, path in the file, what is wrong.
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
    settings = problems.collect(lambda: _load_settings(folder, environment))
    paths = sorted((folder / "sources").glob("*.yaml"))
    sources = [problems.collect(lambda p=path: load_source(p)) for path in paths]
    star = problems.collect(lambda: _load(folder / "star.yaml", StarConfig))
    problems.raise_if_any()
    project = Project(
        home_folder(environ), folder, environment, settings, tuple(filter(None, sources)), star
    )
    check_references(project)
    return project


def load_source(path: Path) -> SourceConfig:
    """Read one source file; every problem in it is reported at once, as one ConfigError."""
    return _load(path, SourceConfig)


def check_references(project: Project) -> None:
    """See that names which cross files lead somewhere.

    Raises:
        ConfigError: A source is declared twice, or the star names what no source declares.
    """
    names = [source.name for source in project.sources]
    lines = [f"{project.folder}/sources: source '{n}' is declared twice" for n in _repeated(names)]
    entities = {name: entity for name, (_, entity) in project.entities().items()}
    lines += [f"{project.folder}/star.yaml: {p}" for p in star_problems(project.star, entities)]
    if lines:
        raise ConfigError("\n".join(lines), fix="see docs/reference/configuration.md")


class _Problems:
    """Collects ConfigErrors so that a user sees them all in one go."""

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


def _load_settings(folder: Path, environment: str) -> Settings:
    base, overlay = folder / "base.yaml", folder / f"{environment}.yaml"
    document = _read(base)
    if overlay.is_file():
        document = _overlaid(document, _read(overlay))
        return _validated(document, Settings, f"{base} with {overlay.name}")
    return _validated(document, Settings, str(base))


def _overlaid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlaid(merged[key], value) if both else value
    return merged


def _load(path: Path, model: type[Model]) -> Model:
    return _validated(_read(path), model, str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", fix="create it; see config/ for one") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}", fix="correct the syntax there") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected keys and values", fix="see docs/reference")
    return document


def _validated(document: dict[str, Any], model: type[Model], where: str) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = error.errors()
        lines = [f"{where}: {path_in(document, p['loc'])}: {_explain(p)}" for p in problems]
        raise ConfigError("\n".join(lines), fix=_suggest(problems[0], model)) from None


def path_in(document: Any, loc: tuple[str | int, ...]) -> str:
    """Where in the YAML a pydantic location lies: `entities[1].extract.mode`.

    `loc` also holds names of union members, which the file does not: they are left out.
    """
    path, at = "", document
    for i, part in enumerate(loc):
        if isinstance(part, int):
            path += f"[{part}]"
            at = at[part] if isinstance(at, list) and part < len(at) else None
        elif i == len(loc) - 1 or (isinstance(at, dict) and part in at):
            path += f".{part}" if path else str(part)
            at = at.get(part) if isinstance(at, dict) else None
    return path or "the file"


def _explain(problem: Any) -> str:
    kind, value = problem["type"], problem.get("input")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a key that exists here"
    if kind == "literal_error":
        return f"{value!r} is not one of {problem['ctx']['expected']}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    shown = f"{value!r}: " if isinstance(value, str | int | float | bool) else ""
    return f"{shown}{message}"


def _suggest(problem: Any, model: type[BaseModel]) -> str:
    reference = "see docs/reference/configuration.md"
    candidates: list[str] = []
    if problem["type"] == "literal_error":
        candidates = [
            c.strip("' ") for c in problem["ctx"]["expected"].replace(" or ", ",").split(",")
        ]
        wrong = str(problem.get("input"))
    elif problem["type"] == "extra_forbidden":
        candidates = sorted(_all_fields(model))
        wrong = str(problem["loc"][-1])
    else:
        return reference
    close = difflib.get_close_matches(wrong, candidates, n=1)
    return f"did you mean {close[0]}? {reference}" if close else reference


def _all_fields(model: type[BaseModel]) -> set[str]:
    definitions = model.model_json_schema().get("$defs", {})
    nested = {name for d in definitions.values() for name in d.get("properties", {})}
    return nested | {*model.model_json_schema().get("properties", {})}


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
