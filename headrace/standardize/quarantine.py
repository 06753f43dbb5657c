"""Quarantine: the rules that a typed row may break, and the captured text of rows that do so."""

from collections.abc import Iterator, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.columns import ColumnConfig
from headrace.config.entities.entity import EntityConfig
from headrace.engine import functions as parse
from headrace.engine.values.times import day_of
from headrace.engine.values.types import sql_type
from headrace.grain import Grain
from headrace.quality import registry
from headrace.quality.rules import Violation, any_holds, declared_violations, reasons
from headrace.schema import PARTITION_COLUMN
from headrace.standardize.calculated_columns import FAULTS, fault_column, with_calculated
from headrace.standardize.looked_up_columns import missing_references
from headrace.standardize.schemas import RunStamp, audit_columns, lineage_columns
from headrace.standardize.typed_columns import (
    captured_text,
    conditionally_required,
    is_absent_column,
    is_given,
    parsed_value,
    typed_where,
)


def quarantined_rows(raw: DataFrame, entity: EntityConfig, stamp: RunStamp) -> DataFrame:
    """The captured text of rows that break a rule, with every rule that they break."""
    names = [column.name for column in entity.columns]
    text = [captured_text(c, entity).alias(f"_text_{c.name}") for c in entity.columns]
    is_broken = is_of_entity(entity) & any_holds(_violations(entity))
    broken = typed_where(raw, entity, is_broken, text)
    # A record without columns breaks every other rule, too; only the parser's reason is useful.
    why = F.when(F.col("_corrupt_record").isNotNull(), F.col("_corrupt_reason")).otherwise(
        reasons([v for violation in _violations(entity) for v in _by_cause(violation, entity)])
    )
    shown = [F.col(f"_text_{name}").alias(name) for name in names]
    return broken.select(
        why.alias("_reasons"), *shown, "_corrupt_record", *lineage_columns(), *audit_columns(stamp)
    )


def typed_values(quarantined: DataFrame, names: Sequence[str], entity: EntityConfig) -> DataFrame:
    """Some columns of quarantined rows, typed (NULL where they do not parse), and their day."""
    typed = [
        parse.cast_to(parsed_value(column, entity), column.type).alias(column.name)
        for column in entity.columns
        if entity.calculated or column.name in names
    ]
    # Quarantined rows are not looked up again.
    typed += [F.lit(None).cast(sql_type(c.type)).alias(c.name) for c in entity.looked_up]
    rows = quarantined.select(*typed, *lineage_columns(), PARTITION_COLUMN)
    return with_calculated(rows, entity).select(*names, PARTITION_COLUMN)


def is_of_entity(entity: EntityConfig) -> Column:
    """Whether a typed row meets the entity's `where`; never NULL.

    A row that does not parse counts as one of the entity: it is quarantined instead of left out.
    """
    if entity.where is None:
        return F.lit(True)
    meets_where = F.coalesce(F.expr(f"({entity.where})"), F.lit(False))
    return meets_where | any_holds(_unreadable(entity))


def is_good(entity: EntityConfig) -> Column:
    """Whether a typed row breaks no rule; never NULL. Equals `not any_holds(_violations)`.

    It has fewer terms: a required value that is not NULL was given and parsed. The check
    `row_balance` compares both in every run.
    """
    required = _required(entity)
    good = ~_not_a_row().holds
    for column in entity.columns:
        value = F.col(column.name)
        if column in conditionally_required(entity):
            good = good & (value.isNotNull() | is_absent_column(column))
        elif column.name in required:
            good = good & value.isNotNull()
        elif column.type != "string":
            good = good & (value.isNotNull() | ~is_given(column))
    violations = [
        *missing_references(entity),
        *_failed_calculations(entity),
        *_misplaced(entity),
    ]
    return good & ~any_holds([*violations, *declared_violations(entity.rules)])


def _violations(entity: EntityConfig) -> list[Violation]:
    found = [_not_a_row()]
    required = _required(entity)
    for column in entity.columns:
        is_text = column.type == "string"
        if not is_text:
            found.append(_unparsable(column))
        if column.name in required:
            absent = F.col(column.name).isNull() if is_text else ~is_given(column)
            if column in conditionally_required(entity):
                absent = absent & ~is_absent_column(column)
            reason = registry.MISSING_VALUE.reason(column=column.name)
            found.append(Violation(registry.MISSING_VALUE, reason, absent))
    found += [*missing_references(entity), *_failed_calculations(entity)]
    return [*found, *_misplaced(entity), *declared_violations(entity.rules)]


def _failed_calculations(entity: EntityConfig) -> list[Violation]:
    """Faults of calculated columns, and required ones without a value."""
    check, found = registry.FAILED_CALCULATION, []
    for column in entity.calculated:
        fault = F.col(fault_column(column.name))
        for why, reason in zip(FAULTS, check.reasons, strict=True):
            holds = F.coalesce(fault == why, F.lit(False))
            found.append(Violation(check, reason.format(column=column.name), holds))
        if column.required:
            reason = registry.MISSING_VALUE.reason(column=column.name)
            is_missing = F.col(column.name).isNull() & fault.isNull()
            found.append(Violation(registry.MISSING_VALUE, reason, is_missing))
    return found


def _required(entity: EntityConfig) -> set[str]:
    return {*entity.key, *(c.name for c in entity.columns if c.required)}


def _unreadable(entity: EntityConfig) -> list[Violation]:
    values = [_unparsable(column) for column in entity.columns if column.type != "string"]
    return [_not_a_row(), *values]


def _not_a_row() -> Violation:
    return Violation(
        registry.NOT_A_ROW, registry.NOT_A_ROW.reason(), F.col("_corrupt_record").isNotNull()
    )


def _unparsable(column: ColumnConfig) -> Violation:
    is_lost = is_given(column) & F.col(column.name).isNull()
    article = "an" if column.type.startswith("int") else "a"
    check = registry.UNREADABLE_VALUE
    reason = check.reason(column=column.name, article=article, type=column.type)
    return Violation(check, reason, is_lost, column.name)


def _by_cause(violation: Violation, entity: EntityConfig) -> Iterator[Violation]:
    """The violation; of unreadable text, a separate one for values with only surplus places."""
    column = next((c for c in entity.columns if c.name == violation.unreadable), None)
    surplus = parse.surplus_places(column) if column else None
    if column is None or surplus is None:
        yield violation
        return
    why, pattern = surplus
    has_more = F.coalesce(F.col(f"_text_{column.name}").rlike(pattern), F.lit(False))
    reason = registry.SURPLUS_PLACES.reason(column=column.name, surplus=why)
    yield Violation(registry.SURPLUS_PLACES, reason, violation.holds & has_more)
    yield Violation(violation.check, violation.reason, violation.holds & ~has_more)


def _misplaced(entity: EntityConfig) -> list[Violation]:
    column = entity.day_column
    if column is None or entity.grain == Grain.NONE:
        return []
    kind = entity.column(column).type
    day = day_of(F.col(column), kind, entity.timezone)
    start = day if entity.grain == Grain.DAY else F.trunc(day, entity.grain)
    outside = F.coalesce(start != F.col(PARTITION_COLUMN), F.lit(False))
    zone = f" in {entity.timezone or 'UTC'}" if kind == "timestamptz" else ""
    reason = registry.MISPLACED_ROW.reason(column=column, grain=entity.grain, zone=zone)
    return [Violation(registry.MISPLACED_ROW, reason, outside)]
