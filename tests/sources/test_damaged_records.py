"""Records that quotes damage, and where reads are cut: no byte is lost, no two rows are joined."""

import io
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.sources.file_source import FileEntity
from headrace.sources.files.text.csv_reader import read_csv
from headrace.sources.files.text.csv_records import (
    ESCAPED_QUOTE,
    OPEN_QUOTE,
    TEXT_AFTER_QUOTE,
    TOO_MANY_LINE_BREAKS,
)
from tests.raw.building import entity
from tests.sources.naive_csv import Row, naive_rows

_TWO = entity(columns=[{"name": "id", "type": "string"}, {"name": "name", "type": "string"}])


def rows_of(text: str, described: FileEntity, chunk: int = 2**20) -> list[Row]:
    """The rows of a text without its header, as the naive reader gives them."""
    names = [column.name for column in described.columns]
    content = ",".join(names) + "\n" + text
    stream = io.BytesIO(content.encode())
    rows = [row for batch in read_csv(stream, "f", described, chunk) for row in batch.to_pylist()]
    return [
        (
            row["_source_position"],
            None if row["_corrupt_record"] is not None else tuple(row[name] for name in names),
            row["_corrupt_record"],
            row["_corrupt_reason"],
        )
        for row in rows
    ]


def unnumbered(text: str, described: FileEntity, chunk: int = 2**20) -> list[Any]:
    """The rows, of which none is missing, without their numbers."""
    rows = rows_of(text, described, chunk)
    assert [row[0] for row in rows] == list(range(2, len(rows) + 2))
    return [row[1:] for row in rows]


def limited(max_line_breaks: int) -> FileEntity:
    return entity(extract={"format": {"max_line_breaks": max_line_breaks}})


def good(number: int) -> Any:
    return (str(number), "n", "1"), None, None


@pytest.mark.parametrize("chunk", [1, 2, 2**20])
def test_every_short_text_is_read_as_the_naive_reader_reads_it(chunk: int) -> None:
    for length in range(1, 5):
        for letters in product('a,"\r\n', repeat=length):
            text = "".join(letters)
            assert rows_of(text, _TWO, chunk) == naive_rows(text, 2), repr(text)


def _texts() -> st.SearchStrategy[str]:
    """Rows most of which are sound, between pieces that are most often not."""
    rows = st.sampled_from(["1,n,1", '2,"a, ""b""",2', '3,"x\r\ny",3', '4,5" pipe,4', '"5","",""'])
    pieces = st.sampled_from(
        [
            '"',
            '""',
            ",",
            "\r",
            "\n",
            "\r\n",
            " ",
            "a",
            "é",
            "\ufeff",
            "\\",
            '6,"b',
            '\\" c",',
            ",,",
            '"d"e',
        ]
    )
    ends = st.sampled_from(["\n", "\r\n", "\r"])
    many = st.integers(9, 12).map(lambda count: "7,n,1\n" * count)
    mixed = st.lists(st.tuples(rows | pieces | many, ends | st.just("")), max_size=9).map(
        lambda parts: "".join(part for pair in parts for part in pair)
    )
    return mixed | st.text('a,"\r\n ', max_size=14)


@given(_texts(), st.sampled_from([1, 2, 3, 5, 7, 11, 2**20]), st.sampled_from([0, 1, 100]))
def test_any_text_is_read_as_the_naive_reader_reads_it(text: str, chunk: int, limit: int) -> None:
    assert rows_of(text, limited(limit), chunk) == naive_rows(text, 3, limit)


@pytest.mark.parametrize("chunk", [1, 3, 2**20])
@pytest.mark.parametrize("text", ["\ufeff1,n,1\n", "\ufeff\n\ufeff2,n,1", '\n\ufeff"3,n,1\n4,n,1'])
def test_a_byte_order_mark_behind_the_header_is_text(text: str, chunk: int) -> None:
    """As in files that were put together of several."""
    assert rows_of(text, entity(), chunk) == naive_rows(text, 3)


_SPECIAL = (
    '1,"a\r\nb",1\r\n2,"c""\r\n""d", 5"\r\r\n,,\r\n3,"é\r\n\r\n",\n4,"e" ,"f""g"\r5,"h"i,1\r\n6,"k'
)


@pytest.mark.parametrize("before", range(1, 40))
def test_no_place_where_a_read_ends_changes_what_is_read(before: int) -> None:
    # The first row moves all that follows by a byte a time.
    text = "0," + "x" * before + ",1\r\n" + _SPECIAL
    expected = naive_rows(text, 3)
    assert [row[1] for row in expected[:2]] == [("0", "x" * before, "1"), ("1", "a\r\nb", "1")]
    for chunk in (8, 16, 32):
        assert rows_of(text, entity(), chunk) == expected


@pytest.mark.parametrize("before", range(2**20 - 29, 2**20 - 8))
def test_a_line_end_within_quotes_is_whole_at_the_end_of_a_read_of_full_size(before: int) -> None:
    text = '1,"' + "x" * 1000 + '",1\r\n'
    text = text * (before // len(text))
    text += "2," + "y" * (before - len(text)) + ',1\r\n3,"a\r\nb",1\r\n'
    assert unnumbered(text, entity())[-1] == (("3", "a\r\nb", "1"), None, None)


def test_a_quote_that_closes_in_the_next_row_sets_both_aside() -> None:
    text = '1,n,1\n2,"b,20\n3,"c",30\n4,n,1\n'
    assert unnumbered(text, entity()) == [
        good(1),
        (None, '2,"b,20', TEXT_AFTER_QUOTE),
        (None, '3,"c",30', TEXT_AFTER_QUOTE),
        good(4),
    ]


def test_a_quote_that_stays_open_to_the_end_sets_its_lines_aside() -> None:
    text = '1,n,1\n2,"b,20\n3,c,30\n'
    lines: list[Any] = [(None, line, OPEN_QUOTE) for line in ('2,"b,20', "3,c,30")]
    assert unnumbered(text, entity()) == [good(1), *lines]


@pytest.mark.parametrize("end", ["", '5000,"d,4\n', '5000,d",4\n'], ids=repr)
@pytest.mark.parametrize("chunk", [64, 1000, 2**20])
def test_a_stray_quote_before_many_rows_costs_its_own_line_alone(end: str, chunk: int) -> None:
    rows = [good(number) for number in range(3, 5000)]
    text = '1,n,1\n2,"b,20\n' + "".join(f"{number},n,1\n" for number in range(3, 5000)) + end
    found = unnumbered(text, entity(), chunk)
    assert found[:2] == [good(1), (None, '2,"b,20', OPEN_QUOTE)]
    assert found[2:4999] == rows
    # A quote within an unquoted field is text.
    last: dict[str, list[Any]] = {
        "": [],
        '5000,"d,4\n': [(None, '5000,"d,4', OPEN_QUOTE)],
        '5000,d",4\n': [(("5000", 'd"', "4"), None, None)],
    }
    assert found[4999:] == last[end]


def test_a_field_of_more_lines_than_declared_is_set_aside_line_by_line() -> None:
    text = '1,n,1\n2,"one\r\ntwo\nthree",1\n3,"one\r\ntwo",1\n'
    assert unnumbered(text, limited(2))[1] == (("2", "one\r\ntwo\nthree", "1"), None, None)
    assert unnumbered(text, limited(1)) == [
        good(1),
        *((None, line, TOO_MANY_LINE_BREAKS) for line in ('2,"one', "two", 'three",1')),
        (("3", "one\r\ntwo", "1"), None, None),
    ]


def test_a_long_text_in_quotes_is_never_read_as_rows() -> None:
    lines = [f"a, b, line {n}" if n % 7 else "a paragraph" for n in range(1, 400)]
    text = '1,n,1\n2,"' + "\n".join(lines) + '",1\n3,n,1\n'
    found = unnumbered(text, entity())
    assert [row for row in found if row[0]] == [good(1), good(3)]
    assert {row[2] for row in found if not row[0]} == {TOO_MANY_LINE_BREAKS}
    assert len(found) == 401


def test_a_quote_escaped_by_a_backslash_sets_its_row_aside_unless_that_is_declared() -> None:
    text = '1,"32\\" inseam",1\n2,"32\\" inseam, black",1\n3,"ends with \\",1\n4,C:\\tmp,1\n'
    assert unnumbered(text, entity()) == [
        (None, '1,"32\\" inseam",1', ESCAPED_QUOTE),
        (None, '2,"32\\" inseam, black",1', ESCAPED_QUOTE),
        (("3", "ends with \\", "1"), None, None),
        (("4", "C:\\tmp", "1"), None, None),
    ]
    declared = entity(extract={"format": {"escape": "\\"}})
    assert unnumbered("\n".join(text.splitlines()[:2]), declared) == [
        (("1", '32" inseam', "1"), None, None),
        (("2", '32" inseam, black', "1"), None, None),
    ]


@pytest.mark.parametrize("rows", [2, 2_000])
def test_rows_of_nothing_but_delimiters_are_no_rows(rows: int) -> None:
    found = rows_of("1,n,1\n" + ",,\n" * rows + "2,n,1\r\n,,,\r\n,,", entity())
    assert found == [(2, *good(1)), (rows + 3, *good(2))]
    assert unnumbered('1,"\n,,\n",1\n', entity()) == [(("1", "\n,,\n", "1"), None, None)]


def _endless() -> Iterator[bytes]:
    yield b'id,name,amount\n1,"open\n'
    for _ in range(100):
        yield b"some text\n" * 50_000


def test_an_open_quote_before_what_is_no_row_is_not_read_without_end() -> None:
    class Stream:
        taken, chunks = 0, _endless()

        def read(self, _size: int, /) -> bytes:
            self.taken += 1
            return next(self.chunks)

    stream = Stream()
    with pytest.raises(Exception, match="the record after line 1 has more than 1,048,576 bytes"):
        list(read_csv(stream, "f", entity()))
    assert stream.taken < 10
