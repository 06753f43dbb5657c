"""Fixed-width text: columns by characters, lines that do not fit set aside."""

import io
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.config.sources.file_source import FileEntity, FilesSource
from headrace.errors import SourceRejectedError
from headrace.lineage_schema import POSITION
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD
from headrace.sources.files.text.fixed_width_reader import TOO_LONG, TOO_SHORT, read_fixed_width

POSITIONS = {"id": [1, 4], "name": [5, 12], "amount": [13, 17]}


def entity(*, extra_columns: str = "fail", **form: Any) -> FileEntity:
    form = {"type": "fixed_width", "positions": POSITIONS, **form}
    extract = {"mode": "files", "path": "f.txt", "format": form, "extra_columns": extra_columns}
    columns = [{"name": name, "type": "string"} for name in ("id", "name", "amount")]
    document = {"name": "orders", "key": ["id"], "extract": extract, "columns": columns}
    source = {"name": "shop", "connector": "files", "entities": [document]}
    return FilesSource.model_validate(source).entities[0]


def read(text: str | bytes, chunk_bytes: int = 2**20, **form: Any) -> list[dict[str, Any]]:
    content = io.BytesIO(text.encode() if isinstance(text, str) else text)
    batches = read_fixed_width(content, "f.txt", entity(**form), chunk_bytes=chunk_bytes)
    return [row for batch in batches for row in batch.to_pylist()]


def values(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


@pytest.mark.parametrize("chunk", [1, 2, 7, 2**20])
def test_columns_are_cut_by_characters_and_trimmed(chunk: int) -> None:
    rows = read("\ufeff0001Käthe   12.50\r\n\r\n0002äöüß 😀      1\r\n0003 a b         ", chunk)
    assert values(rows, "id") == ["0001", "0002", "0003"]
    assert values(rows, "name") == ["Käthe", "äöüß 😀", "a b"]
    assert values(rows, "amount") == ["12.50", "1", ""]
    assert values(rows, POSITION) == [1, 3, 4]


def test_a_line_that_does_not_fit_is_set_aside() -> None:
    rows = read("0001Anna    12.50\n0002Be\n0003Carl    12.50 more\n0004Dora    12.50  \n")
    assert values(rows, CORRUPT_REASON) == [None, TOO_SHORT, TOO_LONG, None]
    assert values(rows, CORRUPT_RECORD)[1:3] == ["0002Be", "0003Carl    12.50 more"]
    assert values(rows, "id") == ["0001", None, None, "0004"]


def test_lines_may_be_short_and_go_on_if_that_is_declared() -> None:
    rows = read("0002Be\n0003Carl    12.50 more\n", may_be_short=True, extra_columns="ignore")
    assert values(rows, CORRUPT_REASON) == [None, None]
    assert values(rows, "name") == ["Be", "Carl"]
    assert values(rows, "amount") == ["", "12.50"]


def test_lines_at_the_start_may_be_skipped_and_the_encoding_be_another() -> None:
    rows = read("HEAD\n0001Käthe   12.50\n".encode("cp1252"), encoding="cp1252", skip_lines=1)
    assert (values(rows, "name"), values(rows, POSITION)) == (["Käthe"], [2])
    with pytest.raises(SourceRejectedError, match="line 1, character 6: not text in utf-8"):
        read("0001Käthe   12.50\n".encode("cp1252"))


def test_a_line_that_is_too_long_fails_the_file() -> None:
    with pytest.raises(SourceRejectedError, match="line 2 has more than 1,024 bytes") as caught:
        read("0001Anna    12.50\n" + "x" * 5000, max_line_bytes=1024)
    assert "format.max_line_bytes" in caught.value.fix


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ({"id": [1, 4], "name": [4, 10], "amount": [12, 16]}, "begins at 4, within id, which"),
        ({"id": [0, 4], "name": [5, 10], "amount": [12, 16]}, "is no first and last character"),
        ({"id": [1, 4], "name": [5, 10]}, "column amount has none"),
        (POSITIONS | {"adresse": [20, 21]}, "adresse: is no column"),
    ],
)
def test_positions_that_do_not_fit_are_refused(positions: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match="positions") as caught:
        entity(positions=positions)
    assert said in str(caught.value)
