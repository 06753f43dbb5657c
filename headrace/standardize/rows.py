"""From captured text to typed rows, and the reasons to quarantine those that resist."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import cast

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.columns import ColumnConfig
from headrace.config.sources import (
    OPERATION_DESCRIPTION,
    PLACE_COLUMNS,
    SOURCE_ORDER,
    EntityConfig,
)
from headrace.engine import functions as parse
from headrace.engine.text_forms import normalized, pushdown_barrier
from headrace.engine.times import day_of
from headrace.errors import ConfigError
from headrace.grain import Grain
from headrace.quality.rules import Objection, any_holds, declared_objections, reasons
from headrace.schema import Column as SchemaColumn
from headrace.schema import TableSchema
from headrace.warehouse import identifiers

PARTITION_COLUMN = "_partition_date"

_LINEAGE = (
    SchemaColumn("_captured_at", "timestamptz", False, "When the source was read."),
    SchemaColumn(
        "_delivery_order", "string", True, "Orders deliveries: time of the file, then path."
    ),
    *PLACE_COLUMNS.values(),
    SchemaColumn("_operation", "string", True, OPERATION_DESCRIPTION),
)
_AUDIT = (
    SchemaColumn("_processed_at", "timestamptz", False, "When the run began that wrote the row."),
    SchemaColumn("_run_id", "string", False, "Run that wrote the row."),
    SchemaColumn("_code_version", "string", False, "Version of code and rules that wrote it."),
    SchemaColumn(PARTITION_COLUMN, "date", False, "Day of the row."),
)


@dataclass(frozen=True)
class RunStamp:
    """What the audit columns say of the run: its id, code version, and start (ISO, UTC)."""

    run_id: str
    code_version: str
    started_at: str


def processed_schema(entity: EntityConfig) -> TableSchema:
    """The entity's columns, then lineage and audit columns."""
    return entity.declared_schema().plus((*_LINEAGE, *_AUDIT))


def quarantine_schema(entity: EntityConfig) -> TableSchema:
    """Every reason, the text of every column as captured, then lineage and audit columns."""
    text = (SchemaColumn(c.name, "string", True, c.description) for c in entity.columns)
    return TableSchema(
        (
            SchemaColumn(
                "_reasons", "string", False, "Every reason that holds, '; ' between them."
            ),
            *text,
            SchemaColumn("_corrupt_record", "string", True, "The line, if it has no fields."),
            *_LINEAGE,
            *_AUDIT,
        )
    )


def good_rows(raw: DataFrame, entity: EntityConfig, stamp: RunStamp) -> DataFrame:
    """Typed rows of the entity that no rule objects to; repeats are still among them.

    Args:
        raw: Captured rows of one or more days, text columns as `raw_schema` names them.
        entity: What the columns and rules are.
        stamp: Values of the audit columns.
    """
    return _transformed(_good(raw, entity), entity).select(*_output(entity, stamp))


def _good(raw: DataFrame, entity: EntityConfig) -> DataFrame:
    is_good = _belongs(entity) & _is_good(entity)
    return _typed_where(raw, entity, is_good).drop(*_unparsed(entity))


def quarantined_rows(raw: DataFrame, entity: EntityConfig, stamp: RunStamp) -> DataFrame:
    """The captured text of rows that a rule objects to, with every reason."""
    names = [column.name for column in entity.columns]
    text = [F.col(name).alias(f"_text_{name}") for name in names]
    is_broken = _belongs(entity) & any_holds(_objections(entity))
    broken = _typed_where(raw, entity, is_broken, text)
    # A row without columns breaks every other rule too; only why it has none says anything.
    why = F.when(F.col("_corrupt_record").isNotNull(), F.col("_corrupt_reason")).otherwise(
        reasons([o for objection in _objections(entity) for o in _explained(objection, entity)])
    )
    shown = [F.col(f"_text_{name}").alias(name) for name in names]
    return broken.select(
        why.alias("_reasons"), *shown, "_corrupt_record", *_lineage(), *_audit(stamp)
    )


def left_out_rows(raw: DataFrame, entity: EntityConfig) -> DataFrame:
    """Per partition day: how many `rows` the entity leaves out; days without may be absent.

    What its `where` leaves out, and what its `transform` does: good rows before it less those after
    it (below zero where it makes several of one).

    A row with a value that cannot be read is never left out: it is quarantined, lest a condition
    that cannot be judged make it disappear.
    """
    counted = [(_typed_where(raw, entity, ~_belongs(entity)), 1)]
    if entity.transform is not None:
        good = _good(raw, entity)
        counted += [(good, 1), (_transformed(good, entity), -1)]
    signed = (rows.select(PARTITION_COLUMN, F.lit(sign).alias("_n")) for rows, sign in counted)
    found = reduce(DataFrame.unionByName, signed).groupBy(PARTITION_COLUMN)
    return found.agg(F.sum("_n").cast("bigint").alias("rows"))


def typed_values(quarantined: DataFrame, names: Sequence[str], entity: EntityConfig) -> DataFrame:
    """Some columns of quarantined rows, typed; NULL where they cannot be read; and their day."""
    typed = [
        parse.cast_to(_typed(entity.column(name), entity), entity.column(name).type).alias(name)
        for name in names
    ]
    return quarantined.select(*typed, PARTITION_COLUMN)


def rounded_values(raw: DataFrame, entity: EntityConfig) -> DataFrame:
    """Per partition day: how many `values` have more places than their type and were rounded.

    Counted among all captured rows, before any is quarantined or replaced by a later one.
    """
    changed = F.lit(0)
    for column in entity.columns:
        if column.round is not None:
            text, exact = _text(column, entity), column.model_copy(update={"round": None})
            rounds = parse.parse_declared(column, text, entity.timezone).isNotNull()
            is_exact = parse.parse_declared(exact, text, entity.timezone).isNotNull()
            changed = changed + F.when(rounds & ~is_exact, 1).otherwise(0)
    return raw.groupBy(PARTITION_COLUMN).agg(F.sum(changed).alias("values"))


def unstorable_values(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    """Per partition day: of each column, in how many rows Postgres takes no value, and one's place.

    Only a transform makes such values: files give texts without NUL, and years of four digits.

    Returns:
        `_rows_<column>`, and `_place_<column>`: a file and a line, NULL where there is none.
    """
    place = F.concat_ws(" line ", F.col("_source_object"), F.col("_source_position").cast("string"))
    found = []
    for column in entity.columns:
        if (holds := _is_unstorable(F.col(column.name), column.type)) is not None:
            found.append(F.sum(F.when(holds, 1).otherwise(0)).alias(f"_rows_{column.name}"))
            found.append(F.min(F.when(holds, place)).alias(f"_place_{column.name}"))
    return rows.groupBy(PARTITION_COLUMN).agg(F.count(F.lit(1)).alias("_rows"), *found)


def _is_unstorable(value: Column, kind: str) -> Column | None:
    """Whether Postgres refuses a value; None where it takes all of a type."""
    if kind == "string":
        return value.contains("\0") | (F.octet_length(value) > identifiers.LONGEST_TEXT_BYTES)
    if kind == "date":
        return ~F.unix_date(value).between(identifiers.FIRST_DAY, identifiers.LAST_DAY)
    if kind in ("timestamp", "timestamptz"):
        return F.unix_micros(value.cast("timestamp")) < identifiers.FIRST_MICROSECOND
    return None


def repeated_keys(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    """Per partition day: `rows`, distinct natural `keys` and, if repeats are dropped, `contents`.

    The day has something to drop where one of both is smaller than `rows`. Counted by 64-bit
    hashes: a collision can only cause a needless look.
    """
    counts = [
        F.count(F.lit(1)).alias("rows"),
        F.countDistinct(_key_hash(entity)).alias("keys"),
    ]
    if entity.duplicates == "drop":
        contents = parse.row_hash([(F.col(c.name), c.type) for c in entity.columns])
        counts.append(F.countDistinct(contents).alias("contents"))
    return rows.groupBy(PARTITION_COLUMN).agg(*counts)


def without_duplicates(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    """Of the rows of one day that agree in every column, the first by source order."""
    contents = [PARTITION_COLUMN, *(column.name for column in entity.columns)]
    first = Window.partitionBy(*contents).orderBy(*(F.col(c).asc() for c in SOURCE_ORDER))
    ranked = rows.withColumn("_rank", F.row_number().over(first))
    return ranked.where("_rank = 1").drop("_rank")


def latest_rows(
    rows: DataFrame, entity: EntityConfig, source_order: Sequence[str] = ()
) -> DataFrame:
    """Of the rows of one natural key on one day, the latest by source order.

    Args:
        rows: Good rows.
        entity: Its key.
        source_order: Columns that come before a row's place: the largest is the latest.

    Only keys that do repeat go through the window: sorting all rows took 1.5 times as long and
    more memory than finding the few that repeat.
    """
    key = [PARTITION_COLUMN, *entity.key]
    repeated = rows.groupBy(*key).agg(F.count(F.lit(1)).alias("_n")).where("_n > 1").drop("_n")
    order = (F.col(name).desc_nulls_last() for name in (*source_order, *SOURCE_ORDER))
    latest_first = Window.partitionBy(*key).orderBy(*order)
    settled = (
        rows.join(repeated, key, "left_semi")
        .withColumn("_rank", F.row_number().over(latest_first))
        .where("_rank = 1")
        .drop("_rank")
    )
    return rows.join(repeated, key, "left_anti").unionByName(settled)


_CORRUPT = ("_corrupt_record", "_corrupt_reason")
_GIVEN = "_given_"
_ABSENT = "_absent_"


def _typed_where(
    raw: DataFrame, entity: EntityConfig, condition: Column, more: Sequence[Column] = ()
) -> DataFrame:
    carried = [*map(F.col, _CORRUPT), *_lineage(), F.col(PARTITION_COLUMN)]
    columns = [*_typed_columns(entity), *more, *carried]
    return parse.select_where(raw, columns, condition)


def _typed_columns(entity: EntityConfig) -> list[Column]:
    typed = [_typed(column, entity).alias(column.name) for column in entity.columns]
    given = [
        _given(column, entity).alias(_GIVEN + column.name)
        for column in entity.columns
        if column.type != "string"
    ]
    absent = [
        (_is_absent(column) & _may_be_absent(column, entity)).alias(_ABSENT + column.name)
        for column in _excusable(entity)
    ]
    return [*typed, *given, *absent]


def _typed(column: ColumnConfig, entity: EntityConfig) -> Column:
    text = normalized(_text(column, entity), entity.forms_of(column))
    value = parse.parse_declared(column, text, entity.timezone)
    if column.default is None:
        return value
    default = parse.cast_to(F.lit(column.default), column.type, "string")
    return F.when(_is_absent(column), default).otherwise(value)


def _given(column: ColumnConfig, entity: EntityConfig) -> Column:
    given = parse.is_given(_text(column, entity))
    return given if column.default is None else given | _is_absent(column)


def _is_absent(column: ColumnConfig) -> Column:
    """Whether the row's file lacks the column; never NULL. Raw has a text of all others."""
    return F.col(column.name).isNull() & F.col("_corrupt_record").isNull()


def _may_be_absent(column: ColumnConfig, entity: EntityConfig) -> Column:
    may = F.lit(column.optional)
    if column.since is not None:
        may = may | (_day(entity) < F.lit(column.since))
    if column.until is not None:
        may = may | (_day(entity) >= F.lit(column.until))
    return may


def _day(entity: EntityConfig) -> Column:
    """The day of a row, or of the first one of its partition where only files say the day."""
    if entity.grain == Grain.DAY or entity.day_column is None:
        return F.col(PARTITION_COLUMN)
    column = entity.column(entity.day_column)
    day = day_of(_typed(column, entity), column.type, entity.timezone)
    return F.coalesce(day, F.col(PARTITION_COLUMN))


def _excusable(entity: EntityConfig) -> list[ColumnConfig]:
    """Required columns that are NULL in rows of days whose files may lack them."""
    return [c for c in entity.columns if c.required and not c.has_always_a_value]


def _unparsed(entity: EntityConfig) -> list[str]:
    given = [_GIVEN + column.name for column in entity.columns if column.type != "string"]
    return [*given, *(_ABSENT + column.name for column in _excusable(entity))]


def _belongs(entity: EntityConfig) -> Column:
    """True for a row of the entity, and for one of which it cannot be said; never NULL."""
    if entity.where is None:
        return F.lit(True)
    is_one = F.coalesce(F.expr(f"({entity.where})"), F.lit(False))
    return is_one | any_holds(_unreadable(entity))


def _unreadable(entity: EntityConfig) -> list[Objection]:
    values = [_misread(column) for column in entity.columns if column.type != "string"]
    return [_not_a_row(), *values]


def _not_a_row() -> Objection:
    return Objection("not a row", F.col("_corrupt_record").isNotNull())


def _misread(column: ColumnConfig) -> Objection:
    is_lost = F.col(_GIVEN + column.name) & F.col(column.name).isNull()
    article = "an" if column.type.startswith("int") else "a"
    return Objection(f"{column.name}: not {article} {column.type}", is_lost, column.name)


def _explained(objection: Objection, entity: EntityConfig) -> Iterator[Objection]:
    """The objection, apart from texts that are no value for one reason only: too many places."""
    column = next((c for c in entity.columns if c.name == objection.unreadable), None)
    surplus = parse.surplus_places(column) if column else None
    if column is None or surplus is None:
        yield objection
        return
    why, pattern = surplus
    has_more = F.coalesce(F.col(f"_text_{column.name}").rlike(pattern), F.lit(False))
    yield Objection(f"{column.name}: {why}", objection.holds & has_more)
    yield Objection(objection.reason, objection.holds & ~has_more)


def _objections(entity: EntityConfig) -> list[Objection]:
    found = [_not_a_row()]
    required = {*entity.key, *(c.name for c in entity.columns if c.required)}
    for column in entity.columns:
        is_text = column.type == "string"
        if not is_text:
            found.append(_misread(column))
        if column.name in required:
            absent = F.col(column.name).isNull() if is_text else ~F.col(_GIVEN + column.name)
            if column in _excusable(entity):
                absent = absent & ~F.col(_ABSENT + column.name)
            found.append(Objection(f"{column.name}: missing", absent))
    return [*found, *_misplaced(entity), *declared_objections(entity.rules)]


def _is_good(entity: EntityConfig) -> Column:
    """That none of `_objections` holds, in fewer steps: never NULL.

    A required value that is there was given and could be read: one look instead of two. That both
    say the same is judged in every run, by the check `row_balance`.
    """
    required = {*entity.key, *(c.name for c in entity.columns if c.required)}
    good = ~_not_a_row().holds
    for column in entity.columns:
        value = F.col(column.name)
        if column in _excusable(entity):
            good = good & (value.isNotNull() | F.col(_ABSENT + column.name))
        elif column.name in required:
            good = good & value.isNotNull()
        elif column.type != "string":
            good = good & (value.isNotNull() | ~F.col(_GIVEN + column.name))
    return good & ~any_holds([*_misplaced(entity), *declared_objections(entity.rules)])


def _misplaced(entity: EntityConfig) -> list[Objection]:
    column = entity.day_column
    if column is None:
        return []
    kind = entity.column(column).type
    day = day_of(F.col(column), kind, entity.timezone)
    if entity.grain == Grain.NONE:
        return []
    start = day if entity.grain == Grain.DAY else F.trunc(day, entity.grain)
    outside = F.coalesce(start != F.col(PARTITION_COLUMN), F.lit(False))
    zone = f" in {entity.timezone or 'UTC'}" if kind == "timestamptz" else ""
    return [Objection(f"{column}: not on the partition's {entity.grain}{zone}", outside)]


def _text(column: ColumnConfig, entity: EntityConfig) -> Column:
    null_texts = (*entity.extract.format.null_texts, *column.null_texts)
    text = F.col(column.name)
    return F.when(~F.trim(text).isin(*null_texts), text) if null_texts else text


def _lineage() -> list[Column]:
    return [F.col(column.name) for column in _LINEAGE]


def _audit(stamp: RunStamp) -> list[Column]:
    return [
        F.lit(stamp.started_at).cast("timestamp").alias("_processed_at"),
        F.lit(stamp.run_id).alias("_run_id"),
        F.lit(stamp.code_version).alias("_code_version"),
        F.col(PARTITION_COLUMN),
    ]


def _output(entity: EntityConfig, stamp: RunStamp) -> list[Column]:
    typed = [parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in entity.columns]
    return [*typed, *_lineage(), *_audit(stamp)]


def _key_hash(entity: EntityConfig) -> Column:
    return parse.hash_key(
        [(F.col(name), entity.processed_column(name).type) for name in entity.key]
    )


def _transformed(rows: DataFrame, entity: EntityConfig) -> DataFrame:
    if entity.transform is None:
        return rows
    composed = {
        c.name: pushdown_barrier(F.col(c.name)) for c in entity.columns if entity.forms_of(c)
    }
    return load_transform(entity.transform)(rows.withColumns(composed) if composed else rows)


def load_transform(reference: str) -> Callable[[DataFrame], DataFrame]:
    """The user's function behind `package.module:function`.

    Raises:
        ConfigError: There is no such module or function.
    """
    module, _, name = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        # Importing runs the user's module, which may raise anything.
        raise ConfigError(
            f"transform '{reference}': {type(error).__name__}: {error}",
            fix="name an importable package.module:function",
        ) from error
    if not callable(found):
        raise ConfigError(f"transform '{reference}' is no function", fix="name a function")
    return cast(Callable[[DataFrame], DataFrame], found)
