"""`headrace check`: SQL conditions, transform functions and the dbt project, beside the YAML."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version

from headrace.config.loader import Project, located
from headrace.config.references import calendar_problems
from headrace.errors import ConfigError
from headrace.project.home import Home

_STAR = "warehouse"  # The schema of the star's tables.
_CONDITIONS = "see docs/how-to/write-rules-and-conditions.md"


def check_project(project: Project) -> None:
    """Check everything that can be known before a run.

    Raises:
        ConfigError: One line a problem, with file, line and path.
    """
    conditions = _condition_lines(project)
    others = [
        *(located(project.folder / file, what) for file, what in _code_problems(project)),
        *_dbt_lines(project),
    ]
    if conditions or others:
        fix = "see docs/reference/configuration.md" if others else _CONDITIONS
        raise ConfigError("\n".join([*others, *conditions]), fix=fix)


def check_conditions(project: Project) -> None:
    """Have the engine analyse every SQL condition, unless none has changed since the last time.

    Raises:
        ConfigError: One line for each condition that the engine would reject during a run.
    """
    if lines := _condition_lines(project):
        raise ConfigError("\n".join(lines), fix=_CONDITIONS)


def _condition_lines(project: Project) -> list[str]:
    seen, stamp = Home(project.home).conditions_seen, _stamp(project)
    if stamp is None or (seen.is_file() and seen.read_text() == stamp):
        return []
    lines = [located(project.folder / file, what) for file, what in _condition_problems(project)]
    if not lines:
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.write_text(stamp)
    return lines


def _condition_problems(project: Project) -> Iterator[tuple[str, str]]:
    # The engine's client takes a second to import.
    from headrace.engine.session import EngineUnavailableError, SessionSettings, connect
    from headrace.quality import conditions

    try:
        spark = connect(SessionSettings(remote=project.settings.engine.remote))
    except EngineUnavailableError:
        # The cluster need not be reachable to check a configuration; each step has its own engine
        # analyse its conditions again.
        spark = connect(SessionSettings())
    entities = project.entities()
    found = [
        (f"sources/{path.name}", "", entity, conditions.entity_conditions(entity))
        for path, source in project.source_files.items()
        for entity in source.entities
    ]
    found += [
        ("star.yaml", name, entities[name][1], conditions.dimension_conditions(dim))
        for dim in project.star.dimensions
        for name in dim.entities
    ]
    read_by = Counter(one.place for *_, declared in found for one in declared)
    faults: dict[tuple[str, str, str], list[str]] = {}
    for file, name, entity, declared in found:
        schema = conditions.condition_schema(entity)
        for place, why in conditions.condition_faults(spark, schema, declared):
            faults.setdefault((file, place, why), []).append(name)
    for (file, place, why), names in faults.items():
        # Of a dimension of several entities, those in which the condition does not work.
        rows = f"for rows of {', '.join(names)}, " if len(names) < read_by[place] else ""
        yield file, f"{place}: {rows}{why}"


def _stamp(project: Project) -> str | None:
    """A hash of everything that the engine's answer depends on; None without conditions."""
    columns, texts = [], []
    for name, (_, entity) in project.entities().items():
        columns += [f"{name}.{column.name} {column.type}" for column in entity.columns]
        texts += [f"{name} where {entity.where}"] if entity.where is not None else []
        texts += [f"{name} {rule.name} {rule.expect}" for rule in entity.rules]
    for dim in project.star.dimensions:
        if dim.deleted_when is not None:
            texts.append(f"{dim.name} {' '.join(dim.entities)} {dim.deleted_when}")
    releases = [f"{name} {version(name)}" for name in ("pyspark", "pysail", "headrace")]
    parts = [*releases, project.settings.engine.remote or "", *columns, *texts]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if texts else None


def _code_problems(project: Project) -> Iterator[tuple[str, str]]:
    for path, source in project.source_files.items():
        for entity in source.entities:
            if entity.transform is not None and (why := _transform_problem(entity.transform)):
                yield f"sources/{path.name}", f"entities[{entity.name}].transform: {why}"
    today = datetime.now(UTC).date()
    if project.settings.partitions.end is None:
        for what in calendar_problems(project.star.calendar, project.settings.partitions, today):
            yield "star.yaml", what


def _dbt_lines(project: Project) -> Iterator[str]:
    """Problems of the dbt project; the parsed manifest is cached for the next run."""
    folder = project.dbt_project()
    if not (folder / "dbt_project.yml").is_file():
        base = project.folder / "base.yaml"
        yield f"{base}: dbt_project: no dbt_project.yml in {folder}"
        return
    from headrace.marts.builder import MartBuilder, marts_of, missing_tables

    try:
        builder = MartBuilder(folder, Home(project.home).dbt, url=lambda: "")
        manifest = builder.ensure_manifest()
        marts_of(manifest)
        star = project.star
        tables = [star.calendar.name, *(d.name for d in star.dimensions)]
        tables += [fact.name for fact in star.facts]
        yield from missing_tables(manifest, _STAR, tables)
    except ConfigError as error:
        yield " ".join(str(error).split())


def _transform_problem(reference: str) -> str | None:
    from headrace.standardize.good_rows import load_transform  # imports the engine's client

    try:
        load_transform(reference)
    except ConfigError as error:
        return f"{error}; {error.fix}"
    return None
