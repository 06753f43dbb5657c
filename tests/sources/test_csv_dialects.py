"""How delimited files are written: headers, footers, comments, delimiters, escapes, bad bytes."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_extract import CsvFormat
from headrace.errors import SourceRejectedError
from headrace.sources.files.plan import listing_id
from headrace.sources.files.text.csv_reader import read_csv
from headrace.sources.landing.landing_zone import StoredFile
from tests.raw.building import DAY, START, entity

GOOD = "id,name,amount\n1,a,10\n2,b,20\n"
ROWS = [("1", "a", "10"), ("2", "b", "20")]


def read(content: str | bytes, chunk: int = 2**20, **form: Any) -> list[dict[str, Any]]:
    described = entity(extract={"format": form})
    stream = io.BytesIO(content if isinstance(content, bytes) else content.encode())
    return [
        row for batch in read_csv(stream, "f.csv", described, chunk) for row in batch.to_pylist()
    ]


def values(content: str | bytes, chunk: int = 2**20, **form: Any) -> list[Any]:
    """The rows, none of which is corrupt."""
    rows = read(content, chunk, **form)
    assert [row["_corrupt_reason"] for row in rows] == [None] * len(rows)
    return [(row["id"], row["name"], row["amount"]) for row in rows]


def corrupt(content: str | bytes, **form: Any) -> list[Any]:
    return [
        (row["_source_position"], row["_corrupt_record"], row["_corrupt_reason"])
        for row in read(content, **form)
        if row["_corrupt_reason"]
    ]


def rejection(content: str | bytes, **form: Any) -> str:
    with pytest.raises(SourceRejectedError) as caught:
        read(content, **form)
    return f"{caught.value} | {caught.value.fix}"


CHUNKS = pytest.mark.parametrize("chunk", [1, 2, 3, 7, 2**20])


@CHUNKS
@pytest.mark.parametrize("delimiter", ["::", "§", "||", "\x01", "\t", ";", "~|~", "→"])
def test_delimiters_of_any_kind_are_read(delimiter: str, chunk: int) -> None:
    content = GOOD.replace(",", delimiter)
    assert values(content, chunk, delimiter=delimiter) == ROWS
    quoted = f'id{delimiter}name{delimiter}amount\n1{delimiter}"a{delimiter}\n""b"{delimiter}10'
    assert values(quoted, chunk, delimiter=delimiter) == [("1", f'a{delimiter}\n"b', "10")]


@CHUNKS
def test_characters_that_stand_for_a_long_delimiter_are_kept_where_a_text_has_them(
    chunk: int,
) -> None:
    content = "id::name::amount\n1::a\x1eb\x1fc\x1e0\x1e1::10\n2::b::\x1e::20\n"
    rows = read(content, chunk, delimiter="::")
    assert [row["name"] for row in rows] == ["a\x1eb\x1fc\x1e0\x1e1", None]
    assert rows[1]["_corrupt_record"] == "2::b::\x1e::20"


@CHUNKS
@pytest.mark.parametrize("delimiter", [",", "::"])
def test_an_escape_makes_what_follows_it_text(delimiter: str, chunk: int) -> None:
    lines = [
        'id,name,amount\n1,"32\\" inseam, black",10\n2,a\\,b,20\n3,C:\\\\,30\n4,\\N,40\n',
        '5,one\\\ntwo,50\n6,one\\\r\ntwo,60\n7,"\\\\",70\n8,"x""y\\n",80\n',
    ]
    found = values("".join(lines).replace(",", delimiter), chunk, delimiter=delimiter, escape="\\")
    assert [name for _, name, _ in found] == [
        f'32" inseam{delimiter} black',
        f"a{delimiter}b",
        "C:\\",
        "\\N",
        "one\ntwo",
        "one\r\ntwo",
        "\\",
        'x"y\\n',
    ]


def test_a_corrupt_record_with_escapes_is_shown_as_it_stands() -> None:
    content = 'id,name,amount\n1,"a\\"b",10,\\,\n2,"\\"x"y\\"\\",20\n'
    assert [record for _, record, _ in corrupt(content, escape="\\")] == content.splitlines()[1:]


def test_an_escape_that_is_the_quote_means_a_doubled_quote() -> None:
    assert values('id,name,amount\n1,"a""b",10\n', escape='"') == [("1", 'a"b', "10")]


@CHUNKS
def test_a_file_without_a_header_has_the_columns_as_declared(chunk: int) -> None:
    content = "1,a,10\r\n2,b,20\r\n"
    assert values(content, chunk, header=False) == ROWS
    assert values(b"\xef\xbb\xbf" + content.encode(), chunk, header=False) == ROWS
    assert [row["_source_position"] for row in read(content, chunk, header=False)] == [1, 2]
    assert read("", chunk, header=False) == []


@CHUNKS
def test_a_file_without_a_header_has_the_fields_that_are_listed(chunk: int) -> None:
    fields = ["amount", "unused", "id", "name"]
    assert values("10,x,1,a\n20,,2,b\n", chunk, header=fields) == ROWS
    assert corrupt("10,1,a\n", header=fields) == [(1, "10,1,a", "too few fields")]


def test_a_header_where_none_is_declared_is_no_row() -> None:
    said = rejection(GOOD, header=False)
    assert "f.csv: line 1 names the columns" in said
    assert "remove format.header" in said


@CHUNKS
def test_lines_before_the_header_and_comments_are_no_rows(chunk: int) -> None:
    content = 'Report "daily\r\n\r\n# by shop\n' + GOOD.replace("2,b", "# it's a \"note\n\n#\n2,b")
    assert values(content, chunk, skip_lines=2, comment="#") == ROWS
    assert [row["_source_position"] for row in read(content, skip_lines=2, comment="#")] == [2, 3]
    content = 'id,name,amount\n1,"a\n#b",10\n#c"\n2,"#b",20\n#,,'
    assert values(content, chunk, comment="#") == [("1", "a\n#b", "10"), ("2", "#b", "20")]
    content = "x\n1,a,10\n--2,\n2,b,20\n"
    assert values(content, chunk, skip_lines=1, comment="--", header=False) == ROWS


def test_an_error_of_the_header_names_its_line() -> None:
    assert "f.csv: line 3: column 'amount' is missing" in rejection("a\nb\nid,name\n", skip_lines=2)
    assert "is empty" in rejection("a\n", skip_lines=2)


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "::"])
def test_the_delimiter_that_a_header_has_is_named(delimiter: str) -> None:
    said = rejection(GOOD.replace(",", delimiter))
    assert f"the file is delimited by {delimiter!r}: declare format.delimiter" in said
    assert "declare format.skip_lines: 1" in rejection("sep=,\n" + GOOD)


@CHUNKS
@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_lines_of_the_footer_are_no_rows(chunk: int, end: str) -> None:
    assert values(GOOD + "TOTAL,30" + end, chunk, footer=1) == ROWS
    assert values(GOOD + 'TRAILER|"2' + end, chunk, footer="TRAILER|") == ROWS
    assert values(GOOD + "x,y,z\n\r\n(2 rows)" + end, chunk, footer=2) == ROWS
    assert read("id,name,amount\nTOTAL,0" + end, chunk, footer=1) == []
    assert values("1,a,10\n2,b,20\nT", chunk, footer=1, header=False) == ROWS
    content = (GOOD + "T,::").replace(",", "::")
    assert values(content, chunk, delimiter="::", footer="T::") == ROWS


@pytest.mark.parametrize(("content", "footer"), [(GOOD, "TRAILER|"), ("id,name,amount\n", 1)])
def test_a_file_without_its_footer_was_cut_off(content: str, footer: Any) -> None:
    assert "f.csv ends without the footer" in rejection(content, footer=footer)


BAD = "id,name,amount\n1,é,10\n".encode() + b"2,caf\xe9 \x1e\x1ex,20\n3,c,30\n4,\xff\n"


@CHUNKS
def test_rows_with_bad_bytes_are_set_aside_if_that_is_declared(chunk: int) -> None:
    rows = read(BAD, chunk, bad_bytes="quarantine")
    assert [(row["_source_position"], row["name"]) for row in rows] == [
        (2, "é"),
        (3, None),
        (4, "c"),
        (5, None),
    ]
    assert [(row["_corrupt_record"], row["_corrupt_reason"]) for row in rows if not row["id"]] == [
        ("2,caf\\xe9 \x1e\x1ex,20", "bytes that are no text"),
        ("4,\\xff", "too few fields"),
    ]


@CHUNKS
def test_bad_bytes_are_replaced_if_that_is_declared(chunk: int) -> None:
    rows = read(BAD, chunk, bad_bytes="replace")
    assert [row["name"] for row in rows] == ["é", "caf� \x1e\x1ex", "c", None]


def test_bad_bytes_of_other_encodings_and_of_undeclared_columns() -> None:
    rows = read(
        b"id,name,amount\n1,\x81,10\n2,\xe9,20\n", encoding="cp1252", bad_bytes="quarantine"
    )
    assert [row["name"] for row in rows] == [None, "é"]
    described = entity(extract={"format": {"bad_bytes": "quarantine"}, "extra_columns": "ignore"})
    stream = io.BytesIO(b"id,name,amount,note\n1,a,10,\xe9\n")
    [batch] = read_csv(stream, "f.csv", described)
    assert batch["name"].to_pylist() == ["a"]


_FIELDS = st.lists(
    st.lists(st.text('ab,:"\\\r\n\x1e\x1fé#0dq ', max_size=6), min_size=3, max_size=3), max_size=5
)


@given(
    _FIELDS,
    st.sampled_from([",", "::", "§"]),
    st.sampled_from([None, "\\"]),
    st.sampled_from([1, 5, 2**20]),
)
def test_what_is_written_by_a_dialect_is_read_by_it(
    rows: list[list[str]], delimiter: str, escape: str | None, chunk: int
) -> None:
    def written(text: str) -> str:
        if escape:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return '"' + text.replace('"', '""') + '"'

    lines = [delimiter.join(map(written, row)) for row in rows]
    content = "\r\n".join([delimiter.join(("id", "name", "amount")), *lines])
    form = {"delimiter": delimiter, "escape": escape}
    assert values(content, chunk, **form) == [tuple(row) for row in rows if any(row)]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"delimiter": "\n"}, "line end"),
        ({"delimiter": "x"}, "letter or digit"),
        ({"quote": "«"}, "ASCII sign"),
        ({"escape": "x"}, "ASCII sign"),
        ({"delimiter": ";", "quote": ";"}, "quote: ';' is the delimiter too"),
        ({"delimiter": "\\", "escape": "\\"}, "part of delimiter"),
        ({"comment": '"x'}, "as a row may"),
        ({"comment": ","}, "as a row may"),
        ({"header": []}, "at least one field"),
        ({"footer": -1}, "greater than or equal to 0"),
        ({"skip_lines": -1}, "greater than or equal to 0"),
    ],
)
def test_a_dialect_that_cannot_be_read_is_refused(form: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match="(?s)" + said.replace("\\", "\\\\")):
        CsvFormat.model_validate(form)


@pytest.mark.parametrize("fields", [["id", "name"], ["id", "name", "amount", "id"]])
def test_listed_fields_must_have_each_column_once(fields: list[str]) -> None:
    with pytest.raises(ValidationError, match=r"among the fields of format\.header"):
        entity(extract={"format": {"header": fields}})


def test_a_file_is_read_again_when_its_dialect_changes_and_only_then() -> None:
    file = StoredFile("f.csv", 1, "v1", START)

    def read_as(**form: Any) -> str:
        return listing_id(file, entity(extract={"format": form}), PartitionSettings(start=DAY))

    changes: list[dict[str, Any]] = [
        {"escape": "\\"},
        {"header": False},
        {"skip_lines": 1},
        {"footer": 1},
        {"footer": "1"},
        {"comment": "#"},
        {"bad_bytes": "replace"},
        {"max_line_breaks": 0},
    ]
    assert read_as(escape=None, header=True) == read_as()
    assert len({read_as(**change) for change in [{}, *changes]}) == len(changes) + 1
