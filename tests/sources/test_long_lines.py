"""A line without an end: every reader of text stops at its limit and names the line."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from headrace.config.sources.file_source import FileEntity
from headrace.errors import SourceRejectedError
from headrace.sources.files.json_reader import read_json
from headrace.sources.files.text.csv_reader import read_csv
from headrace.sources.files.text.fixed_width_reader import read_fixed_width
from tests.raw.building import entity

# Far more than any limit below, and far less than 2 GB.
_MOST_BYTES = 64 * 2**20


class Endless(io.RawIOBase):
    """A start, then the same byte for ever; counts the bytes that are read."""

    def __init__(self, start: bytes, endless: bytes) -> None:
        super().__init__()
        self.start, self.endless, self.count = start, endless, 0

    def read(self, size: int = -1, /) -> bytes:
        chunk = (self.start[self.count :] + self.endless * size)[:size]
        self.count += len(chunk)
        assert self.count < _MOST_BYTES
        return chunk


Reader = Callable[[Any, str, FileEntity], Iterator[pa.RecordBatch]]
JSON = {"type": "json", "max_record_bytes": 2**22}
JSON_LINES = {"type": "json_lines"}
POSITIONS = {"id": [1, 4], "name": [5, 9], "amount": [10, 20]}
FIXED = {"type": "fixed_width", "positions": POSITIONS}
HEADER, ROW = b"id,name,amount\n", b"1,a,2\n"
CASES: dict[str, tuple[Reader, dict[str, Any], bytes, bytes, str]] = {
    "csv, the header": (read_csv, {}, b"id,name", b"x", "line 1 has more than"),
    "csv, a row": (read_csv, {}, HEADER + ROW + b"2,b", b"x", "the record after line 2 has more"),
    "csv, a quoted field": (read_csv, {}, HEADER + ROW + b'2,"b', b"x", "the record after line 2"),
    "csv, line ends in quotes": (read_csv, {}, HEADER + ROW + b'2,"', b"\n", "record after line 2"),
    "csv, no header": (read_csv, {"header": False}, ROW + b"2,", b"x", "the record after line 1"),
    "csv, a footer": (read_csv, {"footer": "END"}, HEADER + ROW, b"x", "without the footer"),
    "csv, an escape": (read_csv, {"escape": "\\"}, HEADER + ROW, b"x", "the record after line 2"),
    "csv, a delimiter": (
        *(read_csv, {"delimiter": "||"}, b"id||name||amount\n1||a||2\n2||", b"x"),
        "the record after line 2",
    ),
    "csv, lines to skip": (read_csv, {"skip_lines": 1}, b"x", b"x", "line 1 has more than"),
    "json_lines": (read_json, JSON_LINES, b'{"id":1,"name":1,"amount":1}\n{', b" ", "line 2 has"),
    "json, before": (read_json, JSON, b' "', b"x", "a value before the array has more"),
    "json, a record": (read_json, JSON, b'[{"id":"', b"x", "record 1 has more than"),
    "json, after": (read_json, {**JSON, "records": "a"}, b'{"a":[],"b":"', b"x", "more"),
    "json, blanks": (read_json, JSON, b"", b" ", "more than"),
    "fixed_width": (read_fixed_width, FIXED, b"0001aaaaa      12.50\n", b"x", "line 2 has more"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_line_without_an_end_fails_the_file_at_the_limit(case: str) -> None:
    read, form, start, endless, said = CASES[case]
    stream = Endless(start, endless)
    with pytest.raises(SourceRejectedError, match=said) as caught:
        list(read(stream, "f.txt", entity(extract={"format": form})))
    assert "f.txt" in str(caught.value)
