"""Values of MariaDB arrive equal, or their row is set aside with the column's name."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.contract.mysql_tables import MysqlTable
from tests.contract.tables import DAY, NEXT

pytestmark = pytest.mark.contract

_LONG = "x" * 70_000


def captured(folder: Path, database_type: str, declared: str, *values: Any) -> list[Any]:
    """What raw holds of values of a type: the value, or the text and reason of a corrupt row."""
    table = MysqlTable(
        folder,
        f"create table {{}} (id int primary key, sold_on date, v {database_type})",
        columns=[
            {"name": "id", "type": "int"},
            {"name": "sold_on", "type": "date"},
            {"name": "v", "type": declared},
        ],
    )
    for number, value in enumerate(values):
        table.write("insert into {table} values (%s, '2017-01-01', %s)", number, value)
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
    ("database_type", "declared", "values", "expected"),
    [
        ("tinyint", "int", [-128, 127, None], [-128, 127, None]),
        ("int", "int", [-(2**31), 2**31 - 1], [-(2**31), 2**31 - 1]),
        ("int(8) zerofill", "bigint", [42], [42]),
        ("int unsigned", "bigint", [2**32 - 1], [2**32 - 1]),
        ("bigint", "bigint", [-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
        ("bigint unsigned", "bigint", [2**63 - 1], [2**63 - 1]),
        ("bigint unsigned", "decimal(20,0)", [2**64 - 1], [Decimal(2**64 - 1)]),
        ("int", "decimal(12,2)", [7], [Decimal("7.00")]),
        ("tinyint(1)", "boolean", [1, 0, None], [True, False, None]),
        ("tinyint(1)", "int", [1, 7], [1, 7]),
        ("bit(1)", "boolean", [1, 0, None], [True, False, None]),
        ("bit(9)", "int", [257], [257]),
        ("bit(64)", "decimal(20,0)", [2**64 - 1], [Decimal(2**64 - 1)]),
        ("double", "double", [1e-300, 0.1, -1.5e300, None], [1e-300, 0.1, -1.5e300, None]),
        ("float", "double", [16777217, 0.5, 1.1], [16777216.0, 0.5, 1.100000023841858]),
        (
            "decimal(38,18)",
            "decimal(38,18)",
            ["99999999999999999999.999999999999999999", "-0.000000000000000001"],
            [Decimal("99999999999999999999.999999999999999999"), Decimal("-0.000000000000000001")],
        ),
        ("decimal(65,30)", "decimal(12,2)", ["1.5", "-7"], [Decimal("1.50"), Decimal("-7.00")]),
        (
            "decimal(65,30)",
            "string",
            ["12345678901234567890123456789012345.000000000000000000000000000001"],
            ["12345678901234567890123456789012345.000000000000000000000000000001"],
        ),
        ("date", "date", ["1000-01-01", "9999-12-31"], [date(1000, 1, 1), date(9999, 12, 31)]),
        ("date", "string", ["0000-00-00", "2017-02-00"], ["0000-00-00", "2017-02-00"]),
        ("year", "int", ["1999", "0000"], [1999, 0]),
        (
            "datetime(6)",
            "timestamp",
            ["2017-03-26 02:30:00.5", "9999-12-31 23:59:59.999999", None],
            [
                datetime(2017, 3, 26, 2, 30, 0, 500000),
                datetime(9999, 12, 31, 23, 59, 59, 999999),
                None,
            ],
        ),
        ("datetime", "timestamp", ["2017-03-26 02:30:00"], [datetime(2017, 3, 26, 2, 30)]),
        (
            "timestamp(6) null",
            "timestamptz",
            ["2017-01-01 00:00:00.000001", "2038-01-19 03:14:07", None],
            [
                datetime(2017, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
                datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC),
                None,
            ],
        ),
        ("time(3)", "string", ["-838:59:59", "25:00:00.5"], ["-838:59:59.000", "25:00:00.500"]),
        (
            "text",
            "string",
            ["", None, "a\nb\r\nc", 'say "no"', "back\\slash", "\\N", "a,b", "äß漢字🎈", " x "],
            ["", None, "a\nb\r\nc", 'say "no"', "back\\slash", "\\N", "a,b", "äß漢字🎈", " x "],
        ),
        # Lengths of one, two and three bytes.
        ("longtext", "string", ["x" * 251, "y" * 65_536, _LONG], ["x" * 251, "y" * 65_536, _LONG]),
        ("varchar(9) character set latin1", "string", ["é€"], ["é€"]),
        ("char(4)", "string", ["ab"], ["ab"]),
        ("binary(3)", "string", [b"\x00\xff\x01"], ["\\x00ff01"]),
        ("blob", "string", [b"", b"\xff", None], ["\\x", "\\xff", None]),
        ("json", "string", ['{"a": [1, null]}'], ['{"a": [1, null]}']),
        ("enum('small', 'large')", "string", ["large"], ["large"]),
        ("set('a', 'b')", "string", ["a,b", ""], ["a,b", ""]),
        (
            "uuid",
            "string",
            ["00000000-0000-0000-0000-00000000000A"],
            ["00000000-0000-0000-0000-00000000000a"],
        ),
        ("inet6", "string", ["::1"], ["::1"]),
    ],
)
def test_a_value_arrives_equal(
    tmp_path: Path, database_type: str, declared: str, values: list[Any], expected: list[Any]
) -> None:
    assert captured(tmp_path, database_type, declared, *values) == expected


@pytest.mark.parametrize(
    ("database_type", "declared", "good", "bad"),
    [
        ("decimal(65,30)", "decimal(12,2)", "1", ["1.005", "12345678901"]),
        ("bigint unsigned", "bigint", "1", ["18446744073709551615"]),
        ("tinyint(1)", "boolean", "1", ["7", "-1"]),
        ("date", "date", "2017-01-01", ["0000-00-00", "2017-02-00"]),
        ("datetime", "timestamp", "2017-01-01 00:00:00", ["0000-00-00 00:00:00"]),
    ],
)
def test_a_value_that_the_type_does_not_hold_is_set_aside(
    tmp_path: Path, database_type: str, declared: str, good: str, bad: list[str]
) -> None:
    first, *others = captured(tmp_path, database_type, declared, good, *bad)
    assert not isinstance(first, tuple)
    assert [reason for _, reason in others] == [
        f"v: no {declared} holds this {'number' if 'decimal' in declared else 'value'}"
    ] * len(bad)
    if "decimal" not in declared:
        expected = [f"{number},2017-01-01,{text}" for number, text in enumerate(bad, start=1)]
        assert [text for text, _ in others] == expected


def test_a_text_with_a_nul_character_is_set_aside(tmp_path: Path) -> None:
    first, second = captured(tmp_path, "text", "string", "a", "a\0b")
    assert first == "a"
    assert second[1] == "a NUL character"


def test_a_row_of_more_than_one_packet_is_read(tmp_path: Path) -> None:
    table = MysqlTable(
        tmp_path,
        "create table {} (id bigint, sold_on date, name longtext, rest longtext)",
        columns=[
            {"name": "id", "type": "bigint"},
            {"name": "sold_on", "type": "date"},
            {"name": "name", "type": "string"},
            {"name": "rest", "type": "string"},
        ],
    )
    table.write(
        "insert into {table} values (1, '2017-01-01', 'a', 'b'),"
        " (2, '2017-01-01', repeat('n', 9000000), repeat('r', 9000001)),"
        " (3, '2017-01-01', repeat('n', 16777216), 'c'), (4, '2017-01-01', '', null)"
    )
    assert table.capture(DAY).rows == {DAY: 4}
    found = {row["id"]: (row["name"], row["rest"]) for row in table.rows()}
    assert (found[1], found[4]) == (("a", "b"), ("", None))
    assert found[2] == ("n" * 9_000_000, "r" * 9_000_001)
    assert found[3] == ("n" * 16_777_216, "c")


def test_names_that_need_quotes_are_quoted(tmp_path: Path) -> None:
    table = MysqlTable(
        tmp_path,
        "create table {} (id bigint, `Na me``x%%s` text, sold_on date)",
        columns=[
            {"name": "id", "type": "bigint"},
            {"name": "name", "type": "string", "from": "Na me`x%%s"},
            {"name": "sold_on", "type": "date"},
        ],
    )
    table.write("insert into {table} values (1, 'a', '2017-01-01')")
    table.capture(DAY)
    assert table.rows()[0]["name"] == "a"


def test_a_query_is_read_as_a_table_is(tmp_path: Path) -> None:
    table = MysqlTable(tmp_path)
    table.write("insert into {table} values (1, 'a', 10, '2017-01-01'), (2, 'b', 20, '2017-01-02')")
    query = f"select o.*, '%d {{}}' as more from {table.name} as o where amount > 5 -- the large"
    table.entity = table.declare(extract={"table": None, "query": query})
    assert table.capture(DAY).rows == {DAY: 1}
    assert table.rows()[0]["_source_object"] == "the query of orders"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("mode", ["full", "watermark"])
def test_rows_belong_to_the_local_day(tmp_path: Path, zone: str, mode: str) -> None:
    cursor = {"cursor": "at"} if mode == "watermark" else {}
    table = MysqlTable(
        tmp_path,
        "create table {} (id bigint, at timestamp(6) null)",
        columns=[{"name": "id", "type": "bigint"}, {"name": "at", "type": "timestamptz"}],
        timezone=zone,
        extract={"partition_by": "at", "mode": mode, **cursor},
    )
    day = [datetime(2017, 1, 1, hour, 59, 59, 999999, tzinfo=UTC) for hour in range(24)]
    for number, at in enumerate(day):
        table.write("insert into {table} values (%s, %s)", number, at)
    local = [at.astimezone(ZoneInfo(zone)).date() for at in day]
    window = table.capture(DAY, NEXT)
    assert window.failed == {}
    assert window.rows == {DAY: local.count(DAY), NEXT: local.count(NEXT)}


def test_days_that_do_not_exist_belong_to_the_first_partition(tmp_path: Path) -> None:
    table = MysqlTable(tmp_path)
    table.write(
        "insert into {table} values (1, 'a', 1, '2017-01-02'), (2, 'b', 1, '0000-00-00'),"
        " (3, 'c', 1, null), (4, 'd', 1, '2017-01-00')"
    )
    window = table.capture(DAY, NEXT)
    assert window.rows == {DAY: 3, NEXT: 1}
    assert sorted(row["_corrupt_record"] for row in table.rows(DAY)) == [
        "2,b,1,0000-00-00",
        "3,c,1,",
        "4,d,1,2017-01-00",
    ]
