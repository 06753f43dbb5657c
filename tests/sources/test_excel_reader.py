"""Excel workbooks: sheet and header as declared, every cell as text, nothing dropped silently."""

import io
import zipfile
from datetime import date, datetime
from typing import Any

import pytest

from headrace.config.sources.file_source import FileEntity, FilesSource
from headrace.errors import SourceRejectedError
from headrace.lineage_schema import POSITION
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD
from headrace.sources.files.excel_reader import EXCEL_ERROR, read_excel
from tests.sources.workbooks import Error, workbook

HEADER = ["id", "name", "sold_on"]


def entity(
    *,
    extra_columns: str = "fail",
    optional: bool = False,
    formats: list[str] | None = None,
    **form: Any,
) -> FileEntity:
    extract = {"mode": "files", "path": "f.xlsx", "format": {"type": "excel", **form}}
    columns = [
        {"name": "id", "type": "bigint"},
        {"name": "name", "type": "string", "optional": optional},
        {"name": "sold_on", "type": "date", "formats": formats or []},
    ]
    extract |= {"extra_columns": extra_columns}
    document = {"name": "orders", "key": ["id"], "extract": extract, "columns": columns}
    source = {"name": "shop", "connector": "files", "entities": [document]}
    return FilesSource.model_validate(source).entities[0]


def read(content: bytes | list[Any], **options: Any) -> list[dict[str, Any]]:
    file = content if isinstance(content, bytes) else workbook({"Orders": content})
    batches = read_excel(io.BytesIO(file), "f.xlsx", entity(**options))
    return [row for batch in batches for row in batch.to_pylist()]


def values(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def refused(content: bytes | list[Any], **options: Any) -> str:
    with pytest.raises(SourceRejectedError) as caught:
        read(content, **options)
    return f"{caught.value} | {caught.value.fix}"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (1, "1"),
        (1.5, "1.5"),
        (0.1, "0.1"),
        (1234567.891, "1234567.891"),
        (123456789012345.0, "123456789012345"),
        (1e20, "100000000000000000000"),
        (-1e-7, "-0.0000001"),
        ("007", "007"),
        (" ä\n😀 ", " ä\n😀 "),
        (True, "true"),
        (None, ""),
        (datetime(2026, 1, 31, 13, 30), "2026-01-31 13:30:00"),
        (date(2026, 1, 31), "2026-01-31 00:00:00"),
    ],
)
def test_a_cell_is_captured_as_text(cell: Any, text: str) -> None:
    (row,) = read([HEADER, [1, cell, None]])
    assert row["name"] == text


def test_a_date_without_a_time_is_a_date_in_a_column_of_dates() -> None:
    rows = [HEADER, [1, "a", date(2026, 1, 31)], [2, "b", datetime(2026, 1, 31, 1)], [3, "c", "x"]]
    assert values(read(rows), "sold_on") == ["2026-01-31", "2026-01-31 01:00:00", "x"]
    formats = ["yyyy-MM-dd HH:mm:ss"]
    assert values(read(rows, formats=formats), "sold_on")[0] == "2026-01-31 00:00:00"


def test_rows_keep_their_numbers_and_empty_ones_are_skipped() -> None:
    rows = [["A report of January"], [], HEADER, [1, "a"], [], [None, None], [2, "b"]]
    found = read(rows, header_row=3)
    assert (values(found, "id"), values(found, POSITION)) == (["1", "2"], [4, 7])
    later = workbook({"Orders": [HEADER, [1, "a"]]}, first_row=5)
    assert values(read(later, header_row=5), POSITION) == [6]


def test_a_row_with_an_error_of_excel_is_set_aside() -> None:
    rows = read([HEADER, [1, "a"], [2, Error("#DIV/0!"), None], [3, "c"]])
    assert values(rows, CORRUPT_REASON) == [None, EXCEL_ERROR, None]
    assert (values(rows, "id"), rows[1][CORRUPT_RECORD]) == (["1", None, "3"], "2,,")


def test_the_sheet_is_chosen_by_number_or_name() -> None:
    content = workbook({"Notes": [["x"]], "Orders 2026": [HEADER, [1, "a"]]})
    assert values(read(content, sheet="Orders 2026"), "id") == ["1"]
    assert values(read(content, sheet=2), "id") == ["1"]
    assert "no sheet 'Order 2026', but 'Notes', 'Orders 2026'" in refused(
        content, sheet="Order 2026"
    )
    assert "no sheet 3, but 2: 'Notes', 'Orders 2026'" in refused(content, sheet=3)


def test_a_sheet_whose_columns_are_not_as_declared_fails() -> None:
    assert "f.xlsx: line 1: column 'name' is missing" in refused([["id", "sold_on"], [1]])
    assert values(read([["id", "sold_on"], [1]], optional=True), "name") == [None]
    extra = [[*HEADER, "more"], [1, "a", None, 5]]
    assert "column 'more' is not declared" in refused(extra)
    assert values(read(extra, extra_columns="ignore"), "id") == ["1"]
    assert "column 4 of the sheet has values, and no name in row 1" in refused(
        [HEADER, [1, "a", None, 5]]
    )
    assert "format.header_row" in refused([["x", "y"], [1, 2]])
    for empty in ([], [[], HEADER]):
        assert "row 1 of the sheet is empty: it has no header" in refused(empty)
    assert read([HEADER]) == []


@pytest.mark.parametrize("cut", [0, 10, 500, -30])
def test_what_is_no_whole_workbook_fails(cut: int) -> None:
    content = workbook({"Orders": [HEADER, [1, "a"]]})
    assert "f.xlsx is no whole Excel workbook" in refused(content[:cut])
    assert "f.xlsx is no whole Excel workbook" in refused(b"id,name\n1,2\n")


def test_a_workbook_that_unpacks_to_too_much_fails_before_it_is_parsed() -> None:
    out = io.BytesIO(workbook({"Orders": [HEADER, [1, "a"]]}))
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.png", bytes(10 * 2**20))
    content = out.getvalue()
    assert len(content) < 2**17
    said = refused(content, max_bytes=2**20)
    assert "the workbook has more than 1,048,576 bytes once decompressed" in said
    assert "format.max_bytes" in said
    assert len(read(content)) == 1
