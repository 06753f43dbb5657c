"""Columns that are looked up in reference entities or by enrichments, by a broadcast join."""

from collections.abc import Mapping
from functools import reduce
from operator import and_
from pathlib import Path

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.entities.mapping import Lookup, read_by
from headrace.engine import functions as parse
from headrace.engine.values.text_forms import normalized
from headrace.engine.values.types import sql_type
from headrace.enrichment.registry import find_values
from headrace.grain import Grain
from headrace.quality import registry
from headrace.quality.rules import Violation
from headrace.schema import PARTITION_COLUMN

_FOUND = "_found_{}"
_DAY = "_day"
# More than a date has days.
_MOST_PARTITIONS = 10_000_000
_FROM, _TO = "_valid_from", "_valid_to"


def found_columns(entity: EntityConfig) -> list[str]:
    """Columns of joined rows that state whether each lookup found a row."""
    count = len(entity.lookups) + len(entity.enrichments)
    return [_FOUND.format(number) for number in range(count)]


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
    searched = [(one.missing, [*read_by(one).values()], one.entity) for one in entity.lookups] + [
        (one.missing, [*one.reads.values()], one.place) for one in entity.enrichments
    ]
    return [
        Violation(
            check,
            check.reason(column=", ".join(columns), entity=place),
            ~F.col(_FOUND.format(number)),
        )
        for number, (missing, columns, place) in enumerate(searched)
        if missing == "quarantine"
    ]


def with_enriched(
    rows: DataFrame, entity: EntityConfig, keys: Mapping[str, Column], folder: Path
) -> DataFrame:
    """Add the columns of enrichments, and whether each found a value, to captured rows.

    The distinct keys of the rows are collected, and their values are joined by a broadcast.

    Args:
        rows: Rows of the entity.
        entity: Its enrichments.
        keys: By enrichment's number and key of `reads`, the typed value in `rows`.
        folder: The configuration's folder.
    """
    columns = {column.name: column for column in entity.looked_up}
    for place, enrichment in enumerate(entity.enrichments):
        number = len(entity.lookups) + place
        key = {name: f"_key_{number}_{name}" for name in enrichment.reads}
        given = [keys[f"{place}.{name}"].alias(name) for name in enrichment.reads]
        distinct = rows.select(*given).dropna().distinct().toArrow()
        values = find_values(enrichment, distinct, folder)
        is_found = _FOUND.format(number)
        if not values.num_rows:
            # Neither engine has a schema for an empty table of Arrow.
            nothing = [
                F.lit(None).cast(sql_type(column.type)).alias(column.name)
                for column in enrichment.added
            ]
            rows = rows.select("*", *nothing, F.lit(False).alias(is_found))
            continue
        renamed = values.rename_columns(
            [key.get(name, f"_value_{number}_{name}") for name in values.column_names]
        )
        found = rows.sparkSession.createDataFrame(renamed).withColumn(is_found, F.lit(True))
        matches = reduce(
            and_, (keys[f"{place}.{name}"] == F.col(theirs) for name, theirs in key.items())
        )
        looked_up = []
        for column in enrichment.added:
            value, forms = F.col(f"_value_{number}_{column.name}"), columns[column.name].normalize
            looked_up.append((normalized(value, forms) if forms else value).alias(column.name))
        rows = rows.join(F.broadcast(found), matches, "left").select(
            *(F.col(name) for name in rows.columns),
            *looked_up,
            F.col(is_found).isNotNull().alias(is_found),
        )
    return rows


def _joined(
    rows: DataFrame,
    entity: EntityConfig,
    number: int,
    reference: DataFrame,
    keys: Mapping[str, Column],
) -> DataFrame:
    lookup = entity.lookups[number]
    key = {ours: f"_key_{number}_{i}" for i, ours in enumerate(read_by(lookup).values())}
    value = {name: f"_value_{number}_{i}" for i, name in enumerate(lookup.columns)}
    find_states = _states_as_of if lookup.as_of else _states
    states = find_states(reference, lookup).select(
        *(F.col(theirs).alias(key[ours]) for ours, theirs in lookup.match.items()),
        *(F.col(_DAY).alias(key[ours]) for ours in lookup.as_of),
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


def _states_as_of(reference: DataFrame, lookup: Lookup) -> DataFrame:
    """As `_states`, with a row for each day on which a row of the reference is the last one.

    `_day` has the days from the one in the key to `max_age_days` after it.
    """
    [day] = lookup.as_of.values()
    match, values = [*lookup.match.values()], [*lookup.columns.values()]
    # By day, then by partition: the larger place counts.
    partition = F.unix_date(PARTITION_COLUMN).cast("bigint")
    place = F.unix_date(day).cast("bigint") * _MOST_PARTITIONS + partition
    rows = reference.withColumn("_place", place)
    ages = F.explode(F.sequence(F.lit(0), F.lit(lookup.max_age_days)))
    on_days = rows.select(*match, day, PARTITION_COLUMN, "_place", ages.alias("_age"))
    first_by = [*match, _DAY, PARTITION_COLUMN]
    known = (
        on_days.withColumn(_DAY, F.date_add(F.col(day), F.col("_age")))
        .groupBy(*first_by)
        .agg(F.max("_place").alias("_place"))
    )
    so_far = Window.partitionBy(*match, _DAY).orderBy(PARTITION_COLUMN)
    last = known.select(
        *first_by,
        F.max("_place").over(so_far).alias("_place"),
        F.lead(PARTITION_COLUMN).over(so_far).alias("_next"),
    )
    first = reference.agg(F.min(PARTITION_COLUMN).alias("_first"))
    beginning, end = F.lit("0001-01-01").cast("date"), F.lit("9999-12-31").cast("date")
    intervals = last.crossJoin(F.broadcast(first)).select(
        *(F.col(name).alias(f"_match_{i}") for i, name in enumerate(match)),
        F.col("_place").alias("_last_place"),
        F.col(_DAY),
        F.when(F.col(PARTITION_COLUMN) == F.col("_first"), beginning)
        .otherwise(F.col(PARTITION_COLUMN))
        .alias(_FROM),
        F.coalesce("_next", end).alias(_TO),
    )
    is_last = F.col("_last_place") == F.col("_place")
    for i, name in enumerate(match):
        is_last = is_last & (F.col(f"_match_{i}") == F.col(name))
    return rows.join(intervals, is_last).select(*dict.fromkeys((*match, *values)), _DAY, _FROM, _TO)


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
