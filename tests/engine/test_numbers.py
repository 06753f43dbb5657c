import math
import re
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from headrace.engine.values.numbers import NumberMarks
from tests.engine.evaluating import each

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_EXACT = Context(prec=400)


_MOST_DIGITS = 38


def naive_decimal(text: str, precision: int, scale: int, *, rounds: bool) -> Decimal | None:
    """By Python's decimals, which are exact."""
    if not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    if value and value.adjusted() > _MOST_DIGITS:
        return None  # and Python would write out all of its zeros
    rounded = value.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP, context=_EXACT)
    if rounded != value and not rounds:
        return None
    return rounded if abs(rounded) < Decimal(10) ** (precision - scale) else None


def shown(cases: Iterable[str], found: Iterable[Decimal | None]) -> dict[str, str | None]:
    """By case, so that a difference names it; as text, so that 1.5 is not 1.50."""
    return {n: None if f is None else str(f) for n, f in zip(cases, found, strict=True)}


def decimals(
    spark: SparkSession, texts: Sequence[str], precision: int, scale: int, *, rounds: bool
) -> list[Decimal | None]:
    return each(spark, texts, lambda c: parse.parse_decimal(c, precision, scale, rounds=rounds))


# By name: text, its decimal(12,2) where more places are rounded.
DECIMALS = {
    "plain": ("1234.5", "1234.50"),
    "signs": ("+1", "1.00"),
    "no digit before the point": ("-.5", "-0.50"),
    "no digit after the point": ("7.", "7.00"),
    "blanks around it": ("\t 1.5\r\n", "1.50"),
    "a no-break space before it": ("\u00a01.5", "1.50"),
    "a byte order mark before it": ("\ufeff1.5", "1.50"),
    "a half rounds up": ("0.005", "0.01"),
    "a negative half rounds away from zero": ("-0.005", "-0.01"),
    "what a double cannot hold": ("1.005", "1.01"),
    "just below a half": ("0.00499999999995", "0.00"),
    "an exponent": ("1e3", "1000.00"),
    "a capital exponent": ("1.2345E2", "123.45"),
    "a negative exponent": ("5e-1", "0.50"),
    "the tiny exponent of real data": ("1.3322699999999999e-15", "0.00"),
    "an exponent that lifts a half": ("4.5e-3", "0.00"),
    "an exponent that rounds up": ("5e-3", "0.01"),
    "zero with a huge exponent": ("0e999999", "0.00"),
    "an exponent below everything": ("-1e-400", "0.00"),
    "more digits than the engines read": ("1.5" + "0" * 80, "1.50"),
    "many leading zeros": ("0" * 80 + "1.5", "1.50"),
    "the largest": ("9999999999.994", "9999999999.99"),
    "rounded over the largest": ("9999999999.995", None),
    "an exponent over the largest": ("1e10", None),
    "an exponent over everything": ("1e400", None),
    "empty": ("", None),
    "blank": ("  ", None),
    "NULL": (None, None),
    "words": ("abc", None),
    "grouped, undeclared": ("1,234.50", None),
    "two signs": ("--1", None),
    "only a sign": ("-", None),
    "only a point": (".", None),
    "only an exponent": ("e5", None),
    "an unfinished exponent": ("1e", None),
    "not a number": ("NaN", None),
    "infinity": ("Infinity", None),
    "Java's suffix": ("1d", None),
    "Python's underscore": ("1_000", None),
    "hexadecimal": ("0x10", None),
    "digits of another script": ("\u0661", None),
    "digits of another script with an exponent": ("\u0661e2", None),
    "a blank inside": ("1 2", None),
    "a line separator after it": ("12\u2028", None),
}


# Those that are rounded. The zero is zero, however small its unit.
MORE_PLACES = {
    "a half rounds up",
    "a negative half rounds away from zero",
    "what a double cannot hold",
    "just below a half",
    "the tiny exponent of real data",
    "an exponent that lifts a half",
    "an exponent that rounds up",
    "an exponent below everything",
    "the largest",
}


def test_a_decimal_is_rounded_exactly_where_its_column_says_so(spark: SparkSession) -> None:
    texts = [text for text, _ in DECIMALS.values()]
    found = each(spark, texts, lambda c: parse.parse_decimal(c, 12, 2, rounds=True))
    assert shown(DECIMALS, found) == {name: value for name, (_, value) in DECIMALS.items()}


def test_a_decimal_with_more_places_than_its_type_is_not_read(spark: SparkSession) -> None:
    texts = [text for text, _ in DECIMALS.values()]
    found = each(spark, texts, lambda c: parse.parse_decimal(c, 12, 2))
    exact = {name: value for name, (_, value) in DECIMALS.items()}
    assert shown(DECIMALS, found) == exact | dict.fromkeys(MORE_PLACES)


def test_zeros_are_no_places(spark: SparkSession) -> None:
    texts = ["1.5000", "-1.50000e0", "150.000e-2", "1.500001", "1e-2", "10e-3", "1e-3", "0.000e-9"]
    found = each(spark, texts, lambda c: parse.parse_decimal(c, 12, 2))
    values = ["1.50", "-1.50", "1.50", "None", "0.01", "0.01", "None", "0.00"]
    assert [str(f) for f in found] == values


digits = st.text("0123456789", max_size=45)
numbers = st.builds(
    lambda sign, whole, point, fraction, exponent: sign + whole + point + fraction + exponent,
    st.sampled_from(["", "-", "+"]),
    digits,
    st.sampled_from(["", "."]),
    digits,
    st.one_of(st.just(""), st.integers(-60, 60).map(lambda e: f"e{e}")),
)


@pytest.mark.property
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    texts=st.lists(st.one_of(numbers, st.text("0123456789.eE+-", max_size=9)), max_size=60),
    size=st.sampled_from([(12, 2), (18, 4), (38, 18), (38, 0), (5, 5), (1, 0)]),
    rounds=st.booleans(),
)
def test_decimals_equal_pythons(
    spark: SparkSession, texts: list[str], size: tuple[int, int], *, rounds: bool
) -> None:
    expected = [naive_decimal(text, *size, rounds=rounds) for text in texts]
    assert decimals(spark, texts, *size, rounds=rounds) == expected


DECLARED: dict[NumberMarks, dict[str, str | None]] = {
    NumberMarks(grouping=","): {
        "1,234.50": "1234.50",
        "1,234,567": "1234567.00",
        "-1,234.5": "-1234.50",
        "1234.50": "1234.50",
        "0.50": "0.50",
        "1,23": None,
        "1,2345": None,
        "12,34,567": None,
        ",123": None,
        ",1,234": None,
        "1,,234": None,
        "1,234,": None,
        "1,234e1": None,
        "1234,567": None,
        # Such zeros stand before a fraction, in a file that was declared wrongly.
        "0,001": None,
        "-0,001.5": None,
        "000,000,012": None,
        "0,1,234": None,
        # Thirty-nine digits.
        "1" + ",000" * 13: None,
        "1" + ",000" * 14: None,
    },
    NumberMarks(decimal_mark=",", grouping="."): {
        "1.234,50": "1234.50",
        "1.000": "1000.00",
        "1234,5": "1234.50",
        "0,5": "0.50",
        "1.23": None,
        "0.001": None,
        "1,000.50": None,
    },
    # The point groups, so that the fraction's mark can only be the comma.
    NumberMarks(grouping="."): {"1.234,50": "1234.50", "1.23": None},
    NumberMarks(decimal_mark=","): {"1.5": None, "1,5": "1.50"},
    NumberMarks(decimal_mark=",", grouping=" "): {
        "1 234,50": "1234.50",
        "1\u202f234,50": "1234.50",
        "1 23": None,
        "- 1 234": None,
    },
    NumberMarks(grouping="'"): {"1'234.50": "1234.50"},
    NumberMarks(grouping=",", group_sizes=(3, 2)): {
        "12,34,567.5": "1234567.50",
        "1,23,45,678": "12345678.00",
        "1,234": "1234.00",
        "99,999": "99999.00",
        "567": "567.00",
        "123,456": None,
        "12,345,678": None,
        "0,12,345": None,
    },
    NumberMarks(grouping=",", group_sizes=(4,)): {"1,2345": "12345.00", "12,345": None},
    NumberMarks(currency="$"): {
        "$6.62 ": "6.62",
        "-$6.62": "-6.62",
        "$-6.62": "-6.62",
        "(5.00)": "-5.00",
        "($5.00)": "-5.00",
        "( $5.00 )": "-5.00",
        "(1e3)": "-1000.00",
        "(5.00": None,
        "((5.00))": None,
        "(5)(6)": None,
        "()": None,
        "(-5.00)": None,
        "-$-5.00": None,
        "£6.62": None,
        "$": None,
        "6.62": "6.62",
    },
    NumberMarks(grouping=",", currency="$"): {"$ 1,234.50": "1234.50", "$1,23": None},
    NumberMarks(grouping=".", currency="€"): {"1.234,50 €": "1234.50", "€ 1.23": None},
    NumberMarks(grouping="\u2019", currency="CHF"): {"CHF 1\u2019234.50": "1234.50"},
    NumberMarks(currency="kr"): {"12 kr": "12.00"},
    NumberMarks(): {"(5.00)": None},
}


@pytest.mark.parametrize("marks", DECLARED, ids=repr)
def test_a_number_is_parsed_as_its_column_declares(spark: SparkSession, marks: NumberMarks) -> None:
    cases = DECLARED[marks]

    def build(column: Column) -> Column:
        decimal = parse.parse_decimal(column, 12, 2, marks)
        double = parse.parse_double(column, marks)
        whole = parse.parse_integer(column, "bigint", marks)
        return F.struct(decimal.alias("decimal"), double.alias("double"), whole.alias("whole"))

    found = each(spark, [*cases], build)
    assert shown(cases, [row["decimal"] for row in found]) == cases
    values = {text: None if value is None else Decimal(value) for text, value in cases.items()}
    for (text, value), row in zip(values.items(), found, strict=True):
        if value is not None or len(text) < _MOST_DIGITS:
            assert row["double"] == (None if value is None else float(value)), text
        is_whole = value is not None and value == value.to_integral_value() and "e" not in text
        if len(text) < _MOST_DIGITS:
            assert row["whole"] == (int(value) if is_whole and value is not None else None), text


INTEGERS = [
    ("1", 1, 1),
    (" -7 ", -7, -7),
    ("+7", 7, 7),
    ("00012", 12, 12),
    ("12.0", 12, 12),
    ("12.", 12, 12),
    ("-12.00", -12, -12),
    ("12.0000", 12, 12),
    # A thousand, or one with three places? Nobody can say.
    ("1.000", None, None),
    ("-12.000", None, None),
    ("1.000.000", None, None),
    ("2147483647", 2**31 - 1, 2**31 - 1),
    ("2147483648", None, 2**31),
    ("-9223372036854775808", None, -(2**63)),
    ("9223372036854775808", None, None),
    ("12.5", None, None),
    ("1e3", None, None),
    (".0", None, None),
    ("1,234", None, None),
    ("\u0661", None, None),
    ("", None, None),
    ("x", None, None),
    (None, None, None),
]


def test_an_integer_is_parsed_whole_or_not_at_all(spark: SparkSession) -> None:
    texts = [text for text, _, _ in INTEGERS]
    as_int = each(spark, texts, lambda c: parse.parse_integer(c, "int"))
    as_bigint = each(spark, texts, lambda c: parse.parse_integer(c, "bigint"))
    assert [*zip(texts, as_int, as_bigint, strict=True)] == INTEGERS


def test_an_integer_may_have_thousands_marks_where_they_belong(spark: SparkSession) -> None:
    texts = ["1,234", "1,234,567", "12,34", "1234", "1,234.0", "1,234.000", "0,001"]
    marks = NumberMarks(grouping=",")
    found = each(spark, texts, lambda c: parse.parse_integer(c, marks=marks))
    assert found == [1234, 1234567, None, 1234, 1234, 1234, None]


def test_an_integer_with_a_unit_is_the_number_before_it(spark: SparkSession) -> None:
    marks = NumberMarks(grouping=".", currency="Stk")
    texts = ["6 Stk", "1.234 Stk", "7", "(3 Stk)", "6 Stück", "1.23 Stk", "1,0 Stk"]
    found = each(spark, texts, lambda c: parse.parse_integer(c, "int", marks))
    assert found == [6, 1234, 7, -3, None, None, 1]


def test_a_double_is_finite_and_written_in_digits(spark: SparkSession) -> None:
    texts = ["1.5", "-1e-3", " 2 ", ".5", "0e5", "1e400", "-1e400", "NaN", "inf", "1d", "x", ""]
    found = each(spark, [*texts, None], parse.parse_double)
    assert found == [1.5, -0.001, 2.0, 0.5, 0.0, *[None] * 8]


def test_a_number_too_small_for_a_double_is_no_zero(spark: SparkSession) -> None:
    texts = ["1e-400", "-0.001e-999", "0.00e-400", "4.9e-324", "-0.0", "0"]
    found = each(spark, texts, parse.parse_double)
    assert found == [None, None, 0.0, 4.9e-324, 0.0, 0.0]


def test_a_negative_zero_is_zero(spark: SparkSession) -> None:
    (found,) = each(spark, ["-0.0"], parse.parse_double)
    assert math.copysign(1, found) == 1


def test_a_double_becomes_the_decimal_that_it_is_printed_as(spark: SparkSession) -> None:
    values = [1.005, 0.285, -1.005, 2.675, 1e-7, 123456.785, 1e10, -0.0, 1e16, math.nan, math.inf]
    found = each(spark, values, lambda c: parse.cast_to(c, "decimal(18,2)", "double"), "double")
    texts = ["1.01", "0.29", "-1.01", "2.68", "0.00", "123456.79", "10000000000.00", "0.00"]
    assert [str(f) for f in found] == [*texts, "None", "None", "None"]


def test_a_large_double_becomes_the_whole_number_that_it_is(spark: SparkSession) -> None:
    # Java 17 prints the first with a digit too many.
    values = [6.5582631331355956e18, 2.0**60 + 2**10, -(2.0**62)]
    found = each(spark, values, lambda c: parse.cast_to(c, "decimal(38,2)", "double"), "double")
    assert found == [Decimal(int(value)) for value in values]


def test_a_decimal_rounds_half_away_from_zero(spark: SparkSession) -> None:
    values = [Decimal(v) for v in ("0.125", "-0.125", "0.135", "99.994", "99.995", "0.1249")]
    found = each(
        spark, [*values, None], lambda c: parse.cast_to(c, "decimal(4,2)"), "decimal(18,4)"
    )
    assert [str(f) for f in found] == ["0.13", "-0.13", "0.14", "99.99", "None", "0.12", "None"]
