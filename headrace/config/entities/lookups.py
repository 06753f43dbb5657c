"""Lookups between entities: the types of looked-up columns, and references that do not fit."""

from collections.abc import Iterator, Mapping

from headrace.config.entities.columns import TIMES, ColumnConfig, is_value_of
from headrace.config.entities.entity import EntityConfig
from headrace.config.entities.mapping import Lookup, read_by
from headrace.config.model import unknown_name
from headrace.grain import Grain

Entities = Mapping[str, EntityConfig]
# Types whose values compare alike.
_KINDS = {"int": "bigint"}


def with_lookups(entities: Entities) -> dict[str, EntityConfig]:
    """The entities with the types of their looked-up columns.

    Columns by which rows are matched are normalized like keys. Lookups that do not fit are left
    out; `lookup_problems` reports them.

    Args:
        entities: By `source.entity`.
    """
    found = dict(entities)
    for name in in_lookup_order(entities):
        entity = found[name]
        if entity.lookups:
            matched = {column for lookup in entity.lookups for column in lookup.match}
            found[name] = entity.with_joined(matched).resolved(_looked_up(entity, found))
    return found


def in_lookup_order(entities: Entities) -> list[str]:
    """The names of the entities, each after those that it looks up."""
    order: dict[str, None] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in order or name in above or name not in entities:
            return
        for lookup in entities[name].lookups:
            add(lookup.entity, (*above, name))
        order[name] = None

    for name in entities:
        add(name, ())
    return [*order]


def lookup_problems(entities: Entities) -> Iterator[tuple[str, str]]:
    """Lookups that do not fit: the entity, and the message after its path in the file.

    Args:
        entities: By `source.entity`, with their partitions and the types of looked-up columns.
    """
    for name, entity in entities.items():
        for i, lookup in enumerate(entity.lookups):
            where = f"entities[{entity.name}].lookups[{i}]"
            reference = entities.get(lookup.entity)
            if reference is None:
                yield name, f"{where}.entity: {unknown_name(lookup.entity, entities)}"
            elif cycle := _cycle(name, lookup.entity, entities):
                yield (
                    name,
                    f"{where}.entity: {' looks up '.join(cycle)}: a row would depend on itself",
                )
            else:
                for what in _problems(entity, lookup, reference):
                    yield name, f"{where}.{what}"


def _problems(entity: EntityConfig, lookup: Lookup, reference: EntityConfig) -> Iterator[str]:
    if reference.grain not in (Grain.NONE, Grain.SPARSE):
        yield (
            f"entity: {lookup.entity} has a partition for each {reference.grain}, and no current "
            "state: say `partition: none` there"
        )
    theirs = {column.name: column for column in reference.processed_columns}
    used = {
        "match": lookup.match.values(),
        "as_of": lookup.as_of.values(),
        "columns": lookup.columns.values(),
    }
    unknown = [(key, n) for key, names in used.items() for n in names if n not in theirs]
    for key, column in unknown:
        yield f"{key}: {lookup.entity}: {unknown_name(column, theirs)}"
    if not unknown and {*read_by(lookup)} != {*reference.key}:
        yield (
            f"match: {lookup.entity} has the key {', '.join(reference.key)}: match all of it and "
            "no more, so that at most one row is found"
        )
    yield from _type_problems(entity, lookup, theirs)


def _type_problems(
    entity: EntityConfig, lookup: Lookup, theirs: Mapping[str, ColumnConfig]
) -> Iterator[str]:
    for ours, other in lookup.match.items():
        if other in theirs and (kinds := _clash(entity.column(ours), theirs[other])):
            yield f"match: '{ours}' is a {kinds[0]}, but {other} of {lookup.entity} a {kinds[1]}"
    for ours, other in lookup.as_of.items():
        if entity.column(ours).type not in TIMES:
            yield f"as_of: '{ours}' is a {entity.column(ours).type}, and says no day"
        if other in theirs and theirs[other].type != "date":
            yield f"as_of: {other} of {lookup.entity} is a {theirs[other].type}, not a date"
    for name, text in lookup.default.items():
        source = theirs.get(lookup.columns[name])
        if source is not None and not is_value_of(source.type, text):
            yield f"default: '{text}' is not a {source.type}, as {name} is"


def _clash(ours: ColumnConfig, theirs: ColumnConfig) -> tuple[str, str] | None:
    kinds = ours.type, theirs.type
    return None if len({_KINDS.get(kind, kind) for kind in kinds}) == 1 else kinds


def _cycle(name: str, reference: str, entities: Entities) -> list[str]:
    """The entities of a cycle through `name`, from it to it; empty without one."""

    def path(at: str, seen: tuple[str, ...]) -> list[str]:
        if at == name:
            return [*seen, at]
        if at in seen or at not in entities:
            return []
        found = (path(lookup.entity, (*seen, at)) for lookup in entities[at].lookups)
        return next(filter(None, found), [])

    return path(reference, (name,)) if reference != name else [name, name]


def _looked_up(entity: EntityConfig, entities: Entities) -> dict[str, ColumnConfig]:
    found: dict[str, ColumnConfig] = {}
    for lookup in entity.lookups:
        reference = entities.get(lookup.entity)
        theirs = {c.name: c for c in reference.processed_columns} if reference else {}
        for name, source in lookup.columns.items():
            if source in theirs:
                column = theirs[source]
                found[name] = ColumnConfig(
                    name=name, type=column.type, description=column.description
                )
    return found
