import json
from datetime import date
from decimal import Decimal
from typing import Any

import httpx2
import pyarrow as pa
import pytest

from headrace.config.entities.columns import ColumnConfig
from headrace.errors import SourceRejectedError
from headrace.sources.rest.client import Page
from headrace.sources.rest.paginators import RecordPage
from headrace.sources.rest.records import RecordShape, read_records

ORDERS = [
    {"id": 1, "address": {"city": "Köln", "tags": ["a", "b"]}, "items": [{"sku": "x"}, {"sku": 7}]},
    {"id": 2, "address": None, "items": []},
    {"id": 3, "address": {"city": None, "tags": []}, "items": [{"sku": None}]},
]


def shape(*columns: str | dict[str, Any], **changes: Any) -> RecordShape:
    declared = [{"name": c, "type": "string"} if isinstance(c, str) else c for c in columns]
    models = [ColumnConfig.model_validate({"type": "string", **column}) for column in declared]
    return RecordShape(tuple(models), **{"records": "$.data[*]", **changes})


def page(records: Any, **more: Any) -> Page:
    document = json.loads(json.dumps({"data": records, **more}), parse_float=Decimal)
    return Page("http://api/orders", httpx2.URL("http://api/orders"), document, httpx2.Headers())


def rows(found: RecordShape, *records: Any, day: date | None = None) -> list[dict[str, Any]]:
    pages = [RecordPage(one, found.select(one)) for one in map(page, records)]
    batches = [*read_records(pages, found, "orders", day)]
    read = pa.Table.from_batches(batches).to_pylist() if batches else []
    return [{k: v for k, v in row.items() if not k.startswith("_corrupt")} for row in read]


def failure(found: RecordShape, *records: Any) -> str:
    with pytest.raises(SourceRejectedError) as caught:
        rows(found, *records)
    return f"{caught.value} | {caught.value.fix}"


def test_nested_objects_are_flattened_by_declared_paths() -> None:
    declared = shape(
        "id",
        {"name": "city", "from": "$.address.city"},
        {"name": "tag", "from": "$.address.tags[0]"},
        ignored=("items",),
    )
    assert rows(declared, ORDERS) == [
        {"id": "1", "city": "Köln", "tag": "a", "_source_position": 1},
        {"id": "2", "city": None, "tag": None, "_source_position": 2},
        {"id": "3", "city": None, "tag": None, "_source_position": 3},
    ]


def test_child_arrays_are_rows_of_their_own_with_columns_of_their_record() -> None:
    declared = shape({"name": "order_id", "from": "$.id"}, "sku", children="$.items[*]")
    assert rows(declared, ORDERS) == [
        {"order_id": "1", "sku": "x", "_source_position": 1},
        {"order_id": "1", "sku": "7", "_source_position": 2},
        {"order_id": "3", "sku": None, "_source_position": 3},
    ]


def test_an_answer_that_is_one_record_has_children() -> None:
    declared = shape({"name": "place", "from": "$.place"}, "h", records="$", children="$.data[*]")
    pages = [page([{"h": 0}, {"h": 1}], place="K")]
    found = [RecordPage(one, declared.select(one)) for one in pages]
    (batch,) = read_records(found, declared, "weather")
    assert batch.column("place").to_pylist() == ["K", "K"]
    assert batch.column("h").to_pylist() == ["0", "1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (0, "0"),
        (-12.50, "-12.5"),
        (9007199254740993, "9007199254740993"),
        (1e-7, "0.0000001"),
        (1e30, "1000000000000000000000000000000"),
        (1e300, "1E+300"),
        ("", ""),
        ("1.10", "1.10"),
        (None, None),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        ({"b": [1, 2.50, None, True, 'x"ü']}, '{"b":[1,2.5,null,true,"x\\"ü"]}'),
        ([], "[]"),
    ],
)
def test_values_are_captured_as_their_text(value: Any, text: str | None) -> None:
    assert rows(shape("v"), [{"v": value}])[0]["v"] == text


def test_numbers_lose_no_digit() -> None:
    declared = shape("v", "deep")
    body = b'{"data": [{"v": 1234567890123456789.012345678900, "deep": {"v": 0.10}}]}'
    document = json.loads(body, parse_float=Decimal)
    one = Page("u", httpx2.URL("http://u"), document, httpx2.Headers())
    (batch,) = read_records([RecordPage(one, declared.select(one))], declared, "orders")
    assert batch.column("v").to_pylist() == ["1234567890123456789.012345678900"]
    assert batch.column("deep").to_pylist() == ['{"v":0.10}']


def test_a_filter_compares_numbers_as_numbers() -> None:
    declared = shape("id", records="$.data[?@.amount > 9.5]")
    found = rows(
        RecordShape(declared.columns, declared.records, None, "ignore"),
        [{"id": 1, "amount": 10}, {"id": 2, "amount": 9.25}, {"id": 3, "amount": 9.75}],
    )
    assert [row["id"] for row in found] == ["1", "3"]


def test_a_column_that_no_record_has_is_named() -> None:
    said = failure(
        shape("id", {"name": "town", "from": "$.address.town"}, ignored=("items",)), ORDERS
    )
    assert "orders: column '$.address.town' is missing: no record has it" in said
    assert "optional: true" in said
    some = [{"id": 1}, {"id": 2, "note": "x"}]
    assert [row["note"] for row in rows(shape("id", "note"), some)] == [None, "x"]
    assert rows(shape("id", {"name": "note", "optional": True}), [{"id": 1}])[0]["note"] is None
    since = {"name": "note", "since": "2017-02-01"}
    assert len(rows(shape("id", since), [{"id": 1}], day=date(2017, 1, 31))) == 1
    with pytest.raises(SourceRejectedError, match="'note' is missing"):
        rows(shape("id", since), [{"id": 1}], day=date(2017, 2, 1))


def test_a_member_that_no_column_reads_is_named() -> None:
    said = failure(shape("id"), [{"id": 1}], [{"id": 2, "chanel": "x"}])
    assert "orders: column 'chanel' is not declared" in said
    assert "extra_columns: ignore" in said
    assert "ann@example.com" not in failure(shape("id"), [{"id": 2, "ann@example.com": "x"}])
    assert len(rows(shape("id", extra_columns="ignore"), [{"id": 2, "chanel": "x"}])) == 1


def test_a_renamed_member_is_read_under_either_name() -> None:
    declared = shape("id", {"name": "total", "from": ["amount", "total"]})
    found = rows(declared, [{"id": 1, "amount": 5}, {"id": 2, "total": 6}])
    assert [row["total"] for row in found] == ["5", "6"]
    said = failure(declared, [{"id": 1, "amount": 5, "total": 5}])
    assert "column 'total' is there as amount and as total" in said


def test_children_that_no_record_has_are_named() -> None:
    assert "no record has $.lines[*]; a record is an object with id, address, items" in failure(
        shape("sku", children="$.lines[*]"), ORDERS
    )
    assert "$.id[*] is a number in a record, and no array" in failure(
        shape("sku", children="$.id[*]"), ORDERS
    )


def test_records_that_are_no_objects_are_named() -> None:
    assert "element 1 of $.data[*] is a number, and no object" in failure(
        shape("id"), [{"id": 1}, 2]
    )


def test_a_nul_character_makes_a_corrupt_row() -> None:
    declared = shape("id", "note")
    one = page([{"id": 1, "note": "a\0b"}, {"id": 2, "note": "c"}])
    (batch,) = read_records([RecordPage(one, declared.select(one))], declared, "orders")
    assert batch.column("_corrupt_reason").to_pylist() == ["a NUL character", None]


def test_half_a_character_makes_a_corrupt_row() -> None:
    """An API that cuts texts at 16 bits of UTF-16 leaves halves of emojis."""
    declared = shape("id", "note")
    one = page([{"id": 1, "note": "a\ud83d"}, {"id": 2, "note": "\U0001f600"}])
    (batch,) = read_records([RecordPage(one, declared.select(one))], declared, "orders")
    reasons = batch.column("_corrupt_reason").to_pylist()
    assert reasons == ["half of a character (a surrogate without the other one)", None]
    assert batch.column("_corrupt_record").to_pylist() == ["1,a\\ud83d", None]
    assert batch.column("note").to_pylist() == [None, "\U0001f600"]


def test_a_record_may_be_kept_whole() -> None:
    declared = shape("id", {"name": "document", "from": "$"})
    assert rows(declared, [{"id": 1, "a": {"b": [1.50]}}])[0]["document"] == (
        '{"id":1,"a":{"b":[1.5]}}'
    )


def test_pages_become_batches_of_thousands_of_rows() -> None:
    declared = shape("id")
    pages = [[{"id": 1000 * n + m} for m in range(1000)] for n in range(20)]
    found = [RecordPage(one, declared.select(one)) for one in map(page, pages)]
    batches = [*read_records(found, declared, "orders")]
    assert [len(batch) for batch in batches] == [9000, 9000, 2000]
    positions = [n for batch in batches for n in batch.column("_source_position").to_pylist()]
    assert positions == [*range(1, 20_001)]
