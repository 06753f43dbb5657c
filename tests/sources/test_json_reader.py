"""JSON Lines and JSON documents: values as in the file, bad records set aside, errors named."""

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.config.sources.file_source import FileEntity, FilesSource
from headrace.errors import SourceRejectedError
from headrace.lineage_schema import POSITION
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD, NUL
from headrace.sources.files.json_reader import (
    NO_JSON,
    NO_OBJECT,
    TWICE,
    UNREADABLE,
    read_json,
)

Rows = list[dict[str, Any]]


def entity(columns: str | list[dict[str, Any]] = "id a", **changes: Any) -> FileEntity:
    """Columns of text; `id` is the key."""
    if isinstance(columns, str):
        columns = [{"name": name, "type": "string"} for name in columns.split()]
    form = {"type": "json_lines", **changes.pop("format", {})}
    extract = {"mode": "files", "path": "orders.json", "format": form, **changes.pop("extract", {})}
    document = {"name": "orders", "key": [columns[0]["name"]], "extract": extract, **changes}
    document["columns"] = columns
    source = {"name": "shop", "connector": "files", "entities": [document]}
    return FilesSource.model_validate(source).entities[0]


def read(text: str | bytes, chunk_bytes: int = 2**20, **options: Any) -> Rows:
    stream = io.BytesIO(text.encode() if isinstance(text, str) else text)
    batches = read_json(stream, "orders.json", entity(**options), chunk_bytes=chunk_bytes)
    return [row for batch in batches for row in batch.to_pylist()]


def values(rows: Rows, name: str = "a") -> list[Any]:
    return [row[name] for row in rows]


def refused(text: str | bytes, **options: Any) -> str:
    with pytest.raises(SourceRejectedError) as caught:
        read(text, **options)
    return f"{caught.value} | {caught.value.fix}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1", "1"),
        ("1.10", "1.10"),
        ("1e5", "1e5"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1e400", "1e400"),
        ("true", "true"),
        ("false", "false"),
        ("null", None),
        ('""', ""),
        ('"007"', "007"),
        ('"null"', "null"),
        (r'"a\"b\\c\u00e4\ud83d\ude00\n"', 'a"b\\cä😀\n'),
        ('{"x": 1.50, "y": [1, null]}', '{"x": 1.50, "y": [1, null]}'),
        ('{"x":1,"x":2}', '{"x":1,"x":2}'),
        ("[]", "[]"),
    ],
)
@pytest.mark.parametrize("others", ["", '"text"', "7", "{}", "null"])
def test_a_value_is_captured_as_it_is_written(written: str, meant: str | None, others: str) -> None:
    lines = [f'{{"id": 1, "a": {written}}}'] + ([f'{{"id": 2, "a": {others}}}'] if others else [])
    assert values(read("\n".join(lines)))[0] == meant


def test_a_member_that_is_null_or_missing_is_null() -> None:
    rows = read('{"id":1,"a":null}\n{"id":2}\n{"id":3,"a":"x"}\n')
    assert values(rows) == [None, None, "x"]
    assert values(rows, POSITION) == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": 2, "a":', NO_JSON),
        ('{"id": 2, "a": 1} {"id": 3, "a": 1}', NO_JSON),
        ("{'id': 2}", NO_JSON),
        ('{"id": 2, "a": NaN}', NO_JSON),
        ('{"id": 2, "a": 01}', NO_JSON),
        (r'{"id": 2, "a": "\ud800"}', NO_JSON),
        ("[1, 2]", NO_OBJECT),
        ("null", NO_OBJECT),
        ('{"id": 2, "a": "x", "a": "y"}', TWICE),
        ('{"id" : 2, "a" : "x", "a" : "x"}', TWICE),
        (r'{"id": 2, "a": "x", "\u0061": "y"}', TWICE),
        (r'{"id": 2, "a": "\u0022:", "a": "\u0022:"}', TWICE),
        ('{"id": 2, "id": 3}', TWICE),
        (r'{"id": 2, "a": "x\u0000"}', NUL),
        ("[" * 100_000, NO_JSON),
    ],
)
@pytest.mark.parametrize("nested", ["", "{}"])
def test_a_broken_line_is_set_aside_with_its_reason(line: str, reason: str, nested: str) -> None:
    around = f'{{"id":1,"a":{nested or 1}}}\n%s\n\n{{"id":3,"a":"z"}}'
    rows = read(around % line)
    assert values(rows, "id") == ["1", None, "3"]
    assert values(rows, POSITION) == [1, 2, 4]
    assert rows[1][CORRUPT_REASON] == reason
    if reason != NUL:
        assert rows[1][CORRUPT_RECORD] == line
    assert values(rows)[2] == "z"


def test_a_number_of_thousands_of_digits_is_set_aside() -> None:
    rows = read(f'{{"id":1,"a":{"9" * 5000}}}\n{{"id":2,"a":3}}\n')
    assert values(rows, CORRUPT_REASON) == [UNREADABLE, None]


def test_texts_that_look_like_members_are_no_duplicates() -> None:
    rows = read('{"id":"1","a":"{\\"a\\":1,\\"a\\":2}"}\n{ "id" : "b :c" , "a" : {"a":1} }\n')
    assert values(rows) == ['{"a":1,"a":2}', '{"a":1}']


NESTED = [
    {"name": "id", "type": "bigint"},
    {"name": "city", "type": "string", "from": "customer.address.city"},
    {"name": "mail", "type": "string", "from": "$.customer['e.mail']"},
]


def test_nested_objects_are_flattened_by_paths() -> None:
    rows = read(
        '{"id":1,"customer":{"address":{"city":"Köln"},"e.mail":"x"}}\n'
        '{"id":2,"customer":null}\n{"id":3}\n{"id":4,"customer":{"address":null}}\n'
        '{"id":5,"customer":{"address":{"city":["a"]}}}\n',
        columns=NESTED,
    )
    assert values(rows, "city") == ["Köln", None, None, None, '["a"]']
    assert values(rows, "mail") == ["x", None, None, None, None]
    assert values(rows, CORRUPT_REASON) == [None] * 5


def test_a_value_where_a_path_leads_through_sets_the_record_aside() -> None:
    whole = '{"id":2,"customer":{"address":{"city":"a"}, "e.mail":"y"}}'
    rows = read('{"id":1,"customer":{"address":"Köln"}}\n' + whole, columns=NESTED)
    assert values(rows, CORRUPT_REASON) == ["'customer.address' is no object", None]
    assert values(rows, "mail") == [None, "y"]


def test_a_nested_member_that_is_there_twice_is_set_aside() -> None:
    rows = read(
        '{"id":1,"customer":{"address":{"city":"a","city":"b"},"e.mail":1}}', columns=NESTED
    )
    assert values(rows, CORRUPT_REASON) == [TWICE]


def test_an_undeclared_member_is_named_with_its_line_at_every_level() -> None:
    text = '{"id":1,"a":2}\n{"id":1,"a":2,"b":3}\n'
    said = refused(text)
    assert "orders.json: line 2: column 'b' is not declared" in said
    assert "extra_columns: ignore" in said
    assert values(read(text, extract={"extra_columns": "ignore"})) == ["2", "2"]
    nested = '{"id":1,"customer":{"age":3,"address":{"city":"a"}}}'
    assert "column 'customer.age' is not declared" in refused(nested, columns=NESTED)
    assert "secret" not in refused('{"id":1,"a secret@mail.example":2}')


def test_undeclared_members_that_are_ignored_hide_no_duplicate() -> None:
    rows = read(
        '{"id":1,"a":2,"b":{"b":1}}\n{"id":1,"b":1,"a":2,"a":3}\n{"id":1,"a":1,"b":2,"b":3}\n',
        extract={"extra_columns": "ignore"},
    )
    assert values(rows, CORRUPT_REASON) == [None, TWICE, None]


def test_a_column_that_no_record_has_fails_the_file() -> None:
    said = refused('{"id":1}\n{"id":2}\n')
    assert "orders.json: column 'a' is missing: no record has it" in said
    assert "optional: true" in said
    assert read("") == []


def test_a_column_may_have_been_renamed() -> None:
    columns = [{"name": "id", "type": "bigint"}, {"name": "a", "type": "int", "from": ["a", "b"]}]
    assert values(read('{"id":1,"a":1}\n{"id":2,"b":null}\n{"id":3,"b":3}', columns=columns)) == [
        *("1", None, "3")
    ]
    assert "'a' by two of its names" in refused('{"id":1,"a":1,"b":1}', columns=columns)


def test_a_line_that_is_too_long_fails_the_file_before_it_is_in_memory() -> None:
    class Endless(io.RawIOBase):
        count = 0

        def read(self, size: int = -1, /) -> bytes:
            self.count += 1
            return b'{"id":1,"a":2}\n{"id":"' if self.count == 1 else b"x" * size

    stream = Endless()
    batches = read_json(stream, "orders.json", entity(format={"max_record_bytes": 2**22}))
    assert len(next(batches)) == 1
    with pytest.raises(SourceRejectedError, match="line 2 has more than 4,194,304 bytes") as caught:
        next(batches)
    assert "max_record_bytes" in caught.value.fix
    assert stream.count < 10
    long = '{"id":1,"a":"' + "x" * 2000 + '"}\n'
    assert "line 2" in refused('{"id":1,"a":2}\n' + long, format={"max_record_bytes": 1024})


def test_the_file_may_be_compressed_and_have_a_byte_order_mark() -> None:
    text = '\ufeff{"id":1,"a":"ä"}\r\n{"id":2,"a":"b"}\r\n'
    assert values(read(gzip.compress(text.encode()))) == ["ä", "b"]
    assert values(read(text.encode("utf-16"), format={"encoding": "utf-16"})) == ["ä", "b"]
    said = refused('{"id":1,"a":"ä"}'.encode("cp1252"))
    assert "line 1, character 14: not text in utf-8" in said


ARRAY = '[{"id":1,"a":"x,]}\\"["},\n {"id":2,\n  "a":{"b": [1,\n2]}}, 5, {"id":3}]'


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 64, 2**20])
@pytest.mark.parametrize(
    ("records", "around"),
    [
        ("$", "%s"),
        ("data", '{"meta": {"data": [1, "]"], "n": 2}, "data": %s, "next": null}'),
        ("$.data['all items']", '{"data":{"x":[[]],"all items": %s},"z":[{}]}  \n'),
    ],
)
def test_the_records_of_a_document_are_its_rows(
    chunk_bytes: int, records: str, around: str
) -> None:
    rows = read(around % ARRAY, chunk_bytes, format={"type": "json", "records": records})
    assert values(rows, "id") == ["1", "2", None, "3"]
    assert values(rows) == ['x,]}"[', '{"b": [1, 2]}', None, None]
    assert values(rows, POSITION) == [1, 2, 3, 4]
    assert rows[2][CORRUPT_REASON] == NO_OBJECT


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no whole JSON document: it ends too early"),
        ('[{"id":1,"a":1},', "it ends within the array, after record 1"),
        ('[{"id":1,"a":1},{"id":2', "it ends within the array, after record 1"),
        ('[{"id":1,"a":1}', "it ends within the array, after record 0"),
        ('[{"id":1,"a":1}] x', "it goes on after the end of the document"),
        ('[{"id":1,"a":1}][]', "it goes on after the end of the document"),
        ('{"data": 1, "id": 2}', "the document is an object, not an array of records; it has data"),
        ('{"id":1,"a":1}\n{"id":2,"a":1}', "type: json_lines if each line is a record"),
        ("5", "the document is no array, not an array of records"),
    ],
)
def test_a_document_that_is_none_or_not_whole_fails(text: str, said: str) -> None:
    assert said in refused(text, format={"type": "json"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"data": [{"id":1,"a":1}]', "it ends too early"),
        ('{"items": []}', "the document has no member 'data', but items | correct format.records"),
        ('{"data": {"rows": []}}', "'data' is an object, not an array of records; it has rows"),
        ('{"data": null}', "'data' is null, not an array of records"),
        ("[]", "the document is an array, not an array of records"),
    ],
)
def test_a_path_that_leads_to_no_array_is_named(text: str, said: str) -> None:
    assert said in refused(text, format={"type": "json", "records": "data"})


@pytest.mark.parametrize("text", ["[]", " [ \n ] ", '\ufeff[{"id":1,"a":1}]'])
def test_an_array_may_be_empty(text: str) -> None:
    assert len(read(text, format={"type": "json"})) == text.count("id")


@pytest.mark.parametrize("text", ['[{"id":1,"a":"x\ny"}]', '[{"id":1,"a":1},,{"id":1,"a":1}]'])
def test_what_is_no_json_in_an_array_is_set_aside_or_refused(text: str) -> None:
    try:
        rows = read(text, format={"type": "json"})
    except SourceRejectedError:
        return
    assert NO_JSON in values(rows, CORRUPT_REASON)


def test_a_record_of_a_document_that_is_too_long_is_named() -> None:
    text = '[{"id":1,"a":1},{"id":1,"a":"' + "x" * 5000 + '"}]'
    form = {"type": "json", "max_record_bytes": 1024}
    assert "record 2 has more than 1,024 bytes" in refused(text, chunk_bytes=512, format=form)
    assert "record 2 has more than 1,024 bytes" in refused(text, format=form)


TEXTS = st.text(st.sampled_from('ab":\\{}[],\nä😀\0 '), max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | TEXTS
NESTED_VALUES = (
    SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(TEXTS, SCALARS, max_size=2)
)
RECORDS = st.lists(
    st.dictionaries(st.sampled_from(["id", "a", "b", "c"]), NESTED_VALUES), max_size=8
)


def naive(record: dict[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def written(made: list[dict[str, Any]], *, is_array: bool) -> str:
    if is_array:
        return json.dumps(made, ensure_ascii=False)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in made)


@pytest.mark.property
@given(RECORDS, st.sampled_from(["json", "json_lines"]), st.integers(1, 200))
def test_every_record_is_what_pythons_reader_says(
    made: list[dict[str, Any]], kind: str, chunk_bytes: int
) -> None:
    columns = [{"name": n, "type": "string", "optional": True} for n in ("x", "id", "a", "b", "c")]
    columns[0] = {"name": "x", "type": "string", "optional": True, "from": "x", "default": "-"}
    form = {"type": kind}
    rows = read(written(made, is_array=kind == "json"), chunk_bytes, columns=columns, format=form)
    assert len(rows) == len(made)
    for row, record in zip(rows, made, strict=True):
        if row[CORRUPT_REASON] is None:
            assert [row[n] for n in ("id", "a", "b", "c")] == [
                naive(record, n) for n in ("id", "a", "b", "c")
            ]
        else:
            assert row[CORRUPT_REASON] == NUL


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a..b", "a..b: is no path of members"),
        ("$.items[0]", "a path into an array is not supported"),
        ("id", "lead to the same value"),
        ("id.x", "a member is either captured as JSON or flattened"),
    ],
)
def test_a_path_that_cannot_be_read_is_refused(source: str, said: str) -> None:
    columns = [{"name": "id", "type": "bigint"}, {"name": "a", "type": "int", "from": source}]
    with pytest.raises(ValidationError, match="columns") as caught:
        entity(columns)
    assert said in str(caught.value)


def test_memory_is_bounded_by_the_batch() -> None:
    line = b'{"id":1,"a":"' + b"x" * 200 + b'"}'

    class Long(io.RawIOBase):
        left = 200_000

        def read(self, _: int = -1, /) -> bytes:
            count = min(self.left, 4000)
            self.left -= count
            return (line + b"\n") * count

    before, peak, count = pa.total_allocated_bytes(), 0, 0
    for batch in read_json(Long(), "orders.json", entity()):
        peak, count = max(peak, pa.total_allocated_bytes() - before), count + len(batch)
    assert count == 200_000
    assert peak < 16 * 2**20
