"""Expressions of calculated columns: values and faults, alike on both engines."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from headrace.engine.checked_expression import (
    BY_ZERO,
    OUT_OF_RANGE,
    UNCASTABLE,
    checked_column,
)
from headrace.engine.sql_expression import parse_expression
from headrace.errors import ConfigError
from headrace.schema import arrow_type

TYPES = {
    "i": "int",
    "n": "bigint",
    "zero": "bigint",
    "nothing": "bigint",
    "most": "bigint",
    "least_n": "bigint",
    "price": "decimal(18,4)",
    "rate": "decimal(6,4)",
    "big": "decimal(38,2)",
    "x": "double",
    "huge": "double",
    "t": "string",
    "word": "string",
    "yes": "boolean",
    "d": "date",
    "at": "timestamp",
}
ROW = {
    "i": 2_147_483_647,
    "n": 7,
    "zero": 0,
    "nothing": None,
    "most": 2**63 - 1,
    "least_n": -(2**63),
    "price": Decimal("1234.5678"),
    "rate": Decimal("0.1900"),
    "big": Decimal("999999999999999999999999999999999999.99"),
    "x": 0.1,
    "huge": 1e308,
    "t": " 42 ",
    "word": "Straße",
    "yes": True,
    "d": dt.date(2024, 2, 29),
    "at": dt.datetime(2024, 2, 29, 23, 59, 58),  # wall-clock time
}


def evaluated(
    spark: SparkSession, cases: list[tuple[str, str]], row: dict[str, Any] = ROW
) -> list[tuple[Any, list[str]]]:
    """Of each expression and type, the value in one row, and the faults that hold."""
    table = pa.table(
        {name: pa.array([row[name]], arrow_type(kind)) for name, kind in TYPES.items()}
    )
    found = [checked_column(sql, kind, TYPES) for sql, kind in cases]
    columns = []
    for number, one in enumerate(found):
        columns.append(one.value.alias(f"value_{number}"))
        columns += [h.alias(f"fault_{number}_{i}") for i, (_, h) in enumerate(one.faults)]
    [result] = spark.createDataFrame(table).select(*columns, F.lit(1).alias("_")).collect()
    return [
        (
            result[f"value_{number}"],
            sorted({why for i, (why, _) in enumerate(one.faults) if result[f"fault_{number}_{i}"]}),
        )
        for number, one in enumerate(found)
    ]


CASES: dict[str, tuple[str, Any]] = {
    "i + 1": ("bigint", 2**31),
    "most * zero": ("bigint", 0),
    "n * price": ("decimal(30,4)", Decimal("8641.9746")),
    "price * rate": ("decimal(18,2)", Decimal("234.57")),
    "price * rate ": ("decimal(18,8)", Decimal("234.56788200")),
    "price - rate + 1": ("decimal(20,4)", Decimal("1235.3778")),
    "n / 2": ("double", 3.5),
    "price / n": ("decimal(12,2)", Decimal("176.37")),
    "1 / 8.0": ("decimal(4,2)", Decimal("0.13")),
    "n % 4 + -n % 4": ("bigint", 0),
    "least_n % -1": ("bigint", 0),
    "x + x + x": ("double", 0.1 + 0.1 + 0.1),
    "-x * 0": ("double", 0.0),
    "nothing + 1": ("bigint", None),
    "nothing / zero": ("double", None),
    "2 + 3 * 4 - (1 - 2)": ("int", 15),
    "0.285": ("decimal(4,2)", Decimal("0.29")),
    "round(price, 1)": ("decimal(18,1)", Decimal("1234.6")),
    "round(-0.5)": ("decimal(3,0)", Decimal(-1)),
    "abs(-n) + abs(x - 1) * 0": ("double", 7.0),
    "abs(-1.5)": ("decimal(3,1)", Decimal("1.5")),
    # Berlin to Paris; from pole to pole; across the antimeridian.
    "distance(52.5200, 13.4050, 48.8566, 2.3522)": ("double", 877464.538),
    "distance(90, 0, -90, 77)": ("double", 20015114.442),
    "distance(0.0, 179.5, 0.0, -179.5)": ("double", 111195.08),
    "distance(x, x, x, x)": ("double", 0.0),
    "distance(nothing, 0, 0, 0)": ("double", None),
    "cast(t as int)": ("int", 42),
    "cast(' ' as int)": ("int", None),
    "try_cast(word as int)": ("int", None),
    "cast(price as int)": ("int", 1234),
    "cast(n as string) || '-' || word": ("string", "7-Straße"),
    "cast(0.1 as double)": ("double", 0.1),
    "cast('2024-02-29' as date)": ("date", dt.date(2024, 2, 29)),
    "cast(at as date)": ("date", dt.date(2024, 2, 29)),
    "case when zero = 0 then 0 else n / zero end": ("double", 0.0),
    "case n when 7 then 'seven' when 8 then 'eight' end": ("string", "seven"),
    "case when nothing > 0 then 1 end": ("int", None),
    "if(yes and not (n > 7), 1, 2.5)": ("decimal(3,1)", Decimal("1.0")),
    "coalesce(nothing, n, most + 1)": ("bigint", 7),
    "zero = 0 or n / zero > 1": ("boolean", True),
    "zero <> 0 and n / zero > 1": ("boolean", False),
    "nothing is null and n is not null": ("boolean", True),
    "nothing <=> null": ("boolean", True),
    "nothing = null": ("boolean", None),
    "n in (1, 7) and word not in ('a', 'b')": ("boolean", True),
    "n between 1 and 6.5": ("boolean", False),
    "nullif(n, 7)": ("bigint", None),
    "greatest(n, nothing, 9)": ("bigint", 9),
    "least(price, rate)": ("decimal(18,4)", Decimal("0.1900")),
    "upper(word)": ("string", "STRASSE"),
    "lower('ÄB')": ("string", "äb"),
    "length(word)": ("int", 6),
    "substring(word, 5, 9)": ("string", "ße"),
    "replace(word, 'a', 'o')": ("string", "Stroße"),
    "trim(t)": ("string", "42"),
    "startswith(word, 'St') and endswith(word, 'e') and contains(word, 'ra')": ("boolean", True),
    "word like 'Str%' and word rlike '^S[a-z]+ß'": ("boolean", True),
    "'it''s'": ("string", "it's"),
    "concat(word, null)": ("string", None),
    "year(d) * 10000 + month(d) * 100 + day(d)": ("int", 20_240_229),
    "quarter(d) + dayofweek(d) + dayofyear(d)": ("int", 1 + 5 + 60),
    "hour(at) * 3600 + minute(at) * 60 + second(at)": ("int", 86_398),
    "date_add(d, 1)": ("date", dt.date(2024, 3, 1)),
    "date_sub(d, n)": ("date", dt.date(2024, 2, 22)),
    "datediff(d, date '2024-01-01')": ("int", 59),
    "last_day(d)": ("date", dt.date(2024, 2, 29)),
    "trunc(d, 'quarter')": ("date", dt.date(2024, 1, 1)),
    "trunc(d, 'week')": ("date", dt.date(2024, 2, 26)),
    "d >= date '2024-02-29' and at < timestamp '2024-03-01 00:00:00'": ("boolean", True),
    "null": ("string", None),
    "`n`": ("bigint", 7),
}


def test_an_expression_has_the_value_that_the_page_documents(spark: SparkSession) -> None:
    cases = [(sql, kind) for sql, (kind, _) in CASES.items()]
    found = dict(zip(CASES, evaluated(spark, cases), strict=True))
    wanted: dict[str, tuple[Any, list[str]]] = {s: (value, []) for s, (_, value) in CASES.items()}
    assert {sql: f for sql, f in found.items() if f != wanted[sql]} == {}
    shown = {sql: str(value) for sql, (value, _) in found.items()}
    assert shown == {sql: str(value) for sql, (_, value) in CASES.items()}


FAULTS = {
    "most + 1": ("bigint", OUT_OF_RANGE),
    "least_n - 1": ("bigint", OUT_OF_RANGE),
    "most * most": ("bigint", OUT_OF_RANGE),
    "-least_n": ("bigint", OUT_OF_RANGE),
    "abs(least_n)": ("bigint", OUT_OF_RANGE),
    "i + 1": ("int", OUT_OF_RANGE),
    "n + 1.5": ("decimal(2,1)", None),
    "n * 100": ("decimal(4,2)", OUT_OF_RANGE),
    "big * 10": ("decimal(38,2)", OUT_OF_RANGE),
    "big + big": ("decimal(38,2)", OUT_OF_RANGE),
    "huge * 10": ("double", OUT_OF_RANGE),
    "x / 0": ("double", BY_ZERO),
    "n / zero": ("double", BY_ZERO),
    "n % zero": ("bigint", BY_ZERO),
    "coalesce(n / zero, 1)": ("double", BY_ZERO),
    "case when n / zero > 1 then 1 else 2 end": ("int", BY_ZERO),
    "case when n > 1 then n / zero end": ("double", BY_ZERO),
    "n > 1 and n / zero > 1": ("boolean", BY_ZERO),
    "nothing is null or n / zero > 1": ("boolean", None),
    "distance(91, 0, 0, 0)": ("double", OUT_OF_RANGE),
    "distance(0, 0, 0, -180.5)": ("double", OUT_OF_RANGE),
    "cast(word as int)": ("int", UNCASTABLE),
    "cast('2024-02-30' as date)": ("date", UNCASTABLE),
    "cast(most as int)": ("int", OUT_OF_RANGE),
    "cast(huge as bigint)": ("bigint", OUT_OF_RANGE),
    "try_cast(word as int) + most + 1": ("bigint", None),
    "date_add(d, most)": ("date", OUT_OF_RANGE),
    "date_sub(d, least_n)": ("date", OUT_OF_RANGE),
    "date_add(date '9999-12-31', 1)": ("date", OUT_OF_RANGE),
}


def test_overflow_and_division_by_zero_are_faults_of_the_row_on_both_engines(
    spark: SparkSession,
) -> None:
    cases = [(sql, kind) for sql, (kind, _) in FAULTS.items()]
    found = dict(zip(FAULTS, evaluated(spark, cases), strict=True))
    wanted: dict[str, list[str]] = {sql: [why] if why else [] for sql, (_, why) in FAULTS.items()}
    assert {sql: faults for sql, (_, faults) in found.items()} == wanted
    is_null = {sql for sql, (value, faults) in found.items() if faults and value is not None}
    assert is_null <= {"coalesce(n / zero, 1)", "case when n / zero > 1 then 1 else 2 end"}


@pytest.mark.parametrize(
    ("sql", "kind", "why"),
    [
        ("amount + 1", "int", "there is no column 'amount'"),
        ("prise", "int", "did you mean price?"),
        ("now()", "timestamp", "'now' is not one of"),
        ("rand() * 2", "double", "'rand' is not one of"),
        ("sum(n)", "bigint", "'sum' is not one of"),
        ("uper(word)", "string", "did you mean upper?"),
        ("word + 1", "int", "+ has an operand of type string"),
        ("d + 1", "date", "+ has an operand of type date"),
        ("word = 1", "boolean", "= has operands of the types bigint, string"),
        ("d > '2024-01-01'", "boolean", "= has operands of the types".replace("=", ">")),
        ("n / 2", "bigint", "is a double, not a bigint"),
        ("n", "string", "is a bigint, not a string"),
        ("price", "bigint", "is a decimal(18,4), not a bigint"),
        ("cast(n as varchar(3))", "string", "there is no type varchar(3)"),
        ("cast(x as string)", "string", "a double cannot be cast to string"),
        ("n +", "int", "unexpected the end at character 4"),
        ("n::int", "int", "unexpected : at character 2"),
        ('"n"', "int", 'unexpected " at character 1'),
        ("(select 1)", "int", "unexpected 1 at character 9"),
        ("n; n", "int", "unexpected ; at character 2"),
        ("s.n", "int", "unexpected . at character 2"),
        ("n -- units", "int", "unexpected -- at character 3"),
        ("", "int", "unexpected the end at character 1"),
        ("word rlike '\\d'", "boolean", "has a backslash in the text at character 12"),
        ("word like word", "boolean", "like has a pattern that is no constant"),
        ("round(x, 2)", "decimal(4,2)", "round of a double"),
        ("substring(word, -2, 2)", "string", "substring has a place that is no constant"),
        ("if(n, 1, 2)", "int", "case has an operand of type bigint"),
        ("upper()", "string", "upper has 0 operands"),
        (
            "cast(n as decimal(38,15)) * cast(n as decimal(38,15))",
            "decimal(38,2)",
            "more than 38 digits",
        ),
        ("99999999999999999999", "decimal(38,0)", "is no bigint"),
        ("trunc(d, 'day')", "date", "'day' is not one of week, month, quarter, year"),
        ("date '2024-02-30'", "date", "date '2024-02-30' is no date"),
        ("(" * 61 + "n" + ")" * 61, "int", "nested more than 60 deep"),
    ],
)
def test_an_expression_that_cannot_be_evaluated_is_refused_with_its_fault(
    sail: SparkSession, sql: str, kind: str, why: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        checked_column(sql, kind, TYPES)
    assert why in str(refused.value)
    assert refused.value.fix


# An oracle on Python's exact numbers, over trees of whole numbers.
_NUMBERS = st.one_of(
    st.integers(-5, 5), st.sampled_from([2**31, -(2**31), 2**62, -(2**62), 2**63 - 1])
)


@st.composite
def arithmetic(draw: st.DrawFn, depth: int = 3) -> tuple[str, int | None, bool]:
    """An expression of whole numbers, its value, and whether it has a fault."""
    if depth == 0 or draw(st.booleans()):
        number = draw(_NUMBERS)
        return (f"({number})", number, False)
    left, a, is_faulty = draw(arithmetic(depth=depth - 1))
    right, b, is_faulty_too = draw(arithmetic(depth=depth - 1))
    mark = draw(st.sampled_from("+-*%"))
    is_bad = is_faulty or is_faulty_too
    if a is None or b is None:
        return (f"({left} {mark} {right})", None, is_bad)
    if mark == "%":
        value = None if b == 0 else (abs(a) % abs(b)) * (-1 if a < 0 else 1)
    else:
        value = {"+": a + b, "-": a - b, "*": a * b}[mark]
    if value is None or not -(2**63) <= value < 2**63:
        return (f"({left} {mark} {right})", None, True)
    return (f"({left} {mark} {right})", value, is_bad)


@given(cases=st.lists(arithmetic(), min_size=20, max_size=20))
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whole_numbers_are_exact_or_have_a_fault(
    spark: SparkSession, cases: list[tuple[str, int | None, bool]]
) -> None:
    found = evaluated(spark, [(sql, "bigint") for sql, _, _ in cases])
    assert [(value, bool(faults)) for value, faults in found] == [
        (value, is_bad) for _, value, is_bad in cases
    ]


def test_operators_bind_as_in_sql() -> None:
    same = {
        "a or b and not c = d": "a or (b and (not (c = d)))",
        "a + b * c || d": "(a + (b * c)) || d",
        "- a * b": "(- a) * b",
        "a between 1 and 2 and b": "(a between 1 and 2) and b",
        "not a is null": "not (a is null)",
        "a - b - c": "(a - b) - c",
    }
    assert {k: parse_expression(k) for k in same} == {
        k: parse_expression(v) for k, v in same.items()
    }
