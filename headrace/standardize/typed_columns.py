"""Typing of captured text: one expression a column, its default, and counts of inexact values."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.columns import TIMES, ColumnConfig
from headrace.config.entities.entity import EntityConfig
from headrace.engine import functions as parse
from headrace.engine.values.text_forms import normalized
from headrace.engine.values.times import day_of
from headrace.grain import Grain
from headrace.schema import PARTITION_COLUMN
from headrace.standardize.calculated_columns import fault_columns, with_calculated
from headrace.standardize.looked_up_columns import (
    found_columns,
    with_enriched,
    with_looked_up,
)
from headrace.standardize.schemas import lineage_columns
from headrace.warehouse import identifiers

_CORRUPT = ("_corrupt_record", "_corrupt_reason")
_GIVEN = "_given_"
_ABSENT = "_absent_"


def typed_where(
    raw: DataFrame, entity: EntityConfig, condition: Column, more: Sequence[Column] = ()
) -> DataFrame:
    """Type captured rows and keep those for which `condition` is true.

    Args:
        raw: Captured rows, text columns as `raw_schema` names them.
        entity: Its columns.
        condition: May read typed columns, `is_given`, `is_absent_column` and `more`.
        more: Further columns to compute.
    """
    looked_up = [*(column.name for column in entity.looked_up), *found_columns(entity)]
    carried = [*map(F.col, (*_CORRUPT, *looked_up)), *lineage_columns(), F.col(PARTITION_COLUMN)]
    columns = [*_typed_columns(entity), *more, *carried]
    if not entity.calculated:
        return parse.select_where(raw, columns, condition)
    rows = with_calculated(raw.select(*columns), entity)
    return parse.select_where(rows, [F.col(name) for name in rows.columns], condition)


def helper_columns(entity: EntityConfig) -> list[str]:
    """Columns of `typed_where` that only conditions read."""
    given = [_GIVEN + column.name for column in entity.columns if column.type != "string"]
    absent = [_ABSENT + column.name for column in conditionally_required(entity)]
    return [*given, *absent, *found_columns(entity), *fault_columns(entity)]


def with_references(
    raw: DataFrame,
    entity: EntityConfig,
    references: Mapping[str, DataFrame],
    folder: Path = Path(),
) -> DataFrame:
    """Captured rows with the columns of the entity's lookups and enrichments.

    Args:
        raw: Captured rows.
        entity: Its lookups.
        references: By `source.entity`, the processed rows of a reference entity.
        folder: The configuration's folder, in which files of enrichments are.
    """
    matched = dict.fromkeys(name for lookup in entity.lookups for name in lookup.match)
    keys = {name: typed_value(entity.column(name), entity) for name in matched}
    for name in dict.fromkeys(name for lookup in entity.lookups for name in lookup.as_of):
        column = entity.column(name)
        keys[name] = day_of(typed_value(column, entity), column.type, entity.timezone)
    rows = with_looked_up(raw, entity, references, keys)
    return with_enriched(rows, entity, _enrichment_keys(entity), folder)


def _enrichment_keys(entity: EntityConfig) -> dict[str, Column]:
    """By enrichment's number and key of `reads`, the typed value: of a time, its day."""
    keys = {}
    for number, enrichment in enumerate(entity.enrichments):
        for key, name in enrichment.reads.items():
            column = entity.column(name)
            value = typed_value(column, entity)
            if column.type in TIMES:
                value = day_of(value, column.type, entity.timezone)
            keys[f"{number}.{key}"] = value
    return keys


def is_given(column: ColumnConfig) -> Column:
    """Whether the source gave a value for a column of another type than text; never NULL."""
    return F.col(_GIVEN + column.name)


def is_absent_column(column: ColumnConfig) -> Column:
    """Whether a typed row's file lacks the column, and may lack it on that day; never NULL."""
    return F.col(_ABSENT + column.name)


def conditionally_required(entity: EntityConfig) -> list[ColumnConfig]:
    """Required columns that files of some days may lack: NULL is allowed in their rows."""
    return [c for c in entity.columns if c.required and not c.has_always_a_value]


def typed_value(column: ColumnConfig, entity: EntityConfig) -> Column:
    """The typed value of a captured column: NULL if it does not fit, its default if absent."""
    captured = entity.captured_type(column)
    if captured == "string":
        return parsed_value(column, entity)
    return _or_default(_converted(column, captured, entity), column)


def parsed_value(column: ColumnConfig, entity: EntityConfig) -> Column:
    """As `typed_value`, for a column that holds text whatever type the source has."""
    text = normalized(_text(column, entity), entity.forms_of(column))
    return _or_default(parse.parse_declared(column, text, entity.timezone), column)


def captured_text(column: ColumnConfig, entity: EntityConfig) -> Column:
    """The captured value of a column as text, for quarantine."""
    value, captured = F.col(column.name), entity.captured_type(column)
    # The canonical text of a double is a hash of its bits.
    return (
        value.cast("string") if captured == "double" else parse.cast_to(value, "string", captured)
    )


def rounded_values(raw: DataFrame, entity: EntityConfig) -> DataFrame:
    """Per partition day: number of `values` that were rounded to the places of their type.

    Counts all captured rows, before quarantine and deduplication.
    """
    changed = F.lit(0)
    for column in entity.columns:
        if column.round is not None and entity.captured_type(column) == "string":
            text, exact = _text(column, entity), column.model_copy(update={"round": None})
            rounds = parse.parse_declared(column, text, entity.timezone).isNotNull()
            is_exact = parse.parse_declared(exact, text, entity.timezone).isNotNull()
            changed = changed + F.when(rounds & ~is_exact, 1).otherwise(0)
    return raw.groupBy(PARTITION_COLUMN).agg(F.sum(changed).alias("values"))


def unstorable_values(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    """Per partition day and column: number of rows with a value that Postgres cannot store.

    Only a transform produces such values: captured texts have no NUL and years have four digits.

    Returns:
        `_rows_<column>`, and `_place_<column>`: object and position of one such row, or NULL.
    """
    place = F.concat_ws(" line ", F.col("_source_object"), F.col("_source_position").cast("string"))
    found = []
    for column in entity.processed_columns:
        if (holds := _is_unstorable(F.col(column.name), column.type)) is not None:
            found.append(F.sum(F.when(holds, 1).otherwise(0)).alias(f"_rows_{column.name}"))
            found.append(F.min(F.when(holds, place)).alias(f"_place_{column.name}"))
    return rows.groupBy(PARTITION_COLUMN).agg(F.count(F.lit(1)).alias("_rows"), *found)


def _is_unstorable(value: Column, kind: str) -> Column | None:
    """Whether Postgres cannot store a value; None for types that it stores completely."""
    if kind == "string":
        return value.contains("\0") | (F.octet_length(value) > identifiers.LONGEST_TEXT_BYTES)
    if kind == "date":
        return ~F.unix_date(value).between(identifiers.FIRST_DAY, identifiers.LAST_DAY)
    if kind in ("timestamp", "timestamptz"):
        return F.unix_micros(value.cast("timestamp")) < identifiers.FIRST_MICROSECOND
    return None


def _typed_columns(entity: EntityConfig) -> list[Column]:
    typed = [typed_value(column, entity).alias(column.name) for column in entity.columns]
    given = [
        _given(column, entity).alias(_GIVEN + column.name)
        for column in entity.columns
        if column.type != "string"
    ]
    absent = [
        (_is_absent(column) & _may_be_absent(column, entity)).alias(_ABSENT + column.name)
        for column in conditionally_required(entity)
    ]
    return [*typed, *given, *absent]


def _or_default(value: Column, column: ColumnConfig) -> Column:
    if column.default is None:
        return value
    default = parse.cast_to(F.lit(column.default), column.type, "string")
    return F.when(_is_absent(column), default).otherwise(value)


def _converted(column: ColumnConfig, captured: str, entity: EntityConfig) -> Column:
    """A value of the source's type as one of the declared type; NULL if it does not fit."""
    value = F.col(column.name)
    if captured == column.type:
        return value  # Normalization applies to captured text only.
    if captured == "double":
        converted = parse.cast_to(value, column.type, "double")
        if column.kind == "decimal":
            return converted  # Rounded to the nearest decimal: a double has no decimal places.
        return F.when(value == F.floor(value), converted)
    if column.type == "date" and captured in ("timestamp", "timestamptz"):
        day = parse.cast_to(value, "date", captured)
        return F.when(parse.cast_to(day, captured, "date") == value, day)  # Only at midnight.
    # Converted through text, so that a value that does not fit is NULL, not truncated or rounded.
    text = parse.canonical_text(value, captured)
    return parse.parse_declared(column, text, entity.timezone)


def _given(column: ColumnConfig, entity: EntityConfig) -> Column:
    is_text = entity.captured_type(column) == "string"
    given = parse.is_given(_text(column, entity)) if is_text else F.col(column.name).isNotNull()
    return given if column.default is None else given | _is_absent(column)


def _is_absent(column: ColumnConfig) -> Column:
    """Whether the row's file lacks the column; never NULL.

    Raw has a text in all other cases; a NULL of a typed source counts as absent.
    """
    return F.col(column.name).isNull() & F.col("_corrupt_record").isNull()


def _may_be_absent(column: ColumnConfig, entity: EntityConfig) -> Column:
    may = F.lit(column.optional)
    if column.since is not None:
        may = may | (_day(entity) < F.lit(column.since))
    if column.until is not None:
        may = may | (_day(entity) >= F.lit(column.until))
    return may


def _day(entity: EntityConfig) -> Column:
    """The day of a row; without a day column, the first day of its partition."""
    if entity.grain == Grain.DAY or entity.day_column is None:
        return F.col(PARTITION_COLUMN)
    column = entity.column(entity.day_column)
    if column in entity.added_columns:
        return F.col(PARTITION_COLUMN)  # It is calculated from the typed columns.
    day = day_of(typed_value(column, entity), column.type, entity.timezone)
    return F.coalesce(day, F.col(PARTITION_COLUMN))


def _text(column: ColumnConfig, entity: EntityConfig) -> Column:
    null_texts = (*entity.extract.null_texts, *column.null_texts)
    text = F.col(column.name)
    return F.when(~F.trim(text).isin(*null_texts), text) if null_texts else text
