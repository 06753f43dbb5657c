"""Columns that are looked up in reference entities, by a broadcast join."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.mapping import Lookup
from headrace.config.sources import EntityConfig
from headrace.engine import functions as parse
from headrace.engine.text_forms import normalized
from headrace.grain import Grain
from headrace.quality import registry
from headrace.quality.rules import Violation
from headrace.schema import PARTITION_COLUMN

_FOUND = "_found_{}"
_FROM, _TO = "_valid_from", "_valid_to"


def found_columns(entity: EntityConfig) -> list[str]:
    """Columns of joined rows that state whether each lookup found a row."""
    return [_FOUND.format(number) for number in range(len(entity.lookups))]


def with_looked_up(
    rows: DataFrame,
    entity: EntityConfig,
    references: Mapping[str, DataFrame],
    keys: Mapping[str, Column],
) -> DataFrame:
    """Add the looked-up columns, and whether each lookup found a row, to captured rows.

    A row of a partition reads the last row of its key that the reference entity has from before
    the partition's end. Its first partition counts from the beginning of time.

    Args:
        rows: Rows of the entity.
        entity: Its lookups.
        references: By `source.entity`, the processed rows of a reference entity.
        keys: By column that a lookup matches, its typed value in `rows`.
    """
    for number, lookup in enumerate(entity.lookups):
        rows = _joined(rows, entity, number, references[lookup.entity], keys)
    return rows


def missing_references(entity: EntityConfig) -> list[Violation]:
    """Rows without a row in a reference entity, where the lookup quarantines them."""
    check = registry.MISSING_REFERENCE
    return [
        Violation(
            check,
            check.reason(column=", ".join(lookup.match), entity=lookup.entity),
            ~F.col(_FOUND.format(number)),
        )
        for number, lookup in enumerate(entity.lookups)
        if lookup.missing == "quarantine"
    ]


def _joined(
    rows: DataFrame,
    entity: EntityConfig,
    number: int,
    reference: DataFrame,
    keys: Mapping[str, Column],
) -> DataFrame:
    lookup = entity.lookups[number]
    key = {ours: f"_key_{number}_{i}" for i, ours in enumerate(lookup.match)}
    value = {name: f"_value_{number}_{i}" for i, name in enumerate(lookup.columns)}
    states = _states(reference, lookup).select(
        *(F.col(theirs).alias(key[ours]) for ours, theirs in lookup.match.items()),
        *(F.col(theirs).alias(value[name]) for name, theirs in lookup.columns.items()),
        _FROM,
        _TO,
    )
    end = _end_of(F.col(PARTITION_COLUMN), entity.grain)
    matches = (F.col(_FROM) < end) & (F.col(_TO) >= end)
    for ours, theirs in key.items():
        matches = matches & (keys[ours] == F.col(theirs))
    joined = rows.join(F.broadcast(states), matches, "left")
    is_found = F.col(_FROM).isNotNull()
    columns = {column.name: column for column in entity.looked_up}
    looked_up = [
        _value(F.col(value[name]), is_found, lookup, name, columns[name].type, entity).alias(name)
        for name in lookup.columns
    ]
    return joined.select(
        *(F.col(name) for name in rows.columns), *looked_up, is_found.alias(_FOUND.format(number))
    )


def _states(reference: DataFrame, lookup: Lookup) -> DataFrame:
    """The rows with the partitions `(from, to]` before whose end they are the last of their key."""
    later = Window.partitionBy(*lookup.match.values()).orderBy(PARTITION_COLUMN)
    first = reference.agg(F.min(PARTITION_COLUMN).alias("_first"))
    beginning, end = F.lit("0001-01-01").cast("date"), F.lit("9999-12-31").cast("date")
    return reference.crossJoin(F.broadcast(first)).select(
        *dict.fromkeys((*lookup.match.values(), *lookup.columns.values())),
        F.when(F.col(PARTITION_COLUMN) == F.col("_first"), beginning)
        .otherwise(F.col(PARTITION_COLUMN))
        .alias(_FROM),
        F.coalesce(F.lead(PARTITION_COLUMN).over(later), end).alias(_TO),
    )


def _end_of(partition: Column, grain: Grain) -> Column:
    """The day after a partition."""
    match grain:
        case Grain.NONE:
            return F.lit("9999-12-31").cast("date")
        case Grain.WEEK:
            return F.date_add(partition, 7)
        case Grain.MONTH:
            return F.add_months(partition, 1)
        case Grain.YEAR:
            return F.add_months(partition, 12)
    return F.date_add(partition, 1)


def _value(
    value: Column, is_found: Column, lookup: Lookup, name: str, kind: str, entity: EntityConfig
) -> Column:
    column = entity.column(name)
    if column.normalize:
        value = normalized(value, column.normalize)
    if name not in lookup.default:
        return value
    default = parse.cast_to(F.lit(lookup.default[name]), kind, "string")
    return F.when(is_found, value).otherwise(default)
