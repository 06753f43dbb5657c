"""The entities that a command names."""

from collections.abc import Mapping

from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.loader import Project
from headrace.config.model import unknown_name
from headrace.errors import ConfigError


def chosen_entities(
    project: Project, source: str, entity: str | None
) -> Mapping[str, tuple[SourceConfig, EntityConfig]]:
    """The entities that a command names: one, or all of a source, by `source.entity`.

    Args:
        project: The configuration.
        source: A source, or `source.entity`.
        entity: An entity of the source; None: all, or the one that `source` names.

    Raises:
        ConfigError: There is no such source or entity.
    """
    declared = project.entities()
    if entity is None and "." in source:
        source, _, entity = source.partition(".")
    names = {one.name for one in project.sources}
    if source not in names:
        raise ConfigError(
            f"source {unknown_name(source, sorted(names))}",
            fix="headrace check lists sources and entities",
        )
    found = {name: pair for name, pair in declared.items() if pair[0].name == source}
    if entity is None:
        return found
    if f"{source}.{entity}" not in found:
        own = [pair[1].name for pair in found.values()]
        raise ConfigError(
            f"entity {unknown_name(entity, own)}", fix="headrace check lists sources and entities"
        )
    return {f"{source}.{entity}": found[f"{source}.{entity}"]}
