"""What each kind of fact demands of its declaration.

Belongs here: keys of a fact that its kind needs, or has no use for.
Elsewhere: the keys (headrace.config.star), names and types of columns
(headrace.config.star_references).
"""

from collections.abc import Iterator

from headrace.config.sources import EntityConfig
from headrace.config.star import FactConfig
from headrace.schema import decimal_parts


def kind_problems(where: str, fact: FactConfig, entity: EntityConfig) -> Iterator[str]:
    """Each key of a fact that does not fit its kind, after its path in star.yaml.

    Args:
        where: Path of the fact.
        fact: The fact.
        entity: What its rows come from.
    """
    if not fact.is_snapshot:
        yield from _transaction_problems(where, fact)
        return
    times = [fact.event_time, *(join.event_time for join in fact.dimensions)]
    for time in dict.fromkeys(filter(None, times)):
        yield f"{where}.event_time: '{time}': a periodic snapshot is joined as of each day's end"
    if strangers := sorted({*fact.additive} - {*fact.measures}):
        yield f"{where}.additive: {', '.join(strangers)}: not among the measures"
    if fact.accumulates and fact.additive:
        yield (
            f"{where}.additive: a snapshot of {fact.snapshot_of} has levels only: "
            f"{fact.additive[0]} adds up over days in a fact of its own"
        )
    if fact.snapshot_of == "changes" and {*fact.grain} != {*entity.key}:
        yield (
            f"{where}.grain: {', '.join(fact.grain)} is not the key of {fact.entity} "
            f"({', '.join(entity.key)}): of several rows a day, which is the state?"
        )
    if fact.snapshot_of == "movements":
        yield from _movement_problems(where, fact, entity)


def _transaction_problems(where: str, fact: FactConfig) -> Iterator[str]:
    if fact.event_time is None:
        yield f"{where}.event_time: is missing: which column says when a row happened?"
    for key in sorted({"snapshot_of", "additive"} & fact.model_fields_set):
        yield f"{where}.{key}: is for facts of kind periodic_snapshot only"


def _movement_problems(where: str, fact: FactConfig, entity: EntityConfig) -> Iterator[str]:
    # One row a day stands for many rows: only what they have in common can be told of it.
    used = [*fact.columns, *fact.dates.values()]
    used += [column for join in fact.dimensions for column in join.natural_key.values()]
    for column in dict.fromkeys(used):
        if column not in fact.grain:
            yield f"{where}: '{column}' is not in the grain, so a sum of movements has no one value"
    types = {column.name: column.type for column in entity.columns}
    for measure in fact.measures:
        kind = types.get(measure, "int")
        if kind not in {"int", "bigint"} and not decimal_parts(kind):
            # Sums of doubles depend on the order of addition, so on the order of days.
            yield f"{where}.measures: '{measure}' is a {kind}: only int, bigint, decimal add up"
