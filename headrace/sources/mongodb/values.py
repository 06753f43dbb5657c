"""Values of BSON as Arrow values of the declared types.

A value that the declared type does not hold is never changed: its row becomes a corrupt row, whose
text has all of its values (decisions/0051).
"""

import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from bson import DBRef, json_util
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

from headrace.lineage_schema import POSITION
from headrace.schema import arrow_type, decimal_parts
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD, NUL
from headrace.sources.documents.json_paths import MISSING
from headrace.sources.documents.json_text import json_text

Convert = Callable[[Any], Any]

_MISSING = type(MISSING)
_UUID, _UUID_BYTES = 4, 16
# Integers that a double holds without a gap between them.
_MOST_OF_DOUBLE = 2**53
# MongoDB's own names of types ($type).
_TYPE_NAMES: Mapping[type, str] = {
    str: "string",
    bool: "bool",
    int: "int",
    Int64: "long",
    float: "double",
    Decimal128: "decimal",
    datetime: "date",
    DatetimeMS: "date",
    ObjectId: "objectId",
    dict: "object",
    DBRef: "object",
    list: "array",
    bytes: "binData",
    Binary: "binData",
    Regex: "regex",
    Timestamp: "timestamp",
    Code: "javascript",
    MinKey: "minKey",
    MaxKey: "maxKey",
}
# What Arrow converts as it is.
_PLAIN: Mapping[str, frozenset[type]] = {
    "string": frozenset({str}),
    "boolean": frozenset({bool}),
    "int": frozenset({int, Int64}),
    "bigint": frozenset({int, Int64}),
    "double": frozenset({float}),
    "timestamp": frozenset({datetime}),
    "timestamptz": frozenset({datetime}),
}
_ABSENT = frozenset({NoneType})
_OTHER, _NULL, _INTEGER, _DOUBLE, _DECIMAL = range(5)
_NUMBER_KINDS = {NoneType: _NULL, int: _INTEGER, Int64: _INTEGER, float: _DOUBLE}
_NUMBER_KINDS |= {Decimal128: _DECIMAL}
# Of an exponent in decimal128.
_BIAS = 6176
_INT64_DIGITS = 18
_EXACT_IN_DOUBLE, _EXACT_POWER = 10**15, 22


class _UnfitError(ValueError):
    """The type does not hold the value; its text says why, without the value."""


def rows_of(
    values: Mapping[str, list[Any]],
    types: Mapping[str, str],
    position: int,
    kept: Collection[str] = (),
) -> pa.RecordBatch:
    """Rows of the declared types, with the technical columns of `Connector.read`.

    Args:
        values: By column, values of BSON, None or MISSING.
        types: By column its type, one of headrace.schema.TYPE_NAMES.
        position: How many rows were read before.
        kept: Columns that a corrupt row keeps if they are readable, so that it stays in its
            partition.
    """
    count = len(next(iter(values.values())))
    reasons: dict[int, str] = {}
    columns: dict[str, pa.Array] = {}
    for name, kind in types.items():
        columns[name], unfit = column_of(values[name], kind)
        for row, why in unfit.items():
            reasons.setdefault(row, f"{name}: {why}")
    records, whys = pa.nulls(count, pa.string()), pa.nulls(count, pa.string())
    if reasons:
        lost = np.zeros(count, dtype=bool)
        lost[[*reasons]] = True
        is_lost = pa.array(lost)
        for name, array in columns.items():
            if name not in kept:
                columns[name] = pc.if_else(is_lost, pa.scalar(None, array.type), array)
        texts = {row: _record({name: values[name][row] for name in types}) for row in reasons}
        records = pa.array([texts.get(row) for row in range(count)], pa.string())
        whys = pa.array([reasons.get(row) for row in range(count)], pa.string())
    places = pa.array(np.arange(position + 1, position + count + 1, dtype=np.int64))
    technical = {CORRUPT_RECORD: records, CORRUPT_REASON: whys, POSITION: places}
    return pa.RecordBatch.from_pydict({**columns, **technical})


def column_of(values: list[Any], kind: str) -> tuple[pa.Array, dict[int, str]]:
    """Values of one column, and why some rows have none, by row."""
    kinds = {*map(type, values)}
    if _MISSING in kinds:
        values = [None if value is MISSING else value for value in values]
        kinds = (kinds - {_MISSING}) | _ABSENT
    if kinds - _ABSENT <= _PLAIN.get(kind, _ABSENT):
        try:
            array = pa.array(values, arrow_type(kind))
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass
        else:
            if kind != "string" or not pc.any(pc.match_substring(array, "\0")).as_py():
                return array, {}
    if parts := decimal_parts(kind):
        return _decimals(values, kind, *parts)
    return _one_by_one(values, kind)


def _decimals(
    values: list[Any], kind: str, precision: int, scale: int
) -> tuple[pa.Array, dict[int, str]]:
    """As `_one_by_one`, of numbers of 18 digits at once."""
    types = np.fromiter(map(_number_kind, values), np.int8, len(values))
    unscaled = np.zeros((len(values), 2), dtype=np.int64)
    is_done = types == _NULL
    for number_kind, read in _READ_UNSCALED.items():
        (rows,) = np.nonzero(types == number_kind)
        if len(rows):
            found, is_exact = read([values[row] for row in rows], scale)
            is_exact &= np.abs(found) < 10 ** min(precision, _INT64_DIGITS)
            unscaled[rows[is_exact], 0] = found[is_exact]
            is_done[rows[is_exact]] = True
    # Decimals of Arrow are integers of 128 bits, the lower half first.
    unscaled[:, 1] = unscaled[:, 0] >> 63
    buffers = [None, pa.py_buffer(unscaled)]
    array = pa.Array.from_buffers(arrow_type(kind), len(values), buffers)
    rest = pa.nulls(len(values), array.type)
    unfit: dict[int, str] = {}
    if not is_done.all():
        left = [None if done else value for done, value in zip(is_done, values, strict=True)]
        rest, unfit = _one_by_one(left, kind)
    is_value = pa.array(is_done & (types != _NULL))
    return pc.if_else(is_value, array, rest), unfit


def _number_kind(value: Any) -> int:
    return _NUMBER_KINDS.get(type(value), _OTHER)


Unscaled = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]


def _unscaled_integers(values: list[int], scale: int) -> Unscaled:
    return _shifted(np.array(values, dtype=np.int64), np.full(len(values), scale))


def _unscaled_doubles(values: list[float], scale: int) -> Unscaled:
    """Doubles as their shortest decimal numbers.

    Of 15 digits or fewer, no two decimal numbers are the same double: one that is, is the shortest.
    """
    doubles = np.array(values)
    with np.errstate(over="ignore", invalid="ignore"):
        candidates = np.round(doubles * 10.0**scale)
        is_exact = (np.abs(candidates) < _EXACT_IN_DOUBLE) & (candidates / 10.0**scale == doubles)
    is_exact &= scale <= _EXACT_POWER
    return np.where(is_exact, candidates, 0).astype(np.int64), is_exact


def _unscaled_decimals(values: list[Decimal128], scale: int) -> Unscaled:
    """Values of IEEE 754 decimal128, as BSON has them: sign, exponent, and integer of 113 bits."""
    halves = np.frombuffer(b"".join([value.bid for value in values]), "<u8").reshape(-1, 2)
    low, high = halves[:, 0], halves[:, 1]
    exponent = ((high >> np.uint64(49)) & np.uint64(0x3FFF)).astype(np.int64) - _BIAS
    is_small = (high & np.uint64(2**49 - 1)) == 0
    is_small &= low < np.uint64(2**63)
    # With these bits it is infinite, no number, or an integer that is out of bounds.
    is_small &= ((high >> np.uint64(61)) & np.uint64(3)) != 3  # noqa: PLR2004
    found, is_exact = _shifted(np.where(is_small, low, 0).astype(np.int64), exponent + scale)
    return np.where(high >> np.uint64(63), -found, found), is_exact & is_small


def _shifted(integers: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> Unscaled:
    """Integers times powers of ten, as far as the result is exact."""
    powers = 10 ** np.clip(np.abs(places), 0, _INT64_DIGITS)
    is_more = places >= 0
    is_exact = np.where(
        is_more,
        (np.abs(integers) <= (2**63 - 1) // powers) & (integers != -(2**63)),
        integers % powers == 0,
    )
    is_exact &= (np.abs(places) <= _INT64_DIGITS) | (integers == 0)
    return np.where(is_more, np.where(is_exact, integers, 0) * powers, integers // powers), is_exact


def _one_by_one(values: list[Any], kind: str) -> tuple[pa.Array, dict[int, str]]:
    found: list[Any] = []
    unfit: dict[int, str] = {}
    converted = _converter(kind)
    for row, value in enumerate(values):
        try:
            found.append(None if value is None else converted(value))
        except _UnfitError as error:
            found.append(None)
            unfit[row] = str(error)
    return pa.array(found, arrow_type(kind)), unfit


_READ_UNSCALED: Mapping[int, Callable[[list[Any], int], Unscaled]] = {
    _INTEGER: _unscaled_integers,
    _DOUBLE: _unscaled_doubles,
    _DECIMAL: _unscaled_decimals,
}


def _converter(kind: str) -> Convert:
    is_decimal = decimal_parts(kind) is not None
    known = _CONVERTS["decimal" if is_decimal else kind]

    def converted(value: Any) -> Any:
        convert = known.get(type(value))
        if convert is None:
            raise _UnfitError(f"of BSON type {type_name(value)}, not {kind}")
        return _fitting(convert(value), kind) if is_decimal else convert(value)

    return converted


def type_name(value: Any) -> str:
    """MongoDB's name of a value's type."""
    return _TYPE_NAMES.get(type(value), "unknown")


def _whole(bits: int) -> Convert:
    kind = "int" if bits == 32 else "bigint"  # noqa: PLR2004

    def convert(value: int | float) -> int:  # mypy takes float for both
        if isinstance(value, float) and (not value.is_integer() or abs(value) > _MOST_OF_DOUBLE):
            raise _UnfitError(f"no {kind} holds this number")
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise _UnfitError(f"no {kind} holds this number")
        return int(value)

    return convert


def _double(value: int) -> float:
    if abs(value) > _MOST_OF_DOUBLE:
        raise _UnfitError("no double holds this number")
    return float(value)


def _fitting(value: Decimal, kind: str) -> Decimal:
    """The value with the places of a decimal type; zeros after the last one do not count."""
    precision, scale = decimal_parts(kind) or (0, 0)
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise _UnfitError(f"no {kind} holds this number")  # NaN, or infinite.
    text = "".join(map(str, digits)).lstrip("0")
    more = scale + exponent if text else 0
    # The first test: a number of thousands of digits is not written out.
    if len(text) + more > precision or text[more:].strip("0") * (more < 0):
        raise _UnfitError(f"no {kind} holds this number")
    places = text + "0" * more if more >= 0 else text[:more]
    return Decimal((sign, tuple(map(int, places or "0")), -scale))


def _shortest(value: float) -> Decimal:
    """The shortest decimal number that is read as this double, such as 0.1."""
    return Decimal(repr(value))


def _midnight(value: datetime) -> date:
    if value != datetime.combine(value.date(), datetime.min.time()):
        raise _UnfitError("a date with a time of day: declare timestamptz")
    return value.date()


def _beyond(kind: str) -> Convert:
    def convert(value: DatetimeMS) -> datetime:  # noqa: ARG001
        raise _UnfitError(f"no {kind} holds this value: its year is before 1 or after 9999")

    return convert


def _text(value: str) -> str:
    if "\0" in value:
        raise _UnfitError(NUL)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _UnfitError("a text that is no UTF-8") from None
    return value


def _instant(value: datetime) -> str:
    return f"{value.isoformat(timespec='milliseconds')}Z"


def _distant(value: DatetimeMS) -> str:
    return f"{np.datetime64(int(value), 'ms')}Z"


def _bytes(value: bytes) -> str:
    return f"\\x{value.hex()}"


def _binary(value: Binary) -> str:
    is_uuid = value.subtype == _UUID and len(value) == _UUID_BYTES
    return str(value.as_uuid()) if is_uuid else _bytes(value)


def _json(value: Any) -> str:
    return _text(extended_json(value))


_INSTANTS = {
    kind: {datetime: lambda value: value, DatetimeMS: _beyond(kind)}
    for kind in ("timestamp", "timestamptz")
}
_SAME: Convert = lambda value: value  # noqa: E731
_CONVERTS: Mapping[str, Mapping[type, Convert]] = {
    "boolean": {bool: _SAME},
    "int": {kind: _whole(32) for kind in (int, Int64, float)},
    "bigint": {kind: _whole(64) for kind in (int, Int64, float)},
    "double": {float: _SAME, int: _double, Int64: _double},
    "decimal": {
        int: Decimal,
        Int64: Decimal,
        float: _shortest,
        Decimal128: Decimal128.to_decimal,
    },
    "date": {datetime: _midnight, DatetimeMS: _beyond("date")},
    **_INSTANTS,
    "string": {
        str: _text,
        bool: lambda value: "true" if value else "false",
        int: str,
        Int64: str,
        float: json.dumps,
        Decimal128: str,
        ObjectId: str,
        datetime: _instant,
        DatetimeMS: _distant,
        bytes: _bytes,
        Binary: _binary,
        **dict.fromkeys((dict, list, DBRef, Regex, Timestamp, Code, MinKey, MaxKey), _json),
    },
}


def extended_json(value: Any) -> str:
    """A value as MongoDB's Extended JSON v2, relaxed, without blanks.

    It says the type of every value that JSON has none for, such as {"$oid":"…"}.
    """
    return json_text(value, _extended)


def _extended(value: Any) -> str:
    if value is MISSING:
        return "null"
    known = json_util.default(value, json_util.RELAXED_JSON_OPTIONS)
    return json.dumps(known, ensure_ascii=False, separators=(",", ":"), default=_nested)


def _nested(value: Any) -> Any:
    return json_util.default(value, json_util.RELAXED_JSON_OPTIONS)


def _record(values: Mapping[str, Any]) -> str:
    """The text of a corrupt row: a document of all columns; what is absent is left out."""
    found = {name: value for name, value in values.items() if value is not MISSING}
    # A text that is no UTF-8 shows its bytes.
    return extended_json(found).encode(errors="backslashreplace").decode()


def instant_of(value: Any) -> datetime | None:
    """The instant of a date, or in an ObjectId; None: there is none."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    return value.generation_time if isinstance(value, ObjectId) else None
