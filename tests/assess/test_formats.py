"""How JSON, workbooks and text of fixed width are found out, case by case."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.assess.files.fixed_width import fixed_width_form
from headrace.assess.files.json_records import json_form, kind_of_json
from headrace.assess.files.workbooks import workbook_forms
from tests.sources.workbooks import workbook


def columns_of(folder: Path, *records: dict[str, Any]) -> dict[str, str]:
    """By `from`, the name of each column of some JSON lines."""
    path = folder / "a.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    form = json_form(folder, ["a.jsonl"], "json_lines", {})
    return {field.source_name: field.name for field in form.fields}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b'{"a": 1}\n{"a": 2}\n', "json_lines"),
        (b'{"a": 1}\n', "json_lines"),
        (b'{"data": [{"a": 1}]}', "json"),
        (b'[{"a": 1}, {"a": 2}]', "json"),
        (b'{\n  "data": [\n    {"a": 1}\n  ]\n}\n', "json"),
        (b'{"a": 1}\n{"a": \n{"a": 3}\n', "json_lines"),
    ],
)
def test_lines_are_told_from_a_document(text: bytes, kind: str) -> None:
    assert kind_of_json(text, is_whole=True) == kind


@pytest.mark.parametrize(
    ("document", "records"),
    [
        ([{"a": 1}], None),
        ({"items": [{"a": 1}]}, "items"),
        ({"errors": [{"b": 1}], "result": {"rows": [{"a": 1}, {"a": 2}]}}, "result.rows"),
        ({"all items": [{"a": 1}]}, "all items"),
        ({"v1.0": [{"a": 1}]}, "$['v1.0']"),
        ({"tags": ["x"], "data": [{"a": 1}]}, "data"),
    ],
)
def test_records_are_the_longest_array_of_objects(
    tmp_path: Path, document: Any, records: str | None
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(document, indent=1))
    form = json_form(tmp_path, ["a.json"], "json", {})
    assert form.format.get("records") == records
    assert [field.name for field in form.fields] == ["a"]


def test_members_of_objects_are_columns_and_arrays_are_json(tmp_path: Path) -> None:
    found = columns_of(
        tmp_path,
        {"id": 1, "who": {"name": "x", "at": {"city": "y"}}, "tags": [1], "more": {}},
        {"id": 2, "who": None, "a.b": 3},
    )
    assert found == {
        "id": "id",
        "who.name": "who_name",
        "who.at.city": "who_at_city",
        "tags": "tags",
        "more": "more",
        "$['a.b']": "a_b",
    }


def test_an_object_that_is_elsewhere_a_text_is_one_column(tmp_path: Path) -> None:
    found = columns_of(tmp_path, {"who": {"name": "x"}}, {"who": "anonymous"})
    assert found == {"who": "who"}


def test_a_map_of_many_keys_is_one_column(tmp_path: Path) -> None:
    assert [*columns_of(tmp_path, {"by_day": {f"d{n}": n for n in range(99)}})] == ["by_day"]


def test_only_sheets_with_a_header_are_tables(tmp_path: Path) -> None:
    sheets: dict[str, list[list[Any]]] = {
        "Read me": [["These are the figures."]],
        "Data": [["id", "name"], [1, "x"]],
        "Numbers": [[1, 2], [3, 4]],
    }
    (tmp_path / "a.xlsx").write_bytes(workbook(sheets))
    (form,) = workbook_forms(tmp_path, ["a.xlsx"], {})
    assert (form.format, form.label) == ({"type": "excel", "sheet": "Data"}, "")


def test_text_of_several_widths_or_without_values_is_not_of_fixed_width() -> None:
    prose = "All of the lines\nAre of one width\nAnd have a blank\nBut are no table\n"
    assert fixed_width_form(prose, "utf-8") is None
    assert fixed_width_form("1 a\n22 bb\n333 ccc\n4 d\n5 e\n", "utf-8") is None


def test_blanks_before_numbers_are_those_of_the_numbers() -> None:
    form = fixed_width_form("id   sum\n1      5\n2    100\n3     20\n", "utf-8")
    assert form is not None
    assert form.format["positions"] == {"id": [1, 2], "sum": [3, 8]}
