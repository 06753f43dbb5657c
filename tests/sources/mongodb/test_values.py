"""Values of BSON, as a server sends them, become Arrow values exactly, or a corrupt row."""

import json
import math
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import bson
import pytest
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from headrace.schema import arrow_type
from headrace.sources.documents.json_paths import MISSING
from headrace.sources.mongodb.collection import position_of
from headrace.sources.mongodb.session import CODEC
from headrace.sources.mongodb.values import column_of, extended_json, rows_of

ID = ObjectId("6b0e0a35c33fdf24c4c596dd")
NOON = datetime(2017, 1, 1, 12, 30, 15, 123000)
MORNING = datetime(2017, 1, 1)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999000)
BEFORE_ALL = DatetimeMS(-(10**15))
AFTER_ALL = DatetimeMS(10**15)
NOT_FINITE = ("inf", "nan", "infinity")
FAR = "its year is before 1 or after 9999"


def sent(value: Any) -> Any:
    """A value on its way through BSON."""
    return bson.decode_all(bson.encode({"v": value}), CODEC)[0]["v"]


def read(value: Any, kind: str) -> tuple[Any, str | None]:
    """A value as a declared type, and why it is none."""
    array, unfit = column_of([sent(value), MISSING, None], kind)
    assert array.type == arrow_type(kind)
    assert array.to_pylist()[1:] == [None, None]
    return array.to_pylist()[0], unfit.get(0)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("Köln", "string", "Köln"),
        (True, "boolean", True),
        (-(2**31), "int", -(2**31)),
        (Int64(7), "int", 7),
        (7.0, "int", 7),
        (Int64(2**63 - 1), "bigint", 2**63 - 1),
        (2.0**53, "bigint", 2**53),
        (1.5, "double", 1.5),
        (7, "double", 7.0),
        (Decimal128("1.50"), "decimal(12,2)", Decimal("1.50")),
        (Decimal128("1.5000"), "decimal(12,2)", Decimal("1.50")),
        (Decimal128("1E+3"), "decimal(12,2)", Decimal(1000)),
        (Decimal128("-0.00"), "decimal(12,2)", Decimal(0)),
        (Decimal128("0E-6176"), "decimal(12,2)", Decimal(0)),
        (Decimal128("9" * 34), "decimal(38,4)", Decimal("9" * 34)),
        (12.34, "decimal(12,2)", Decimal("12.34")),
        (Int64(10**12), "decimal(38,10)", Decimal(10**12)),
        (NOON, "timestamptz", NOON.replace(tzinfo=UTC)),
        (NOON, "timestamp", NOON),
        (MORNING, "date", date(2017, 1, 1)),
        (datetime(1, 1, 1), "timestamp", datetime(1, 1, 1)),
        (LAST, "timestamp", LAST),
        (ID, "string", str(ID)),
        (1.0, "string", "1.0"),
        (float("nan"), "string", "NaN"),
        (Decimal128("1.50"), "string", "1.50"),
        (False, "string", "false"),
        (Int64(2**40), "string", "1099511627776"),
        (NOON, "string", "2017-01-01T12:30:15.123Z"),
        (BEFORE_ALL, "string", "-29719-04-05T22:13:20.000Z"),
        (b"\x00\xff", "string", "\\x00ff"),
        (Binary(UUID(int=7).bytes, 4), "string", "00000000-0000-0000-0000-000000000007"),
        (Binary(b"\x01", 128), "string", "\\x01"),
        (Regex("a/b", "i"), "string", '{"$regularExpression":{"pattern":"a/b","options":"i"}}'),
        (Timestamp(5, 6), "string", '{"$timestamp":{"t":5,"i":6}}'),
        (MaxKey(), "string", '{"$maxKey":1}'),
        ([1, {"a": None}], "string", '[1,{"a":null}]'),
    ],
)  # fmt: skip
def test_a_value_arrives_as_the_declared_type(value: Any, kind: str, expected: Any) -> None:
    assert read(value, kind) == (expected, None)


def test_numbers_that_are_no_number_stay_so_in_a_double() -> None:
    found, why = read(float("nan"), "double")
    assert math.isnan(found)
    assert why is None
    assert read(float("-inf"), "double") == (float("-inf"), None)


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        ("7", "int", "of BSON type string, not int"),
        (True, "int", "of BSON type bool, not int"),
        (Int64(2**31), "int", "no int holds this number"),
        (1.5, "bigint", "no bigint holds this number"),
        (float("inf"), "bigint", "no bigint holds this number"),
        (2.0**60, "bigint", "no bigint holds this number"),
        (Int64(2**53 + 1), "double", "no double holds this number"),
        (Decimal128("1.5"), "double", "of BSON type decimal, not double"),
        (Decimal128("1.505"), "decimal(12,2)", "no decimal(12,2) holds this number"),
        (Decimal128("1E+6000"), "decimal(12,2)", "no decimal(12,2) holds this number"),
        (Decimal128("1E-6000"), "decimal(12,2)", "no decimal(12,2) holds this number"),
        (Decimal128("NaN"), "decimal(12,2)", "no decimal(12,2) holds this number"),
        (Decimal128("Infinity"), "decimal(12,2)", "no decimal(12,2) holds this number"),
        (0.1 + 0.2, "decimal(12,2)", "no decimal(12,2) holds this number"),
        (NOON, "date", "a date with a time of day: declare timestamptz"),
        ("2017-01-01", "date", "of BSON type string, not date"),
        (BEFORE_ALL, "timestamptz", f"no timestamptz holds this value: {FAR}"),
        (AFTER_ALL, "date", f"no date holds this value: {FAR}"),
        (Timestamp(5, 6), "timestamptz", "of BSON type timestamp, not timestamptz"),
        ({"a": 1}, "boolean", "of BSON type object, not boolean"),
        ("a\0b", "string", "a NUL character"),
    ],
)  # fmt: skip
def test_a_value_that_the_type_does_not_hold_has_a_reason(value: Any, kind: str, why: str) -> None:
    assert read(value, kind) == (None, why)


def test_a_text_that_is_no_utf_8_spoils_its_own_row_only() -> None:
    texts = [bson.encode({"v": "xyz"}).replace(b"xyz", b"x\xffz"), bson.encode({"v": "ok"})]
    values = [document["v"] for document in bson.decode_all(b"".join(texts), CODEC)]
    rows = rows_of({"v": values}, {"v": "string"}, 0).to_pylist()
    assert [row["v"] for row in rows] == [None, "ok"]
    assert rows[0]["_corrupt_reason"] == "v: a text that is no UTF-8"
    assert rows[0]["_corrupt_record"] == '{"v":"x\\udcffz"}'


def test_a_corrupt_row_has_all_its_values_and_stays_in_its_partition() -> None:
    values: dict[str, list[Any]] = {"id": [ID, ID], "amount": [Decimal128("NaN"), 1]}
    values |= {"at": [NOON, NOON], "gone": [MISSING, 2]}
    types = {"id": "string", "amount": "int", "at": "timestamptz", "gone": "int"}
    first, second = rows_of(values, types, 40, kept=("at",)).to_pylist()
    assert (first["id"], first["amount"], first["at"]) == (None, None, NOON.replace(tzinfo=UTC))
    assert first["_corrupt_reason"] == "amount: of BSON type decimal, not int"
    assert json.loads(first["_corrupt_record"]) == {
        "id": {"$oid": str(ID)},
        "amount": {"$numberDecimal": "NaN"},
        "at": {"$date": "2017-01-01T12:30:15.123Z"},
    }
    assert (second["id"], second["amount"], second["_corrupt_record"]) == (str(ID), 1, None)
    assert [first["_source_position"], second["_source_position"]] == [41, 42]


def test_a_document_is_extended_json() -> None:
    document = {
        "_id": ID,
        "n": 1,
        "l": Int64(2**40),
        "d": 1.5,
        "inf": float("inf"),
        "s": 'a"\n',
        "dec": Decimal128("1.50"),
        "at": NOON,
        "far": AFTER_ALL,
        "b": b"\x00",
        "null": None,
        "code": Code("x"),
        "deep": [{"id": ID}],
    }
    assert json.loads(extended_json(sent(document))) == {
        "_id": {"$oid": str(ID)},
        "n": 1,
        "l": 2**40,
        "d": 1.5,
        "inf": {"$numberDouble": "Infinity"},
        "s": 'a"\n',
        "dec": {"$numberDecimal": "1.50"},
        "at": {"$date": "2017-01-01T12:30:15.123Z"},
        "far": {"$date": {"$numberLong": "1000000000000000"}},
        "b": {"$binary": {"base64": "AA==", "subType": "00"}},
        "null": None,
        "code": {"$code": "x"},
        "deep": [{"id": {"$oid": str(ID)}}],
    }


def _decimal128(text: str) -> Decimal128 | None:
    try:
        return Decimal128(Decimal(text))
    except ArithmeticError:  # More than 34 digits.
        return None


_DIGITS = st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{0,8})?(E[+-]?[0-9]{1,2})?", fullmatch=True)
_NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.integers(-(10**12), 10**12).map(lambda n: n / 1000),
    st.floats(),
    _DIGITS.map(_decimal128),
    st.sampled_from(["NaN", "-0", "0E-6176", "Infinity", "9" * 34]).map(_decimal128),
    st.none(),
)


@given(st.lists(_NUMBERS, max_size=8), st.sampled_from([(12, 2), (20, 6), (38, 10), (5, 5)]))
def test_decimals_are_exact_or_refused(numbers: list[Any], parts: tuple[int, int]) -> None:
    precision, scale = parts
    array, unfit = column_of(numbers, f"decimal({precision},{scale})")
    for row, number in enumerate(numbers):
        value = None
        if number is not None:
            text = repr(number) if isinstance(number, float) else str(number)
            exact = Fraction(text) if text.strip("-+").lower() not in NOT_FINITE else None
            whole = exact * 10**scale if exact is not None else Fraction(1, 2)
            if whole.denominator == 1 and abs(whole) < 10**precision:
                value = Decimal(int(whole)).scaleb(-scale, Context(prec=80))
        assert array[row].as_py() == value
        assert (row in unfit) == (number is not None and value is None)


@pytest.mark.parametrize(
    ("value", "position"), [(math.nan, None), (math.inf, None), (-math.inf, None), (2.5, 2), (7, 7)]
)
def test_a_number_that_is_not_finite_is_no_position_of_a_cursor(
    value: float, position: int | None
) -> None:
    # FerretDB, the server of the tests, stores no such number.
    assert position_of(value) == position
