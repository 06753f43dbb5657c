r"""Column expressions with the same result on Sail and on Spark: parsing, casting, hashing.

Text that does not parse gives NULL; `is_given` distinguishes it from missing text. Three rules
keep the engines equal:

- `try_cast`, never `cast`, from text: Sail takes minimum and maximum of a cast column from the
  statistics of the text (min('5', '1000002') = 1000002: apache/datafusion#25221).
- Digits are `[0-9]`: Rust's \d and Spark's BigDecimal accept digits of every script.
- Text is trimmed here before it is cast: the engines differ in what they treat as blank.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace import time_patterns
from headrace.engine.values.numbers import (
    BLANKS,
    LARGEST_DOUBLE,
    NUMBER,
    NumberMarks,
    decimal_of_double,
    decimal_of_text,
    plain_number,
)
from headrace.engine.values.times import (
    USUAL_CHANGES,
    ClockChanges,
    instant_of_local,
    time_of_text,
)
from headrace.engine.values.types import sql_type
from headrace.errors import ConfigError
from headrace.schema import arrow_type, decimal_parts
from headrace.time_patterns import compile_patterns

TRUE_TEXTS = ("true", "t", "yes", "y", "1")
FALSE_TEXTS = ("false", "f", "no", "n", "0")

_NO_MARKS = NumberMarks()
_LARGEST_LONG = 2**63 - 1
_CHANCE = "_chance"
# Beyond this precision Sail and Spark hash a decimal differently.
_LONG_DECIMAL = 18


class ParseOptions(Protocol):
    """Type and parsing options of a configured column."""

    @property
    def type(self) -> str:
        """A logical type."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Patterns of a date or timestamp."""

    @property
    def pivot(self) -> int | None:
        """First of the hundred years of a two-digit year."""

    @property
    def round(self) -> Literal["half_up", "down"] | None:
        """How to treat more places than the type has; None: the value does not parse."""

    @property
    def ambiguous(self) -> Literal["earlier", "later", "quarantine"]:
        """See ClockChanges, as for the next one."""

    @property
    def nonexistent(self) -> Literal["quarantine", "shift_forward"]:
        """The instant of a local time that clocks never show."""

    @property
    def decimal_mark(self) -> Literal[".", ","] | None:
        """This and the next three: see NumberMarks."""

    @property
    def grouping(self) -> str:
        """Mark between groups of digits; '' for none."""

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Digits of the groups, from the right."""

    @property
    def currency(self) -> str:
        """Currency sign to drop; '' for none."""


def parse_declared(declared: ParseOptions, column: Column, timezone: str | None = None) -> Column:
    """Parse text into the type and by the options that a column declares.

    Args:
        declared: Type and options.
        column: Text.
        timezone: Zone of instants whose text has none; None: UTC.

    Raises:
        ConfigError: The type cannot be parsed from text, or a date pattern is unknown.
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


def parse_time_as(declared: ParseOptions, column: Column, timezone: str | None = None) -> Column:
    """Parse a date or a time by the options that its column declares."""
    formats, pivot, truncates = declared.formats, declared.pivot, declared.round == "down"
    match declared.type:
        case "date":
            return parse_date(column, formats, pivot=pivot, truncates=truncates)
        case "timestamptz":
            changes = ClockChanges(declared.ambiguous, declared.nonexistent)
            return parse_instant(
                column, formats, timezone, pivot=pivot, truncates=truncates, changes=changes
            )
        case _:
            return parse_timestamp(column, formats, pivot=pivot, truncates=truncates)


def marks_of(declared: ParseOptions) -> NumberMarks:
    """The number marks that a column declares."""
    return NumberMarks(
        declared.decimal_mark, declared.grouping, declared.group_sizes, declared.currency
    )


def surplus_places(declared: ParseOptions) -> tuple[str, str] | None:
    """Reason and regular expression for texts with more places than the type has.

    None if the type has no places, or surplus places are rounded.
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


def parse_decimal_as(declared: ParseOptions, column: Column) -> Column:
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

    Like `select` and `where`, but each column is computed once. Engines push a condition below the
    projection and repeat the projection's expressions at each use, with which parsing and planning
    a year of sales takes three times as long.
    """
    # Neither engine pushes a condition below a projection if it reads a random column of it. The
    # random column must be the result of the `when`; Sail would split a condition that has it.
    chance = F.when(condition, F.col(_CHANCE)).otherwise(F.lit(-1.0)) >= F.lit(0.0)
    return rows.select(*columns, F.rand().alias(_CHANCE)).where(chance).drop(_CHANCE)


def is_given(column: Column) -> Column:
    """Whether the source delivered a value: not NULL and not blank. Never NULL."""
    return F.coalesce(F.length(_trimmed(column)) > 0, F.lit(False))


def parse_text(column: Column, *, trim: bool = True, empty_as_null: bool = True) -> Column:
    """The text without leading and trailing blanks; NULL if nothing is left."""
    text = _trimmed(column) if trim else column
    return F.nullif(text, F.lit("")) if empty_as_null else text


def parse_integer(
    column: Column,
    type_name: Literal["int", "bigint"] = "bigint",
    marks: NumberMarks = _NO_MARKS,
) -> Column:
    """A whole number; overflow gives NULL. `12.0` is 12: pandas writes integers so beside NULLs.

    `1.000` is ambiguous (one, or a thousand) and gives NULL unless `marks` declare the grouping.
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
    """An exact decimal; overflow gives NULL, and so do more places than `scale`.

    Trailing zeros do not count as places: `1.500` is 1.50. No step uses a double: `1.005` rounds
    to 1.01.

    Args:
        column: Text such as `1234.5`, `-.5` or `12e-1`.
        precision: Total number of digits.
        scale: Digits after the point.
        marks: Marks of the source's numbers.
        rounds: Whether surplus places are rounded half up, away from zero.
    """
    text = plain_number(_trimmed(column), marks)
    return decimal_of_text(text, precision, scale, rounds=rounds)


def parse_double(column: Column, marks: NumberMarks = _NO_MARKS) -> Column:
    """A finite double. NaN, infinities, overflow and underflow give NULL."""
    text = plain_number(_trimmed(column), marks)
    value = F.when(text.rlike(NUMBER), text.try_cast("double"))
    # -0.0 becomes 0.0, or it would hash to another key. 1e-400 underflows and gives NULL.
    zero = F.when(~text.rlike("^[^eE]*[1-9]"), F.lit(0.0))
    return F.when(value == 0, zero).when(F.abs(value) <= LARGEST_DOUBLE, value)


def parse_boolean(
    column: Column,
    true_texts: Sequence[str] = TRUE_TEXTS,
    false_texts: Sequence[str] = FALSE_TEXTS,
) -> Column:
    """A boolean from one of the texts, case-insensitive; other texts give NULL."""
    text = F.lower(_trimmed(column))
    is_true, is_false = text.isin(*true_texts), text.isin(*false_texts)
    return F.when(is_true, F.lit(True)).when(is_false, F.lit(False))


def parse_date(
    column: Column,
    formats: Sequence[str] = (),
    *,
    pivot: int | None = None,
    truncates: bool = False,
) -> Column:
    """A date by the first pattern that matches, or `yyyy-M-d`; NULL for a 30th of February."""
    patterns = compile_patterns(
        tuple(formats) or time_patterns.ISO_DATE, zone=False, pivot=pivot, truncates=truncates
    )
    return time_of_text(_trimmed(column), patterns, "timestamp").cast("date")


def parse_timestamp(
    column: Column,
    formats: Sequence[str] = (),
    *,
    pivot: int | None = None,
    truncates: bool = False,
) -> Column:
    """A local time by the first pattern that matches, or ISO 8601; text with a zone gives NULL.

    Args:
        column: Text.
        formats: Patterns of the subset in headrace.time_patterns.
        pivot: First of the hundred years of a two-digit year.
        truncates: Whether digits below a microsecond are truncated; else they give NULL.

    Raises:
        ConfigError: A pattern is outside the subset.
    """
    given = tuple(formats) or time_patterns.ISO_TIMESTAMP
    patterns = compile_patterns(given, zone=False, pivot=pivot, truncates=truncates)
    return time_of_text(_trimmed(column), patterns, "timestamp")


def parse_instant(
    column: Column,
    formats: Sequence[str] = (),
    timezone: str | None = None,
    *,
    pivot: int | None = None,
    truncates: bool = False,
    changes: ClockChanges = USUAL_CHANGES,
) -> Column:
    """An instant by the first pattern that matches, or ISO 8601; else like `parse_timestamp`.

    Text without an offset is local time of `timezone`; `changes` applies where clocks change.
    """
    given = tuple(formats) or time_patterns.ISO_TIMESTAMPTZ
    patterns = compile_patterns(given, zone=True, pivot=pivot, truncates=truncates)
    text = _trimmed(column)
    if timezone is None:
        return time_of_text(text, patterns, "timestamptz")
    zoned = [pattern for pattern in patterns if "zone" in pattern.parts]
    local = [pattern for pattern in patterns if pattern not in zoned]
    found = [time_of_text(text, zoned, "timestamptz")] if zoned else []
    if local:
        wall_clock = time_of_text(text, local, "timestamp")
        found.append(instant_of_local(wall_clock, timezone, changes))
    return F.coalesce(*found)


def cast_to(column: Column, type_name: str, source: str | None = None) -> Column:
    """Cast a value to a logical type; NULL where it does not fit.

    To a decimal with fewer places, numbers round half away from zero; to an integer they are
    truncated.

    Args:
        column: A value of a logical type.
        type_name: The target type.
        source: The value's type. Needed for text and doubles, which the engines cast differently.
    """
    if type_name == source == "string":
        return column
    if type_name == "string" and source is not None:
        return canonical_text(column, source)
    parts = decimal_parts(type_name)
    if parts and source == "double":
        return decimal_of_double(column, *parts)
    if source == "string":
        return parse_declared(_DefaultOptions(type_name), column)
    return column.try_cast(sql_type(type_name))


def canonical_text(column: Column, type_name: str) -> Column:
    """The canonical text of a value, such as `12.50` or `2017-01-01 08:00:00`; NULL stays NULL.

    The texts of doubles and lists serve hashing and comparison only: a double is the hash of its
    bits, because the engines print doubles differently; a list is its items with their lengths.
    """
    arrow_type(type_name)
    if type_name == "string":
        return column
    if type_name == "double":
        return F.when(column.isNotNull(), F.hex(F.xxhash64(_one_nan(column))))
    if type_name == "list<string>":
        return F.array_join(F.transform(column, _item_text), ",")
    text = column.cast(sql_type(type_name)).cast("string")
    # Concatenation with '' drops the statistics of the number: the minimum of the texts of 2 and
    # 10 would be '2' (apache/datafusion#25532).
    return F.concat(F.lit(""), text)


def hash_key(columns: Sequence[tuple[Column, str]]) -> Column:
    """A surrogate key from 0 to 2^63-1, the same on every engine and in every run.

    NULL differs from '', and ('a', 'bc') from ('ab', 'c'): each value and whether it is NULL are
    hashed with the hash of the values before as seed. `int` and `bigint` of the same value give
    the same key; any other change of type changes the key.

    Args:
        columns: Each column with its type; their order is part of the key.
    """
    return row_hash(columns).bitwiseAND(F.lit(_LARGEST_LONG))


def row_hash(columns: Sequence[tuple[Column, str]]) -> Column:
    """All 64 bits of `hash_key`: Spark's xxHash64 with seed 42."""
    return F.xxhash64(*(part for column in columns for part in _hashable(*column)))


_WITHOUT_OPTIONS: Mapping[str, Callable[[Column], Column]] = {
    "string": parse_text,
    "boolean": parse_boolean,
}


class _DefaultOptions:
    formats: tuple[str, ...] = ()
    pivot: int | None = None
    round: Literal["half_up", "down"] | None = "half_up"
    ambiguous: Literal["earlier", "later", "quarantine"] = "earlier"
    nonexistent: Literal["quarantine", "shift_forward"] = "quarantine"
    decimal_mark: Literal[".", ","] | None = None
    group_sizes: tuple[int, ...] = (3,)
    grouping = currency = ""

    def __init__(self, type_name: str) -> None:
        self.type = type_name


def _trimmed(column: Column) -> Column:
    return F.trim(column, F.lit(BLANKS))


def _item_text(item: Column) -> Column:
    # The length before an item distinguishes it from NULL and from two items.
    return F.coalesce(F.concat(F.length(item).cast("string"), F.lit(":"), item), F.lit("N"))


def _one_nan(column: Column) -> Column:
    # NaN has many bit patterns, and Sail hashes the bits.
    return F.when(F.isnan(column), F.lit(float("nan"))).otherwise(column)


def _hashable(column: Column, type_name: str) -> tuple[Column, Column]:
    """The two columns to hash for a value: the value in one fixed width, and whether it is NULL."""
    parts = decimal_parts(type_name)
    if type_name == "list<string>" or (parts and parts[0] > _LONG_DECIMAL):
        value = canonical_text(column, type_name)
    elif type_name == "double":
        value = _one_nan(column.cast("double"))
    else:
        # A Parquet file may have a narrower or finer type, which would hash differently.
        value = column.cast("bigint" if type_name == "int" else sql_type(type_name))
    return value, F.isnull(column)
