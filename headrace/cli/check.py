"""`headrace check`: SQL conditions, transform functions and the dbt project.

Loading the project has validated the YAML files already.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version

from headrace.cli.output import warn
from headrace.config.loader import Project, located
from headrace.config.references import calendar_problems
from headrace.enrichment.registry import file_problem
from headrace.errors import ConfigError
from headrace.project.home import Home

_STAR = "warehouse"  # The schema of the star's tables.
_CONDITIONS = "see docs/how-to/write-rules-and-conditions.md"


def check_project(project: Project, connect_seconds: float | None = None) -> dict[str, str]:
    """Check everything that can be known before a run.

    Args:
        project: The configuration.
        connect_seconds: Also connect to databases, APIs and SFTP servers, for at most so long;
            None: do not.

    Returns:
        By `source.entity`, what databases and APIs have of it.

    Raises:
        ConfigError: One line a problem, with file, line and path.
    """
    found, faults = _connected(project, connect_seconds)
    conditions = _condition_lines(project)
    problems = [
        *_transform_problems(project),
        *_enrichment_problems(project),
        *_calendar_problems(project),
    ]
    others = [
        *(located(project.folder / file, what) for file, what in problems),
        *_dbt_lines(project),
    ]
    if conditions or others or faults:
        fix = "see docs/reference/configuration.md" if others or faults else _CONDITIONS
        raise ConfigError("\n".join([*others, *conditions, *faults]), fix=fix)
    return found


def _connected(project: Project, seconds: float | None) -> tuple[dict[str, str], list[str]]:
    """What sources have, and a line for each fault of one."""
    if seconds is None:
        return {}, []
    # Drivers take a tenth of a second to import.
    from headrace.sources.connection_check import check_connections

    check = check_connections(project, seconds)
    if check.empty:
        warn(f"no record on the first page of {', '.join(check.empty)}")
    return {**check.found}, [located(fault.file, fault.what) for fault in check.faults]


def check_conditions(project: Project) -> None:
    """Have the engine analyse every SQL condition, unless none has changed since the last time.

    Raises:
        ConfigError: One line for each condition that the engine would reject during a run.
    """
    if lines := _condition_lines(project):
        raise ConfigError("\n".join(lines), fix=_CONDITIONS)


def _condition_lines(project: Project) -> list[str]:
    """Problems of SQL conditions; the engine is not started if it accepted the same ones before."""
    accepted, current = Home(project.home).conditions_seen, _conditions_hash(project)
    if current is None or (accepted.is_file() and accepted.read_text() == current):
        return []
    lines = [located(project.folder / file, what) for file, what in _condition_problems(project)]
    if not lines:
        accepted.parent.mkdir(parents=True, exist_ok=True)
        accepted.write_text(current)
    return lines


def _condition_problems(project: Project) -> Iterator[tuple[str, str]]:
    # The engine's client takes a second to import.
    from headrace.engine.session import EngineUnavailableError, SessionSettings, connect
    from headrace.quality import conditions
    from headrace.standardize.calculated_columns import calculation_faults

    try:
        spark = connect(SessionSettings(remote=project.settings.engine.remote))
    except EngineUnavailableError:
        # A configuration can be checked while the cluster is down: Sail analyses the conditions
        # now, and in a run each step has the cluster analyse its own again.
        spark = connect(SessionSettings())
    entities = project.entities()
    # With the types of looked-up columns, which `source.entities` lack.
    declared_in = [
        (f"sources/{path.name}", entities[f"{source.name}.{entity.name}"][1])
        for path, source in project.source_files.items()
        for entity in source.entities
    ]
    found = [
        (file, "", entity, conditions.entity_conditions(entity)) for file, entity in declared_in
    ]
    found += [
        ("star.yaml", name, entities[name][1], conditions.dimension_conditions(dim))
        for dim in project.star.dimensions
        for name in dim.entities
    ]
    # A condition of a dimension is analysed once for each entity of the dimension.
    analyses = Counter(one.place for *_, declared in found for one in declared)
    faults: dict[tuple[str, str, str], list[str]] = {}
    for file, name, entity, declared in found:
        schema = conditions.condition_schema(entity)
        for place, why in conditions.condition_faults(spark, schema, declared):
            faults.setdefault((file, place, why), []).append(name)
    for file, entity in declared_in:
        for place, why in calculation_faults(entity):
            yield file, f"{place}: {why}"
    for (file, place, why), names in faults.items():
        # Entities are named if the condition is valid for other entities of the dimension.
        rows = f"for rows of {', '.join(names)}, " if len(names) < analyses[place] else ""
        yield file, f"{place}: {rows}{why}"


def _conditions_hash(project: Project) -> str | None:
    """Hash of the conditions, columns, versions and engine URL; None without conditions."""
    columns, texts = [], []
    for name, (_, entity) in project.entities().items():
        columns += [f"{name}.{column.name} {column.type}" for column in entity.processed_columns]
        texts += [f"{name} where {entity.where}"] if entity.where is not None else []
        texts += [f"{name} {rule.name} {rule.expect}" for rule in entity.rules]
        texts += [f"{name} {column.name} {column.expression}" for column in entity.calculated]
    for dim in project.star.dimensions:
        if dim.deleted_when is not None:
            texts.append(f"{dim.name} {' '.join(dim.entities)} {dim.deleted_when}")
    releases = [f"{name} {version(name)}" for name in ("pyspark", "pysail", "headrace")]
    parts = [*releases, project.settings.engine.remote or "", *columns, *texts]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if texts else None


def _transform_problems(project: Project) -> Iterator[tuple[str, str]]:
    for path, source in project.source_files.items():
        for entity in source.entities:
            if entity.transform is not None and (why := _transform_problem(entity.transform)):
                yield f"sources/{path.name}", f"entities[{entity.name}].transform: {why}"


def _enrichment_problems(project: Project) -> Iterator[tuple[str, str]]:
    for path, source in project.source_files.items():
        for entity in source.entities:
            for i, enrichment in enumerate(entity.enrichments):
                if why := file_problem(enrichment, project.folder):
                    yield f"sources/{path.name}", f"entities[{entity.name}].enrichments[{i}].{why}"


def _calendar_problems(project: Project) -> Iterator[tuple[str, str]]:
    """Days up to today that the calendar lacks, if the partitions have no configured end.

    With a configured end, loading the project has checked the calendar.
    """
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
    from headrace.marts.builder import MartBuilder
    from headrace.marts.manifest import marts_of, missing_tables

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
