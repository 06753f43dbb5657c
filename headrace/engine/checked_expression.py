"""Evaluates expressions of calculated columns; each value comes with the faults of its row.

No operation raises and none wraps: where Spark would fail and Sail would fail or wrap (overflow,
division by zero, a text that is no number), the value is NULL and a fault holds. A branch of
`case`, `coalesce`, `and` and `or` that is not reached has no faults.

Whole numbers are bigint and exact. Decimals are exact up to 38 digits. `/` gives a double.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F

from headrace.config.model import did_you_mean, unknown_name
from headrace.engine import functions as parse
from headrace.engine.sql_expression import Call, Cast, Literal, Name, Tree, parse_expression
from headrace.engine.values.numbers import LARGEST_DOUBLE
from headrace.engine.values.types import sql_type
from headrace.errors import ConfigError
from headrace.schema import TYPE_NAMES, arrow_type, decimal_parts

BY_ZERO = "division by zero"
OUT_OF_RANGE = "a result out of range"
UNCASTABLE = "a text that cannot be cast"

_MOST_DIGITS = 38
# The mean radius, of the International Union of Geodesy and Geophysics.
_EARTH_RADIUS_METRES = 6_371_008.8
_LARGEST_LONG = 2**63 - 1
# Digits before the point that an operand keeps where a product would have more than 38 digits.
_KEPT_DIGITS = 12
_NULL = "null"
_WHOLE = {"int": 10, "bigint": 19}
_DAYS = (-719_162, 2_932_896)  # 0001-01-01 to 9999-12-31, from 1970-01-01
_COMPARED: Mapping[str, Callable[[Column, Column], Column]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<=>": lambda a, b: a.eqNullSafe(b),
}


@dataclass(frozen=True)
class Checked:
    """A value of one row.

    Attributes:
        value: The value; NULL where a fault holds.
        type: A logical type, or `null` for NULL.
        faults: Reasons with their conditions, which are never NULL.
        constant: The value of a literal.
    """

    value: Column
    type: str
    faults: tuple[tuple[str, Column], ...] = ()
    constant: object = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Digits and decimal places of an exact number; None for other types."""
        if isinstance(self.constant, int) and not isinstance(self.constant, bool):
            return max(len(str(abs(self.constant))), 1), 0
        return (_WHOLE[self.type], 0) if self.type in _WHOLE else decimal_parts(self.type)


def checked_column(sql: str, type_name: str, types: Mapping[str, str]) -> Checked:
    """The value of an expression as a column of a type.

    A decimal with more places than the type is rounded half up, away from zero.

    Args:
        sql: The expression.
        type_name: The type of the column.
        types: Types of the columns that the expression may read.

    Raises:
        ConfigError: The expression is outside the grammar, reads another column, or its types do
            not fit.
    """
    found = _Evaluation(types).of(parse_expression(sql))
    return _assigned(found, type_name)


def _assigned(found: Checked, type_name: str) -> Checked:
    size = decimal_parts(type_name)
    is_exact = found.size is not None
    fits = (
        found.type in (type_name, _NULL)
        or (is_exact and (type_name == "double" or size is not None))
        or (found.type in _WHOLE and type_name in _WHOLE)
        or (found.type == "double" and size is not None)
    )
    if not fits:
        raise ConfigError(
            f"is a {found.type}, not a {type_name}",
            fix=f"declare `type: {found.type}`, or write cast(… as {type_name})",
        )
    return _converted(found, type_name, OUT_OF_RANGE)


class _Evaluation:
    def __init__(self, types: Mapping[str, str]) -> None:
        self._types = types

    def of(self, tree: Tree) -> Checked:
        match tree:
            case Name(name):
                if name not in self._types:
                    raise ConfigError(
                        f"there is no column '{name}'{did_you_mean(name, self._types)}",
                        fix="use a column of the entity, or one that is calculated before",
                    )
                return Checked(F.col(name), self._types[name])
            case Literal(value):
                return _literal(value)
            case Cast(operand, type_name, is_try):
                return self._cast(self.of(operand), type_name, is_try=is_try)
            case Call("case", operands):
                return self._case(operands)
            case Call(function, operands):
                return self._call(function, [self.of(operand) for operand in operands])

    def _call(self, function: str, operands: Sequence[Checked]) -> Checked:
        if function not in _FUNCTIONS:
            known = [name for name in _FUNCTIONS if name[0].isalpha() and " " not in name]
            if len(operands) == 1 and function in ("and", "or"):
                known = []
            raise ConfigError(
                f"{function}: {unknown_name(function, known)}",
                fix="use these functions, or `transform` for what they cannot express",
            )
        counts, build = _FUNCTIONS[function]
        if len(operands) not in counts:
            count = " or ".join(map(str, counts)) if len(counts) <= 3 else f"{counts[0]} or more"  # noqa: PLR2004
            raise ConfigError(
                f"{function} has {len(operands)} operands", fix=f"give it {count} of them"
            )
        return build(function, *operands)

    def _case(self, trees: Sequence[Tree]) -> Checked:
        operands = [self.of(tree) for tree in trees]
        conditions, values = operands[:-1:2], [*operands[1::2], operands[-1]]
        kind = _common_type("case", values)
        branches = [_converted(value, kind, OUT_OF_RANGE) for value in values]
        faults: list[tuple[str, Column]] = []
        is_reached = F.lit(True)
        result: Column | None = None
        for condition, branch in zip(conditions, branches, strict=False):
            _require("case", condition, "boolean")
            faults += _where(is_reached, condition.faults)
            holds = F.coalesce(condition.value, F.lit(False))
            faults += _where(is_reached & holds, branch.faults)
            is_reached = is_reached & ~holds
            result = (
                F.when(holds, branch.value) if result is None else result.when(holds, branch.value)
            )
        assert result is not None  # noqa: S101  # the parser gives at least one branch
        faults += _where(is_reached, branches[-1].faults)
        return Checked(result.otherwise(branches[-1].value), kind, tuple(faults))

    def _cast(self, operand: Checked, type_name: str, *, is_try: bool) -> Checked:
        try:
            arrow_type(type_name)
        except ConfigError:
            raise ConfigError(
                f"there is no type {type_name}", fix=f"use one of {', '.join(TYPE_NAMES)}"
            ) from None
        kind = operand.type
        is_numeric = operand.size is not None or kind == "double"
        to_number = decimal_parts(type_name) is not None or type_name in (*_WHOLE, "double")
        allowed = (
            kind in (type_name, _NULL)
            or (is_numeric and to_number)
            or (kind == "string" and type_name != "list<string>")
            or (type_name == "string" and kind not in ("double", "list<string>"))
            or (kind, type_name) in {("date", "timestamp"), ("timestamp", "date")}
            or (kind, type_name) == ("timestamptz", "date")
        )
        if not allowed:
            raise ConfigError(
                f"a {kind} cannot be cast to {type_name}",
                fix="cast it to a decimal before"
                if kind == "double"
                else "use a column of another type",
            )
        why = UNCASTABLE if kind == "string" else OUT_OF_RANGE
        found = _converted(operand, type_name, why)
        return replace(found, faults=operand.faults) if is_try else found


def _literal(value: object) -> Checked:
    match value:
        case None:
            return Checked(F.lit(None).cast("string"), _NULL)
        case bool() | str() | float():
            kind = {bool: "boolean", str: "string", float: "double"}[type(value)]
            return Checked(F.lit(value), kind, constant=value)
        case int():
            if abs(value) > _LARGEST_LONG:
                raise ConfigError(
                    f"{value} is no bigint", fix="write it with a point, as a decimal"
                )
            return Checked(F.lit(value).cast("bigint"), "bigint", constant=value)
        case Decimal():
            digits, places = len(value.as_tuple().digits), -int(value.as_tuple().exponent)
            kind = f"decimal({max(digits, places)},{places})"
            arrow_type(kind)
            return Checked(F.lit(str(value)).cast(kind), kind)
        case _:
            return _time_literal(value)


def _time_literal(value: object) -> Checked:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            raise ConfigError("a timestamp has no offset", fix="compare with a local time")
        return Checked(F.lit(value.isoformat(" ")).cast("timestamp_ntz"), "timestamp")
    assert isinstance(value, date)  # noqa: S101
    return Checked(F.lit(value.isoformat()).cast("date"), "date")


def _converted(found: Checked, type_name: str, why: str) -> Checked:
    """The value as another type, with a fault where it does not fit."""
    if found.type == type_name:
        return replace(found, constant=None)
    if found.type == _NULL:
        return Checked(F.lit(None).cast(sql_type(type_name)), type_name)
    if type_name == "double":
        text = found.value.cast("string") if decimal_parts(found.type) else found.value
        value = (
            parse.cast_to(found.value, "double", "string")
            if found.type == "string"
            else text.try_cast("double")
        )
    else:
        value = parse.cast_to(found.value, type_name, found.type)
    lost = found.value.isNotNull() & value.isNull()
    if found.type == "string":
        lost = parse.is_given(found.value) & value.isNull()
    return Checked(value, type_name, (*found.faults, (why, lost)))


def _common_type(function: str, values: Sequence[Checked]) -> str:
    """The type that holds the values of all operands."""
    kinds = {value.type for value in values} - {_NULL}
    if len(kinds) <= 1:
        return next(iter(kinds), "string")
    sizes = [value.size for value in values if value.type != _NULL]
    known = [size for size in sizes if size is not None]
    numbers = all(
        s is not None or v == "double" for s, v in zip(sizes, _types(values), strict=True)
    )
    if not numbers:
        raise ConfigError(
            f"{function} has operands of the types {', '.join(sorted(kinds))}",
            fix="cast them to one type, and write a day as date '2024-01-31'",
        )
    if "double" in kinds:
        return "double"
    if kinds <= {*_WHOLE}:
        return "bigint"
    scale = max(size[1] for size in known)
    digits = max(size[0] - size[1] for size in known) + scale
    return f"decimal({min(digits, _MOST_DIGITS)},{scale})"


def _types(values: Sequence[Checked]) -> list[str]:
    return [value.type for value in values if value.type != _NULL]


def _alike(function: str, *values: Checked) -> tuple[str, list[Checked]]:
    kind = _common_type(function, values)
    return kind, [_converted(value, kind, OUT_OF_RANGE) for value in values]


def _require(function: str, value: Checked, *kinds: str) -> None:
    if value.type not in (*kinds, _NULL):
        wanted = " or ".join(kinds)
        raise ConfigError(
            f"{function} has an operand of type {value.type}", fix=f"give it a {wanted}"
        )


def _where(
    condition: Column, faults: Sequence[tuple[str, Column]]
) -> tuple[tuple[str, Column], ...]:
    return tuple((why, condition & holds) for why, holds in faults)


def _faults(*values: Checked) -> tuple[tuple[str, Column], ...]:
    return tuple(fault for value in values for fault in value.faults)


def _lost(result: Column, *operands: Checked) -> Column:
    """Whether a result is NULL though no operand is."""
    lost = result.isNull()
    for operand in operands:
        lost = lost & operand.value.isNotNull()
    return lost


def _as_decimal(value: Checked, digits: int, scale: int) -> Column:
    return value.value.try_cast(f"decimal({digits},{scale})")


def _arithmetic(mark: str, one: Checked, other: Checked) -> Checked:
    operate: Callable[[Column, Column], Column] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
    }[mark]
    one, other = _number(mark, one), _number(mark, other)
    if "double" in (one.type, other.type):
        pair = [_converted(value, "double", OUT_OF_RANGE) for value in (one, other)]
        return _finite(operate(*(value.value for value in pair)), *pair)
    (p, s), (q, t) = _size(one), _size(other)
    is_whole = one.type in _WHOLE and other.type in _WHOLE
    if is_whole:
        # A product of two bigint has at most 38 digits.
        kind, a, b = "bigint", _as_decimal(one, 19, 0), _as_decimal(other, 19, 0)
    elif mark == "*":
        kind, (p, q) = _product_sizes((p, s), (q, t))
        a, b = _as_decimal(one, p, s), _as_decimal(other, q, t)
    else:
        scale = max(s, t)
        digits = min(max(p - s, q - t) + scale, _MOST_DIGITS - 1)
        kind = f"decimal({digits + 1},{scale})"
        a, b = _as_decimal(one, digits, scale), _as_decimal(other, digits, scale)
    result = operate(a, b).try_cast(sql_type(kind))
    return Checked(result, kind, (*_faults(one, other), (OUT_OF_RANGE, _lost(result, one, other))))


def _product_sizes(one: tuple[int, int], other: tuple[int, int]) -> tuple[str, tuple[int, int]]:
    """The type of a product, and the digits of its operands, so that it has at most 38 digits."""
    (p, s), (q, t) = one, other
    while p + q + 1 > _MOST_DIGITS and max(p - s, q - t) > _KEPT_DIGITS:
        p, q = (p - 1, q) if p - s >= q - t else (p, q - 1)
    if p + q + 1 > _MOST_DIGITS:
        raise ConfigError(
            f"a product of decimal({p},{s}) and decimal({q},{t}) has more than 38 digits",
            fix="cast an operand to a decimal of fewer places",
        )
    return f"decimal({p + q + 1},{s + t})", (p, q)


def _size(value: Checked) -> tuple[int, int]:
    assert value.size is not None  # noqa: S101
    return value.size


def _number(function: str, value: Checked) -> Checked:
    if value.type == _NULL:
        return Checked(F.lit(None).cast("bigint"), "bigint")
    if value.size is None and value.type != "double":
        raise ConfigError(
            f"{function} has an operand of type {value.type}",
            fix="use date_add and datediff for days, and cast(… as …) for texts",
        )
    return value


def _finite(result: Column, *operands: Checked) -> Checked:
    bounded = F.when(F.abs(result) <= LARGEST_DOUBLE, F.when(result == 0, 0.0).otherwise(result))
    lost = (OUT_OF_RANGE, _lost(bounded, *operands))
    return Checked(bounded, "double", (*_faults(*operands), lost))


def _divided(mark: str, one: Checked, other: Checked) -> Checked:
    a = _converted(_number(mark, one), "double", OUT_OF_RANGE)
    b = _converted(_number(mark, other), "double", OUT_OF_RANGE)
    is_zero = F.coalesce(b.value == 0.0, F.lit(False))
    by_zero = (BY_ZERO, is_zero & a.value.isNotNull())
    divisor = replace(b, value=F.when(b.value != 0.0, b.value), faults=(*b.faults, by_zero))
    return _finite(a.value / divisor.value, a, divisor)


def _remainder(mark: str, one: Checked, other: Checked) -> Checked:
    for value in (one, other):
        _require(mark, value, *_WHOLE)
    _, (a, b) = _alike(mark, _number(mark, one), _number(mark, other))
    a, b = _converted(a, "bigint", OUT_OF_RANGE), _converted(b, "bigint", OUT_OF_RANGE)
    by_zero = F.coalesce(b.value == 0, F.lit(False)) & a.value.isNotNull()
    # The smallest bigint overflows when it is divided by -1.
    divisor = F.when(~b.value.isin(0, -1), b.value)
    result = F.when((b.value == -1) & a.value.isNotNull(), F.lit(0).cast("bigint"))
    return Checked(
        result.otherwise(a.value % divisor), "bigint", (*_faults(a, b), (BY_ZERO, by_zero))
    )


def _negative(_: str, value: Checked) -> Checked:
    return _arithmetic("-", _literal(0), value)


def _compared(mark: str, one: Checked, other: Checked) -> Checked:
    _, (a, b) = _alike(mark, one, other)
    return Checked(_COMPARED[mark](a.value, b.value), "boolean", _faults(a, b))


def _both(mark: str, one: Checked, other: Checked) -> Checked:
    for value in (one, other):
        _require(mark, value, "boolean")
    a, b = _converted(one, "boolean", ""), _converted(other, "boolean", "")
    if mark == "and":
        reached, result = F.coalesce(a.value, F.lit(True)), a.value & b.value
    else:
        reached, result = ~F.coalesce(a.value, F.lit(False)), a.value | b.value
    return Checked(result, "boolean", (*a.faults, *_where(reached, b.faults)))


def _not(mark: str, value: Checked) -> Checked:
    _require(mark, value, "boolean")
    found = _converted(value, "boolean", "")
    return replace(found, value=~found.value)


def _is_null(_: str, value: Checked) -> Checked:
    return Checked(value.value.isNull(), "boolean", value.faults)


def _matches(mark: str, text: Checked, pattern: Checked) -> Checked:
    for value in (text, pattern):
        _require(mark, value, "string")
    find = Column.like if mark == "like" else Column.rlike
    if not isinstance(pattern.constant, str):
        raise ConfigError(f"{mark} has a pattern that is no constant", fix="write it in quotes")
    return Checked(find(text.value, pattern.constant), "boolean", text.faults)


def _coalesced(function: str, *values: Checked) -> Checked:
    kind, alike = _alike(function, *values)
    faults: list[tuple[str, Column]] = []
    is_reached = F.lit(True)
    for value in alike:
        faults += _where(is_reached, value.faults)
        is_reached = is_reached & value.value.isNull()
    return Checked(F.coalesce(*(value.value for value in alike)), kind, tuple(faults))


def _nullif(_: str, one: Checked, other: Checked) -> Checked:
    equal = _compared("=", one, other)
    is_other = ~F.coalesce(equal.value, F.lit(False))
    return Checked(F.when(is_other, one.value), one.type, equal.faults)


def _extreme(function: str, *values: Checked) -> Checked:
    kind, alike = _alike(function, *values)
    find = F.greatest if function == "greatest" else F.least
    return Checked(find(*(value.value for value in alike)), kind, _faults(*alike))


def _absolute(function: str, value: Checked) -> Checked:
    value = _number(function, value)
    if value.type not in _WHOLE:
        return replace(value, value=F.abs(value.value))
    # The smallest bigint has no positive counterpart.
    result = F.abs(value.value.cast("decimal(19,0)")).try_cast("bigint")
    lost = (OUT_OF_RANGE, _lost(result, value))
    return Checked(result, "bigint", (*value.faults, lost))


def _rounded(function: str, value: Checked, places: Checked | None = None) -> Checked:
    value = _number(function, value)
    count = 0 if places is None else places.constant
    if value.type == "double":
        raise ConfigError(
            f"{function} of a double", fix="write cast(… as decimal(p,s)), which rounds"
        )
    if not isinstance(count, int) or not 0 <= count <= _MOST_DIGITS:
        raise ConfigError(f"{function}: the places are no constant", fix="write 0, 1, 2, …")
    digits, scale = _size(value)
    if count >= scale:
        return value
    kind = f"decimal({min(digits - scale + 1 + count, _MOST_DIGITS)},{count})"
    return _converted(value, kind, OUT_OF_RANGE)


def _text(build: Callable[..., Column], kind: str = "string", numbers: int = 0):  # type: ignore[no-untyped-def]
    """A function of texts, whose last operands are whole constants."""

    def of(function: str, *values: Checked) -> Checked:
        texts = values[: len(values) - numbers] if numbers else values
        for value in texts:
            _require(function, value, "string")
        counts = [value.constant for value in values[len(texts) :]]
        if any(not isinstance(count, int) or count < 0 for count in counts):
            raise ConfigError(f"{function} has a count that is no constant", fix="write 0, 1, 2, …")
        columns = [value.value for value in texts]
        return Checked(build(*columns, *counts), kind, _faults(*texts))

    return of


def _substring(function: str, text: Checked, start: Checked, length: Checked) -> Checked:
    _require(function, text, "string")
    counts = start.constant, length.constant
    if not all(
        isinstance(count, int) and count >= least
        for count, least in zip(counts, (1, 0), strict=True)
    ):
        raise ConfigError(
            f"{function} has a place that is no constant from 1 on",
            fix="write as in substring(t, 1, 2)",
        )
    return Checked(F.substring(text.value, *counts), "string", text.faults)  # type: ignore[arg-type]


def _part(build: Callable[[Column], Column], *kinds: str):  # type: ignore[no-untyped-def]
    """A part of a date or time, as int."""

    def of(function: str, value: Checked) -> Checked:
        _require(function, value, *kinds)
        return Checked(build(value.value).cast("int"), "int", value.faults)

    return of


def _moved_day(function: str, day: Checked, count: Checked) -> Checked:
    _require(function, day, "date")
    _require(function, count, *_WHOLE)
    days = count.value if function == "date_add" else -count.value.cast("decimal(19,0)")
    total = F.unix_date(day.value).cast("decimal(19,0)") + days.cast("decimal(19,0)")
    is_day = total.between(*_DAYS)
    moved = F.date_add(F.lit("1970-01-01").cast("date"), F.when(is_day, total).try_cast("int"))
    lost = (OUT_OF_RANGE, _lost(moved, day, count))
    return Checked(moved, "date", (*_faults(day, count), lost))


def _days_between(function: str, end: Checked, start: Checked) -> Checked:
    for value in (end, start):
        _require(function, value, "date")
    days = F.unix_date(end.value).cast("bigint") - F.unix_date(start.value).cast("bigint")
    return Checked(days, "bigint", _faults(end, start))


def _last_day(function: str, day: Checked) -> Checked:
    _require(function, day, "date")
    return Checked(F.last_day(day.value), "date", day.faults)


def _first_day(function: str, day: Checked, unit: Checked) -> Checked:
    _require(function, day, "date")
    units = ("week", "month", "quarter", "year")
    if unit.constant not in units:
        raise ConfigError(
            f"{function}: {unknown_name(str(unit.constant), units)}", fix="choose one"
        )
    return Checked(F.trunc(day.value, str(unit.constant)), "date", day.faults)


def _distance(function: str, *coordinates: Checked) -> Checked:
    """Metres on the sphere between two points, by the haversine formula.

    Latitude and longitude of one point, then of the other, in degrees of WGS 84. Rounded to
    millimetres: the engines' sines differ in the last digit of a double.
    """
    given = [_converted(_number(function, one), "double", OUT_OF_RANGE) for one in coordinates]
    limits = (90.0, 180.0, 90.0, 180.0)
    on_earth = [
        F.when(F.abs(one.value) <= limit, one.value)
        for one, limit in zip(given, limits, strict=True)
    ]
    lat_1, lon_1, lat_2, lon_2 = (F.radians(one) for one in on_earth)
    across, along = F.sin((lat_2 - lat_1) / 2), F.sin((lon_2 - lon_1) / 2)
    square = across * across + F.cos(lat_1) * F.cos(lat_2) * along * along
    # Rounding may give opposite points slightly more than 1. `least` would leave NULL out.
    angle = 2 * F.asin(F.sqrt(F.when(square > 1, 1.0).otherwise(square)))
    metres = F.floor(angle * _EARTH_RADIUS_METRES * 1000 + 0.5).cast("double") / 1000
    return Checked(metres, "double", (*_faults(*given), (OUT_OF_RANGE, _lost(metres, *given))))


_DATED = ("date", "timestamp", "timestamptz")
_TIMED = ("timestamp", "timestamptz")
_ANY = range(1, 256)
_FUNCTIONS: Mapping[str, tuple[Sequence[int], Callable[..., Checked]]] = {
    **dict.fromkeys("+-*", ((2,), _arithmetic)),
    "/": ((2,), _divided),
    "%": ((2,), _remainder),
    "negative": ((1,), _negative),
    **dict.fromkeys(_COMPARED, ((2,), _compared)),
    **dict.fromkeys(("and", "or"), ((2,), _both)),
    "not": ((1,), _not),
    "is null": ((1,), _is_null),
    **dict.fromkeys(("like", "rlike"), ((2,), _matches)),
    **dict.fromkeys(("coalesce", "ifnull", "nvl"), (_ANY, _coalesced)),
    "nullif": ((2,), _nullif),
    **dict.fromkeys(("greatest", "least"), (_ANY, _extreme)),
    "abs": ((1,), _absolute),
    "distance": ((4,), _distance),
    "round": ((1, 2), _rounded),
    "||": ((2,), _text(F.concat)),
    "concat": (_ANY, _text(F.concat)),
    "upper": ((1,), _text(F.upper)),
    "lower": ((1,), _text(F.lower)),
    "trim": ((1,), _text(F.trim)),
    "ltrim": ((1,), _text(F.ltrim)),
    "rtrim": ((1,), _text(F.rtrim)),
    "length": ((1,), _text(lambda text: F.length(text).cast("bigint"), "bigint")),
    "replace": ((3,), _text(F.replace)),
    "substring": ((3,), _substring),
    "startswith": ((2,), _text(F.startswith, "boolean")),
    "endswith": ((2,), _text(F.endswith, "boolean")),
    "contains": ((2,), _text(F.contains, "boolean")),
    "year": ((1,), _part(F.year, *_DATED)),
    "quarter": ((1,), _part(F.quarter, *_DATED)),
    "month": ((1,), _part(F.month, *_DATED)),
    "day": ((1,), _part(F.dayofmonth, *_DATED)),
    "dayofweek": ((1,), _part(F.dayofweek, *_DATED)),
    "dayofyear": ((1,), _part(F.dayofyear, *_DATED)),
    "hour": ((1,), _part(F.hour, *_TIMED)),
    "minute": ((1,), _part(F.minute, *_TIMED)),
    "second": ((1,), _part(F.second, *_TIMED)),
    **dict.fromkeys(("date_add", "date_sub"), ((2,), _moved_day)),
    "datediff": ((2,), _days_between),
    "last_day": ((1,), _last_day),
    "trunc": ((2,), _first_day),
}
