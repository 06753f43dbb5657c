"""Lineage of each asset of a project: its inputs and its code version."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from headrace.config.entities.lookups import in_lookup_order
from headrace.config.loader import Project
from headrace.config.settings import PartitionSettings
from headrace.config.star.models import CalendarConfig, DimensionConfig, FactConfig
from headrace.enrichment.registry import content_id
from headrace.grain import Grain, finest
from headrace.ledger.build_plan import AssetLineage
from headrace.lineage_schema import LINEAGE, OPERATION, SOURCE_ORDER
from headrace.project.version import code_version
from headrace.warehouse.ddl.partitions import first_retained_month

RAW, PROCESSED, QUARANTINE, CURATED = "raw", "processed", "quarantine", "curated"
WAREHOUSE, MARTS = "warehouse", "marts"

_BUILT_BY_DBT = ("model", "seed", "snapshot")


def table_of(entity: str) -> str:
    """Table of `source.entity` in raw, processed and quarantine: `source_entity`."""
    return entity.replace(".", "_")


def raw_lineage(project: Project, name: str) -> AssetLineage:
    """Lineage of the captured rows of `source.entity`; its connector records the inputs."""
    entity, partitions = project.entities()[name][1], project.settings.partitions
    read = [(column.name, *column.source_names, column.may_be_absent) for column in entity.columns]
    # Objects without a date belong to the first partition, so that its start matters.
    is_undated = entity.extract.day_of_object != "name"
    window = [PartitionSettings(start=partitions.start)] if is_undated else []
    how = [entity.extract, read, *window, *([entity.partition] if entity.partition else [])]
    return AssetLineage(f"{RAW}/{table_of(name)}", code_version(*how), grain=entity.grain)


def processed_lineage(project: Project, name: str) -> AssetLineage:
    """Lineage of the typed rows of `source.entity`."""
    table, entity = table_of(name), project.entities()[name][1]
    # What the star needs of an entity affects its rows, and the checks that hold a day.
    uses = project.star.uses_of(name)
    # A new version of a file may have other values.
    files = [content_id(one, project.folder) for one in entity.enrichments]
    version = code_version(entity, *([uses] if uses else []), *([files] if files else []))
    lookups = {f"{PROCESSED}/{table_of(one.entity)}": one.entity for one in entity.lookups}
    entities = project.entities() if lookups else {}
    return AssetLineage(
        f"{PROCESSED}/{table}",
        version,
        inputs=(f"{RAW}/{table}",),
        lookups=tuple(lookups),
        grain=entity.grain,
        grains={asset: entities[one][1].grain for asset, one in lookups.items()},
    )


def lineage_columns_read(project: Project, name: str) -> tuple[str, ...]:
    """The lineage columns of `source.entity` that affect the star.

    If a dimension may have several rows of a member on one day, the last one counts: then these
    include the columns of the source order.
    """
    entity = project.entities()[name][1]
    read = {*entity.key, *([OPERATION] if entity.extract.states_deletes else [])}
    for dim in (dim for dim in project.star.dimensions if name in dim.entities):
        if not {*entity.key} <= {*dim.natural_key.values()}:
            read |= {*SOURCE_ORDER}
        # Searched as text: a condition that has a column's name in a text costs a needless build.
        condition = dim.deleted_when or ""
        read |= {column for column in LINEAGE.names if column in condition}
    for fact in (fact for fact in project.star.facts if fact.entity == name):
        joined = (column for join in fact.dimensions for column in join.natural_key.values())
        read |= {*fact.grain, *fact.columns, *joined}
    return tuple(column for column in LINEAGE.names if column in read)


def dimension_lineage(project: Project, config: DimensionConfig) -> AssetLineage:
    """Lineage of a dimension; facts are optional inputs, from which members are inferred."""
    entities = [project.entities()[name][1] for name in config.entities]
    own = tuple(f"{PROCESSED}/{table_of(name)}" for name in config.entities)
    facts = {
        f"{PROCESSED}/{table_of(fact.entity)}"
        for fact in project.star.facts
        if config.infers_members and config.name in {join.dimension for join in fact.dimensions}
    }
    grains = {
        f"{PROCESSED}/{table_of(name)}": one.grain for name, (_, one) in project.entities().items()
    }
    return AssetLineage(
        f"{CURATED}/{config.name}",
        code_version(config, *entities),
        inputs=own,
        optional_inputs=tuple(sorted(facts - {*own})),
        grain=finest(grains[name] for name in (*own, *facts)),
        grains={name: grains[name] for name in (*own, *facts)},
    )


def calendar_lineage(project: Project) -> AssetLineage:
    """Lineage of the date dimension, which has no inputs; its grain is the facts' finest."""
    config, entities = project.star.calendar, project.entities()
    grain = finest(entities[fact.entity][1].grain for fact in project.star.facts)
    return AssetLineage(
        f"{CURATED}/{config.name}",
        calendar_version(config),
        grain=grain if grain.has_periods else Grain.NONE,
    )


def calendar_version(config: CalendarConfig) -> str:
    """Code version of the calendar; a new release of `holidays` may have other holidays."""
    has_country = config.business is not None and config.business.country is not None
    return code_version(config, *([[version("holidays")]] if has_country else []))


def fact_lineage(project: Project, config: FactConfig) -> AssetLineage:
    """Lineage of a fact: rows of one entity, and keys of dimensions, read as whole tables."""
    entity = project.entities()[config.entity][1]
    dimensions = {j.dimension: project.star.dimension(j.dimension) for j in config.dimensions}
    own = f"{PROCESSED}/{table_of(config.entity)}"
    joined = tuple(f"{CURATED}/{name}" for name in dimensions)
    grains = {
        f"{CURATED}/{name}": dimension_lineage(project, dimension).grain
        for name, dimension in dimensions.items()
    }
    return AssetLineage(
        f"{CURATED}/{config.name}",
        code_version(config, entity, *dimensions.values()),
        inputs=(own,),
        required_tables=joined,
        inferring_tables=tuple(
            f"{CURATED}/{name}"
            for name, dimension in dimensions.items()
            if dimension.infers_members
        ),
        table_inputs=(*joined, own) if config.accumulates else joined,
        grain=entity.grain,
        grains=grains,
    )


def warehouse_lineage(project: Project) -> dict[str, AssetLineage]:
    """Lineage of the tables of the star in Postgres, by table."""
    star = project.star
    copied = {
        each.name: (code_version(each), dimension_lineage(project, each).grain)
        for each in star.dimensions
    }
    copied[star.calendar.name] = calendar_version(star.calendar), calendar_lineage(project).grain
    found = {
        name: AssetLineage(
            f"{WAREHOUSE}/{name}", version, inputs=(f"{CURATED}/{name}",), grain=grain
        )
        for name, (version, grain) in copied.items()
    }
    for fact in star.facts:
        found[fact.name] = AssetLineage(
            f"{WAREHOUSE}/{fact.name}",
            code_version(fact),
            inputs=(f"{CURATED}/{fact.name}",),
            retained_from=first_retained_month(fact.keep_months) if fact.keep_months else None,
            grain=project.entities()[fact.entity][1].grain,
        )
    return found


def mart_lineage(project: Project, manifest: Mapping[str, Any]) -> dict[str, AssetLineage]:
    """Lineage of the marts, by model: the facts that a model reads, directly or through others.

    A model that reads no fact has all facts as inputs.

    Args:
        project: The star.
        manifest: dbt's parsed manifest.
    """
    nodes = {**manifest["nodes"], **manifest["sources"]}
    tests: dict[str, list[str]] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and node.get("attached_node"):
            definition = f"{node['raw_code']} {node.get('test_metadata')}"
            tests.setdefault(node["attached_node"], []).append(definition)
    entities = project.entities()
    facts = {
        fact.name: (f"{WAREHOUSE}/{fact.name}", entities[fact.entity][1].grain)
        for fact in project.star.facts
    }

    def lineage(unique_id: str, node: Mapping[str, Any]) -> AssetLineage:
        read = _sources_of(unique_id, nodes)
        inputs = dict([of for name, of in facts.items() if name in read] or facts.values())
        return AssetLineage(
            f"{MARTS}/{node['name']}",
            _model_version(node, nodes, tests.get(unique_id, ())),
            inputs=tuple(inputs),
            grain=finest(inputs.values()),
            grains=inputs,
        )

    return {
        node["name"]: lineage(unique_id, node)
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in _BUILT_BY_DBT and not _is_ephemeral(node)
    }


def project_lineage(project: Project, manifest: Mapping[str, Any]) -> dict[str, AssetLineage]:
    """Lineage of every asset of a project, by name, in build order.

    Args:
        project: The configuration.
        manifest: dbt's parsed manifest.
    """
    entities = {name: entity for name, (_, entity) in project.entities().items()}
    found: Iterable[AssetLineage] = (
        *(raw_lineage(project, name) for name in project.entities()),
        *(processed_lineage(project, name) for name in in_lookup_order(entities)),
        *(dimension_lineage(project, config) for config in project.star.dimensions),
        calendar_lineage(project),
        *(fact_lineage(project, config) for config in project.star.facts),
        *warehouse_lineage(project).values(),
        *mart_lineage(project, manifest).values(),
    )
    return {lineage.name: lineage for lineage in found}


def _model_version(
    node: Mapping[str, Any], nodes: Mapping[str, Any], tests: Collection[str]
) -> str:
    """Code version of a model: a hash of its SQL and its tests, by which a held day may pass."""
    code = "\0".join([*sorted(_code(node, nodes)), *sorted(tests)])
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def _sources_of(unique_id: str, nodes: Mapping[str, Any]) -> set[str]:
    """Names of the warehouse tables that a model reads, directly or through other models."""
    found: set[str] = set()
    for name in nodes[unique_id].get("depends_on", {}).get("nodes", ()):
        if nodes[name]["resource_type"] == "source":
            found.add(nodes[name]["name"])
        elif nodes[name]["resource_type"] in _BUILT_BY_DBT:
            found |= _sources_of(name, nodes)
    return found


def _code(node: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[str]:
    """The SQL of a model, and of the ephemeral models that are inlined in it."""
    yield str(node["raw_code"])
    for name in node.get("depends_on", {}).get("nodes", ()):
        if name in nodes and _is_ephemeral(nodes[name]):
            yield from _code(nodes[name], nodes)


def _is_ephemeral(node: Mapping[str, Any]) -> bool:
    return bool(node.get("config", {}).get("materialized") == "ephemeral")
