r"""What data means, the same on Sail and on Spark: parsing, casting, rounding, hashing.

All are expressions, no Python runs per row. Text that does not parse gives NULL; `given` tells it
from text that was never there. Three rules keep the engines equal:

- `try_cast`, never `cast`, from text: Sail takes a cast column's minimum and maximum from the
  statistics of the text (min('5', '1000002') = 1000002: apache/datafusion#25221).
- Digits are `[0-9]`: Rust's \d takes those of every script, Spark's BigDecimal does too.
- Only what has been trimmed here is cast: the engines do not agree on what a blank is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.engine import time_patterns
from headrace.engine.numbers import (
    BLANKS,
    LARGEST_DOUBLE,
    NUMBER,
    NumberMarks,
    decimal_of_double,
    decimal_of_text,
    plain_number,
)
from headrace.engine.time_patterns import compile_patterns
from headrace.engine.times import instant_of_local, time_of_text
from headrace.engine.types import sql_type
from headrace.errors import ConfigError
from headrace.schema import arrow_type, decimal_parts

TRUE_TEXTS = ("true", "t", "yes", "y", "1")
FALSE_TEXTS = ("false", "f", "no", "n", "0")

_NO_MARKS = NumberMarks()
_LARGEST_LONG = 2**63 - 1
_CHANCE = "_chance"
# Beyond this precision Sail and Spark hash a decimal differently.
_LONG_DECIMAL = 18
# With these, no step of a division has more than 38 digits.
_OPERAND = "decimal(20,6)"
_MAX_QUOTIENT_SCALE = 6


class Declared(Protocol):
    """What a configured column says of the text that it is parsed from."""

    @property
    def type(self) -> str:
        """One of our types."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Patterns of a date or timestamp."""

    @property
    def pivot(self) -> int | None:
        """First of the hundred years that two digits stand for."""

    @property
    def round(self) -> Literal["half_up", "down"] | None:
        """What becomes of more places than the type has; None: the value is not read."""

    @property
    def decimal_mark(self) -> Literal[".", ","] | None:
        """As of NumberMarks, like the next three."""

    @property
    def grouping(self) -> str:
        """The mark between groups of digits; '' for none."""

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Digits of the groups, from the right."""

    @property
    def currency(self) -> str:
        """The currency sign to drop; '' for none."""


def parse_declared(declared: Declared, column: Column, timezone: str | None = None) -> Column:
    """Parse text into the type and by the options that a column declares.

    Args:
        declared: Type and options.
        column: Text.
        timezone: Zone of instants whose text names none; None: UTC.

    Raises:
        ConfigError: A list cannot be parsed from text, or a date pattern is not known.
    """
    match declared.type:
        case "string" | "boolean" as kind:
            return _WITHOUT_OPTIONS[kind](column)
        case "int" | "bigint" as kind:
            return parse_integer(column, kind, marks_of(declared))
        case "double":
            return parse_double(column, marks_of(declared))
        case "date" | "timestamp" | "timestamptz":
            return parse_time_as(declared, column, timezone)
        case _:
            return parse_decimal_as(declared, column)


def parse_time_as(declared: Declared, column: Column, timezone: str | None = None) -> Column:
    """Parse a date or a time by the options that its column declares."""
    formats, pivot, cuts = declared.formats, declared.pivot, declared.round == "down"
    match declared.type:
        case "date":
            return parse_date(column, formats, pivot=pivot, cuts=cuts)
        case "timestamptz":
            return parse_instant(column, formats, timezone, pivot=pivot, cuts=cuts)
        case _:
            return parse_timestamp(column, formats, pivot=pivot, cuts=cuts)


def marks_of(declared: Declared) -> NumberMarks:
    """What a column declares of its numbers."""
    return NumberMarks(
        declared.decimal_mark, declared.grouping, declared.group_sizes, declared.currency
    )


def surplus_places(declared: Declared) -> tuple[str, str] | None:
    """What to say of texts that have more places than the type, and the pattern that finds them.

    None where the type has no places, or more of them are rounded.
    """
    if declared.round is not None:
        return None
    if declared.type in {"timestamp", "timestamptz"}:
        return "parts of a microsecond", r":[0-9]{2}\.[0-9]{6}[0-9]*[1-9]"
    if not (parts := decimal_parts(declared.type)):
        return None
    marks = marks_of(declared)
    around = r"[^0-9]*" if marks.currency else f"[{BLANKS}]*"
    digits = f"[0-9{re.escape(marks.grouping)}]*" if marks.grouping else "[0-9]*"
    places = rf"{re.escape(marks.point)}[0-9]{{{parts[1]}}}[0-9]*[1-9][0-9]*"
    return f"more than {parts[1]} places", rf"^{around}[+-]?{digits}{places}{around}\z"


def parse_decimal_as(declared: Declared, column: Column) -> Column:
    """Parse a decimal by the options that its column declares.

    Raises:
        ConfigError: The declared type is no decimal.
    """
    parts = decimal_parts(declared.type)
    if parts is None:
        raise ConfigError(
            f"'{declared.type}' cannot be parsed from one text", fix="declare the column a string"
        )
    return parse_decimal(column, *parts, marks_of(declared), rounds=declared.round == "half_up")


def select_where(rows: DataFrame, columns: Sequence[Column], condition: Column) -> DataFrame:
    """Compute `columns`, then keep the rows for which `condition` on them is true.

    As `select` and `where`, but every column is computed once: engines push a condition below the
    projection that it reads, and repeat the projection's expressions in it, for each mention.
    Parsing a year's sales took three times as long, and planning the query as well.
    """
    # Neither engine pushes a condition below a projection with a random column that it reads. The
    # column is the outcome of the `when`: as its condition, Sail would take the rest apart.
    chance = F.when(condition, F.col(_CHANCE)).otherwise(F.lit(-1.0)) >= F.lit(0.0)
    return rows.select(*columns, F.rand().alias(_CHANCE)).where(chance).drop(_CHANCE)


def given(column: Column) -> Column:
    """Whether the source gave a value: not NULL and not blank. Never NULL."""
    return F.coalesce(F.length(_trimmed(column)) > 0, F.lit(False))


def parse_text(column: Column, *, trim: bool = True, empty_as_null: bool = True) -> Column:
    """The text without the blanks around it; NULL if nothing is left."""
    text = _trimmed(column) if trim else column
    return F.nullif(text, F.lit("")) if empty_as_null else text


def parse_integer(
    column: Column,
    type_name: Literal["int", "bigint"] = "bigint",
    marks: NumberMarks = _NO_MARKS,
) -> Column:
    """A whole number; `12.0`, as pandas writes integers with gaps, is 12. Overflow gives NULL.

    So does `1.000`, which is one to some programs and a thousand to others, unless `marks` tell
    what stands between thousands.
    """
    text = plain_number(_trimmed(column), marks)
    zeros = "0*" if marks.grouping else "(?:0{0,2}|0{4,})"
    whole = F.when(text.rlike(rf"^[+-]?[0-9]+\.{zeros}\z"), F.substring_index(text, ".", 1))
    return F.coalesce(text.try_cast(type_name), whole.try_cast(type_name))


def parse_decimal(
    column: Column,
    precision: int,
    scale: int,
    marks: NumberMarks = _NO_MARKS,
    *,
    rounds: bool = False,
) -> Column:
    """An exact number; overflow gives NULL, and so do more places than `scale`.

    Zeros are no places: `1.500` is 1.50. Never by way of a double: rounded, `1.005` is 1.01.

    Args:
        column: Text such as `1234.5`, `-.5` or `12e-1`.
        precision: Digits in all.
        scale: Digits after the point.
        marks: What the source writes into its numbers.
        rounds: Whether more places are rounded, half a unit of the last one away from zero.
    """
    text = plain_number(_trimmed(column), marks)
    return decimal_of_text(text, precision, scale, rounds=rounds)


def parse_double(column: Column, marks: NumberMarks = _NO_MARKS) -> Column:
    """A finite double. NaN, infinities and numbers too large or small for one give NULL."""
    text = plain_number(_trimmed(column), marks)
    value = F.when(text.rlike(NUMBER), text.try_cast("double"))
    # One zero: -0.0 would be another key. 1e-400 is none, but too small for a double.
    zero = F.when(~text.rlike("^[^eE]*[1-9]"), F.lit(0.0))
    return F.when(value == 0, zero).when(F.abs(value) <= LARGEST_DOUBLE, value)


def parse_boolean(
    column: Column,
    true_texts: Sequence[str] = TRUE_TEXTS,
    false_texts: Sequence[str] = FALSE_TEXTS,
) -> Column:
    """True or false, in any case; all other texts give NULL."""
    text = F.lower(_trimmed(column))
    is_true, is_false = text.isin(*true_texts), text.isin(*false_texts)
    return F.when(is_true, F.lit(True)).when(is_false, F.lit(False))


def parse_date(
    column: Column, formats: Sequence[str] = (), *, pivot: int | None = None, cuts: bool = False
) -> Column:
    """A day by the first pattern that fits, or `yyyy-M-d`; NULL for a 30th of February."""
    patterns = compile_patterns(
        tuple(formats) or time_patterns.ISO_DATE, zone=False, pivot=pivot, cuts=cuts
    )
    return time_of_text(_trimmed(column), patterns, "timestamp").cast("date")


def parse_timestamp(
    column: Column, formats: Sequence[str] = (), *, pivot: int | None = None, cuts: bool = False
) -> Column:
    """A time by the first pattern that fits, or ISO 8601; parts of a microsecond give NULL.

    It has no zone: text with one gives NULL.

    Args:
        column: Text.
        formats: Patterns as headrace.engine.time_patterns lists them.
        pivot: First of the hundred years that two digits stand for.
        cuts: Whether parts of a microsecond are cut.

    Raises:
        ConfigError: A pattern is not of the subset that headrace.engine.time_patterns lists.
    """
    given = tuple(formats) or time_patterns.ISO_TIMESTAMP
    patterns = compile_patterns(given, zone=False, pivot=pivot, cuts=cuts)
    return time_of_text(_trimmed(column), patterns, "timestamp")


def parse_instant(
    column: Column,
    formats: Sequence[str] = (),
    timezone: str | None = None,
    *,
    pivot: int | None = None,
    cuts: bool = False,
) -> Column:
    """An instant by the first pattern that fits, or ISO 8601; as `parse_timestamp` otherwise.

    Text without an offset is local time of `timezone`, and NULL if clocks there never show it.
    """
    given = tuple(formats) or time_patterns.ISO_TIMESTAMPTZ
    patterns = compile_patterns(given, zone=True, pivot=pivot, cuts=cuts)
    text = _trimmed(column)
    if timezone is None:
        return time_of_text(text, patterns, "timestamptz")
    zoned = [pattern for pattern in patterns if "zone" in pattern.parts]
    local = [pattern for pattern in patterns if pattern not in zoned]
    found = [time_of_text(text, zoned, "timestamptz")] if zoned else []
    if local:
        found.append(instant_of_local(time_of_text(text, local, "timestamp"), timezone))
    return F.coalesce(*found)


def cast_to(column: Column, type_name: str, source: str | None = None) -> Column:
    """The value in another of our types; NULL where it does not fit.

    Integers and decimals round as `round_half_up` towards decimals and are cut towards integers.

    Args:
        column: Any value of ours.
        type_name: The type to reach.
        source: The type it has. Needed from text and doubles, which the engines cast differently.
    """
    if type_name == source == "string":
        return column
    if type_name == "string" and source is not None:
        return canonical_text(column, source)
    parts = decimal_parts(type_name)
    if parts and source == "double":
        return decimal_of_double(column, *parts)
    if source == "string":
        return parse_declared(_Plain(type_name), column)
    return column.try_cast(sql_type(type_name))


def round_half_up(column: Column, precision: int, scale: int) -> Column:
    """A decimal with fewer digits, half a unit rounded away from zero; overflow gives NULL."""
    return column.try_cast(f"decimal({precision},{scale})")


def divide_decimal(dividend: Column, divisor: Column, precision: int, scale: int) -> Column:
    """The exact quotient of two decimals, rounded half away from zero; NULL by zero.

    The engines give quotients different scales, and one cuts where the other rounds. Here the
    remainder decides, which both compute exactly.

    Args:
        dividend: An integer or a decimal, taken as decimal(20,6); NULL if it does not fit.
        divisor: As `dividend`.
        precision: Digits of the result; overflow gives NULL.
        scale: Digits after the point, 6 at most.

    Raises:
        ConfigError: `scale` is larger than 6.
    """
    if scale > _MAX_QUOTIENT_SCALE:
        raise ConfigError(f"a quotient of scale {scale}", fix=f"use {_MAX_QUOTIENT_SCALE} at most")
    by = F.abs(F.when(divisor != 0, divisor).try_cast(_OPERAND))
    # The literals' types are spelled out: the engines infer the product's from them differently.
    power = F.lit(10**scale).cast(f"decimal({scale + 1},0)")
    units = F.abs(dividend.try_cast(_OPERAND)) * power
    rest = units % by
    whole = ((units - rest) / by).try_cast("decimal(28,0)")
    rounded = (whole + F.when(rest + rest >= by, 1).otherwise(0)).try_cast("decimal(28,0)")
    signed = F.when((dividend < 0) != (divisor < 0), -rounded).otherwise(rounded)
    unit = F.lit(Decimal(1).scaleb(-scale)).cast(f"decimal({scale + 1},{scale})")
    return (signed * unit).try_cast(f"decimal({precision},{scale})")


def canonical_text(column: Column, type_name: str) -> Column:
    """The one text of a value, such as `12.50` or `2017-01-01 08:00:00`; NULL stays NULL.

    Doubles and lists are for hashing and comparing, not for reading: a double is the hash of its
    bits, since the engines print its digits differently; a list is its items, each after its
    length.
    """
    arrow_type(type_name)
    if type_name == "string":
        return column
    if type_name == "double":
        return F.when(column.isNotNull(), F.hex(F.xxhash64(_one_nan(column))))
    if type_name == "list<string>":
        return F.array_join(F.transform(column, _item_text), ",")
    text = column.cast(sql_type(type_name)).cast("string")
    # Concatenated with '', for the statistics of numbers are not those of their texts: the
    # smallest of 2 and 10 would be '2' (apache/datafusion#25532).
    return F.concat(F.lit(""), text)


def hash_key(columns: Sequence[tuple[Column, str]]) -> Column:
    """A surrogate key, 0 to 2^63-1, from typed values; the same on every engine and every run.

    NULL differs from '', and ('a', 'bc') from ('ab', 'c'): each column is hashed on top of the
    hash of those before it, and so is the fact that it is NULL. An `int` and a `bigint` of one
    value give one key; all other changes of type give new keys.

    Args:
        columns: Each column with its type, in an order that is part of the key.
    """
    return row_hash(columns).bitwiseAND(F.lit(_LARGEST_LONG))


def row_hash(columns: Sequence[tuple[Column, str]]) -> Column:
    """As `hash_key`, with all 64 bits: xxHash64 with seed 42, as Spark's."""
    return F.xxhash64(*(part for column in columns for part in _hashable(*column)))


_WITHOUT_OPTIONS: Mapping[str, Callable[[Column], Column]] = {
    "string": parse_text,
    "boolean": parse_boolean,
}


class _Plain:
    formats: tuple[str, ...] = ()
    pivot: int | None = None
    round: Literal["half_up", "down"] | None = "half_up"
    decimal_mark: Literal[".", ","] | None = None
    group_sizes: tuple[int, ...] = (3,)
    grouping = currency = ""

    def __init__(self, type_name: str) -> None:
        self.type = type_name


def _trimmed(column: Column) -> Column:
    return F.trim(column, F.lit(BLANKS))


def _item_text(item: Column) -> Column:
    # An item is told from NULL, and from two items, by its length before it.
    return F.coalesce(F.concat(F.length(item).cast("string"), F.lit(":"), item), F.lit("N"))


def _one_nan(column: Column) -> Column:
    # There are many; Sail hashes the bits as they are.
    return F.when(F.isnan(column), F.lit(float("nan"))).otherwise(column)


def _hashable(column: Column, type_name: str) -> tuple[Column, Column]:
    """What is hashed of a value: the value, in a form of one width, and whether it is NULL."""
    parts = decimal_parts(type_name)
    if type_name == "list<string>" or (parts and parts[0] > _LONG_DECIMAL):
        value = canonical_text(column, type_name)
    elif type_name == "double":
        value = _one_nan(column.cast("double"))
    else:
        # Readers of Parquet may give a narrower or finer type than ours, which hashes differently.
        value = column.cast("bigint" if type_name == "int" else sql_type(type_name))
    return value, F.isnull(column)
