"""Control totals of a day: its number of rows and the sum of each measure, exact on every side.

Belongs here: sums that cannot overflow, by the engine and by Arrow, and adding them up.
Elsewhere: comparing the totals of two layers (headrace.quality.partitions); Postgres, whose sums
of bigint and numeric are numerics without a limit.

A sum of bigints wraps in Sail and Arrow, and fails in Spark; so does one of decimals of 38 digits.
"""

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal

import pyarrow as pa
from pyspark.sql import Column, Row
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from headrace.quality.partitions import ROWS
from headrace.schema import TableSchema, decimal_parts

Totals = Mapping[str, Decimal]

# Engines add ten digits to a decimal's for its sum, and have 38.
_DIGITS_WITH_ROOM = 28
_LONG_DIGITS = 20
# A decimal of 38 digits has a point, too, and a zero before it where all digits come after.
_HALF = 20
# Python's own context rounds to 28 digits.
_EXACT = Context(prec=200)


def plus(one: Totals, other: Totals) -> Totals:
    """The totals of both."""
    zero = Decimal(0)
    names = {**one, **other}
    return {name: _EXACT.add(one.get(name, zero), other.get(name, zero)) for name in names}


def exact_measures(measures: Sequence[str], schema: TableSchema) -> list[str]:
    """The measures whose sums are a proof: those of doubles depend on the order of addition."""
    return [name for name in measures if schema.column(name).type != "double"]


def engine_sums(measures: Sequence[str], schema: TableSchema) -> list[Column]:
    """Aggregates of a frame; `totals_of` reads them.

    Args:
        measures: Integers and decimals of the frame.
        schema: Their types.
    """
    found = [F.count(F.lit(1)).alias(ROWS)]
    for name in measures:
        column, kind = F.col(name), schema.column(name).type
        if (parts := decimal_parts(kind)) is None:
            found.append(F.sum(column.cast(f"decimal({_LONG_DIGITS},0)")).alias(name))
        elif parts[0] <= _DIGITS_WITH_ROOM:
            found.append(F.sum(column).alias(name))
        else:
            halves = enumerate(_halves(name, kind))
            found += [F.sum(half).alias(f"_{n}_{name}") for n, half in halves]
    return found


def totals_of(row: Row, measures: Sequence[str], schema: TableSchema) -> Totals:
    """The totals that `engine_sums` gave; a sum of nothing but NULLs is 0."""
    found = {ROWS: Decimal(row[ROWS])}
    for name in measures:
        parts = decimal_parts(schema.column(name).type)
        if parts is None or parts[0] <= _DIGITS_WITH_ROOM:
            found[name] = Decimal(row[name] or 0)
        else:
            high, low = (Decimal(row[f"_{n}_{name}"] or 0) for n in range(2))
            whole = _EXACT.add(_EXACT.scaleb(high, _HALF), low)
            found[name] = _EXACT.scaleb(whole, -parts[1])
    return found


def summable(column: pa.Array) -> pa.Array:
    """The column in a type of Arrow whose sum has room."""
    kind = column.type
    if pa.types.is_int64(kind):
        return column.cast(pa.decimal128(38, 0))
    if pa.types.is_decimal128(kind) and kind.precision > _DIGITS_WITH_ROOM:
        return column.cast(pa.decimal256(76, kind.scale))
    return column


def _halves(name: str, kind: str) -> list[Column]:
    """A decimal's digits without its point, cut in two numbers of its sign."""
    text = parse.canonical_text(F.col(name), kind)
    digits = F.lpad(F.translate(text, "-.", ""), 2 * _HALF, "0")
    # Not `< 0`: Spark compares in a type that has too few places for the smallest values.
    sign = F.when(F.startswith(text, F.lit("-")), F.lit("-")).otherwise(F.lit(""))
    return [
        F.concat(sign, F.substring(digits, start, _HALF)).cast(f"decimal({_HALF},0)")
        for start in (1, _HALF + 1)
    ]
