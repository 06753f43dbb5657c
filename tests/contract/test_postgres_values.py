"""Values of PostgreSQL arrive equal, or their row is set aside with the column's name."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.contract.tables import DAY, Table

pytestmark = pytest.mark.contract


def captured(folder: Path, database_type: str, declared: str, *texts: str | None) -> list[Any]:
    """What raw holds of values of a type: the value, or the text and reason of a corrupt row."""
    table = Table(
        folder,
        f"create table {{}} (id int primary key, sold_on date, v {database_type})",
        columns=[
            {"name": "id", "type": "int"},
            {"name": "sold_on", "type": "date"},
            {"name": "v", "type": declared},
        ],
    )
    for number, text in enumerate(texts):
        insert = f"insert into {{table}} values (%s, '2017-01-01', %s::{database_type})"
        table.write(insert, number, text)
    window = table.capture(DAY)
    assert window.failed == {}
    rows = sorted(table.rows(), key=lambda row: row["_source_position"])
    return [
        row["v"]
        if row["_corrupt_record"] is None
        else (row["_corrupt_record"], row["_corrupt_reason"])
        for row in rows
    ]


@pytest.mark.parametrize(
    ("database_type", "declared", "texts", "expected"),
    [
        ("int2", "int", ["-32768", "32767", None], [-32768, 32767, None]),
        ("int4", "int", ["-2147483648", "2147483647"], [-(2**31), 2**31 - 1]),
        ("int8", "bigint", ["-9223372036854775808", "9223372036854775807"], [-(2**63), 2**63 - 1]),
        ("int4", "bigint", ["7"], [7]),
        ("int4", "decimal(12,2)", ["7"], [Decimal("7.00")]),
        ("bool", "boolean", ["true", "false", None], [True, False, None]),
        (
            "float8",
            "double",
            ["inf", "-inf", "1e-300", "0.1", None],
            [math.inf, -math.inf, 1e-300, 0.1, None],
        ),
        ("float4", "double", ["0.1"], [0.1]),
        (
            "numeric(38,18)",
            "decimal(38,18)",
            ["99999999999999999999.999999999999999999", "-0.000000000000000001"],
            [Decimal("99999999999999999999.999999999999999999"), Decimal("-0.000000000000000001")],
        ),
        ("numeric", "decimal(12,2)", ["1.500", "-7"], [Decimal("1.50"), Decimal("-7.00")]),
        ("numeric", "string", ["NaN", "1e40"], ["NaN", "1" + "0" * 40]),
        ("date", "date", ["0001-01-01", "9999-12-31"], [date(1, 1, 1), date(9999, 12, 31)]),
        (
            "date",
            "string",
            ["0044-03-15 BC", "infinity", "10000-01-01"],
            ["0044-03-15 BC", "infinity", "10000-01-01"],
        ),
        (
            "timestamptz",
            "timestamptz",
            ["2017-01-01 00:00:00.000001+02", "1969-12-31 23:59:59.999999+00", None],
            [
                datetime(2016, 12, 31, 22, 0, 0, 1, tzinfo=UTC),
                datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
                None,
            ],
        ),
        (
            "timestamp",
            "timestamp",
            ["2017-03-26 02:30:00.5"],
            [datetime(2017, 3, 26, 2, 30, 0, 500000)],
        ),
        (
            "text",
            "string",
            [
                "",
                None,
                "a\nb\r\nc",
                'say "no"',
                "back\\slash",
                "\\N",
                "a,b",
                "äß漢字🎈",
                " x ",
                "\t\b\f\v",
                "\\t\\\\n",
            ],
            [
                "",
                None,
                "a\nb\r\nc",
                'say "no"',
                "back\\slash",
                "\\N",
                "a,b",
                "äß漢字🎈",
                " x ",
                "\t\b\f\v",
                "\\t\\\\n",
            ],
        ),
        ("bytea", "string", ["\\x00ff", ""], ["\\x00ff", "\\x"]),
        ("text[]", "string", ['{a,"b,c",NULL,""}', None], ['{a,"b,c",NULL,""}', None]),
        ("int[][]", "string", ["{{1,2},{3,4}}"], ["{{1,2},{3,4}}"]),
        ("json", "string", ['{"a": [1, null]}'], ['{"a": [1, null]}']),
        (
            "uuid",
            "string",
            ["00000000-0000-0000-0000-00000000000A"],
            ["00000000-0000-0000-0000-00000000000a"],
        ),
        ("interval", "string", ["1 year 2 days 03:00"], ["P1Y2DT3H"]),
        ("inet", "string", ["10.0.0.1/8"], ["10.0.0.1/8"]),
        ("char(4)", "string", ["ab"], ["ab  "]),
        ("time", "string", ["23:59:60"], ["24:00:00"]),
    ],
)
def test_a_value_arrives_equal(
    tmp_path: Path, database_type: str, declared: str, texts: list[str | None], expected: list[Any]
) -> None:
    assert captured(tmp_path, database_type, declared, *texts) == expected


def test_not_a_number_arrives_as_it_is(tmp_path: Path) -> None:
    (found,) = captured(tmp_path, "float8", "double", "NaN")
    assert math.isnan(found)


@pytest.mark.parametrize(
    ("database_type", "declared", "good", "bad"),
    [
        ("numeric", "decimal(12,2)", "1.00", ["NaN", "Infinity", "1.005", "12345678901.00"]),
        ("numeric(20,4)", "decimal(12,2)", "1.0000", ["1.0050"]),
        ("int8", "decimal(5,2)", "1", ["1000"]),
        ("date", "date", "2017-01-01", ["0044-03-15 BC", "infinity", "-infinity", "10000-01-01"]),
        (
            "timestamptz",
            "timestamptz",
            "2017-01-01 00:00:00+00",
            ["0044-03-15 00:00:00+00 BC", "infinity", "10000-01-01 00:00:00+00"],
        ),
        ("timestamp", "timestamp", "2017-01-01 00:00:00", ["-infinity", "20000-01-01 00:00:00"]),
    ],
)
def test_a_value_that_the_type_does_not_hold_is_set_aside(
    tmp_path: Path, database_type: str, declared: str, good: str, bad: list[str]
) -> None:
    first, *others = captured(tmp_path, database_type, declared, good, *bad)
    assert not isinstance(first, tuple)
    assert others == [
        (
            f"{number},2017-01-01,{text}",
            f"v: no {declared} holds this {'number' if 'decimal' in declared else 'value'}",
        )
        for number, text in enumerate(bad, start=1)
    ]


def test_a_column_of_an_enum_or_a_domain_is_read_as_its_text_or_base_type(tmp_path: Path) -> None:
    table = Table(
        tmp_path,
        "create type mood as enum ('sad', 'happy'); create domain cents as int;"
        " create table {} (id cents primary key, name mood, amount int, sold_on date)",
        columns=[
            {"name": "id", "type": "int"},
            {"name": "name", "type": "string"},
            {"name": "sold_on", "type": "date"},
        ],
    )
    table.write("insert into {table} values (1, 'happy', 1, '2017-01-01')")
    assert table.capture(DAY).rows == {DAY: 1}
    assert (table.rows()[0]["id"], table.rows()[0]["name"]) == (1, "happy")


def test_names_that_need_quotes_are_quoted(tmp_path: Path) -> None:
    table = Table(
        tmp_path,
        'create table {} (id bigint, "Na me""x" text, sold_on date)',
        columns=[
            {"name": "id", "type": "bigint"},
            {"name": "name", "type": "string", "from": 'Na me"x'},
            {"name": "sold_on", "type": "date"},
        ],
    )
    table.write("insert into {table} values (1, 'a', '2017-01-01')")
    table.capture(DAY)
    assert table.rows()[0]["name"] == "a"


def test_a_query_is_read_as_a_table_is(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.write("insert into {table} values (1, 'a', 10, '2017-01-01'), (2, 'b', 20, '2017-01-02')")
    query = f"select *, '%d {{}}' as more from {table.name} where amount > 5 -- the large ones"
    table.entity = table.declare(extract={"table": None, "query": query})
    assert table.capture(DAY).rows == {DAY: 1}
    assert table.rows()[0]["_source_object"] == "the query of orders"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def test_rows_belong_to_the_local_day(tmp_path: Path, zone: str) -> None:
    table = Table(
        tmp_path,
        "create table {} (id bigint, at timestamptz)",
        columns=[{"name": "id", "type": "bigint"}, {"name": "at", "type": "timestamptz"}],
        timezone=zone,
        extract={"partition_by": "at"},
    )
    table.write(
        f"insert into {{table}} values (1, timestamp '2017-01-01 00:00' at time zone '{zone}'),"
        f" (2, timestamp '2017-01-01 23:59:59.999999' at time zone '{zone}'),"
        f" (3, timestamp '2017-01-02 00:00' at time zone '{zone}')"
    )
    assert table.capture(DAY).rows == {DAY: 2}
