"""Files as they come: what is read of them, and what the error says of those that cannot be."""

import gzip
import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from headrace.config.sources.file_source import FileEntity
from headrace.errors import SourceRejectedError, SourceUnavailableError
from headrace.sources.files.text.csv_reader import read_csv
from tests.raw.building import entity

PATH = "orders/orders-2017-01-01.csv"
GOOD = b"id,name,amount\n1,a,10\n2,b,20\n"
CANARY = "canary"


def rows_of(
    content: bytes,
    described: FileEntity | None = None,
    block: int = 2**20,
    longest: int = 2**20,
) -> list[dict[str, Any]]:
    batches = read_csv(io.BytesIO(content), PATH, described or entity(), block, longest)
    return [row for batch in batches for row in batch.to_pylist()]


def values(content: bytes, described: FileEntity | None = None, block: int = 2**20) -> list[Any]:
    """The declared columns of the good rows."""
    rows = rows_of(content, described, block)
    assert [row for row in rows if row["_corrupt_record"] is not None] == []
    return [tuple(v for name, v in row.items() if not name.startswith("_")) for row in rows]


def corrupt(content: bytes, block: int = 2**20) -> list[Any]:
    """Line, text and reason of the corrupt rows, whose columns must be NULL."""
    bad = [row for row in rows_of(content, block=block) if row["_corrupt_record"] is not None]
    assert {row[name] for row in bad for name in ("id", "name", "amount")} <= {None}
    return [
        (row["_source_position"], row["_corrupt_record"], row["_corrupt_reason"]) for row in bad
    ]


def rejection(
    content: bytes,
    described: FileEntity | None = None,
    block: int = 2**20,
    longest: int = 2**20,
) -> str:
    """What the error says; never anything of the rows."""
    with pytest.raises(SourceRejectedError) as caught:
        rows_of(content, described, block, longest)
    text = f"{caught.value} | {caught.value.fix}"
    assert CANARY not in text
    # An error that is shown with its cause would quote the row that the cause quotes.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


def formatted(**form: Any) -> FileEntity:
    return entity(extract={"format": form})


EXPECTED = [(str(number), f"n{number}", f"{number}0") for number in range(1, 41)]


def written(
    end: str = "\n", order: str = "id,name,amount", header: str = "{},{},{}", row: str = "{},{},{}"
) -> bytes:
    """The expected rows, written in one of many ways."""
    fields = order.split(",")
    lines = [header.format(*fields)]
    for values_of_row in EXPECTED:
        named = dict(zip(("id", "name", "amount"), values_of_row, strict=True))
        lines.append(row.format(*(named[field] for field in fields)))
    return end.join([*lines, ""]).encode()


WAYS = {
    "plain": written(),
    "without the last line end": written().rstrip(b"\n"),
    "windows": written("\r\n"),
    "windows, without the last line end": written("\r\n").rstrip(b"\r\n"),
    "old mac": written("\r"),
    "byte order mark": b"\xef\xbb\xbf" + written(),
    "blank lines around": b"\n\r\n" + written() + b"\n\n\r\n",
    "blank lines between": written("\n\n"),
    "blanks in the header": written(header="  {} , {}\t,{} "),
    "everything quoted": written(header='"{}","{}","{}"', row='"{}","{}","{}"'),
    "another order": written(order="amount,id,name"),
    "gzip": gzip.compress(written()),
    "two gzip files joined": gzip.compress(written()[:20]) + gzip.compress(written()[20:]),
    "padded gzip": gzip.compress(written()) + b"\0" * 512,
}
# Small enough to cut through lines, and no smaller than the mark that ends a file.
SMALL = 40


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("block", [SMALL, 2**20])
def test_the_same_rows_come_out_however_they_are_written(way: str, block: int) -> None:
    assert values(WAYS[way], block=block) == EXPECTED


def test_lines_are_counted_from_the_header_and_keep_their_order() -> None:
    lines = b"1,a,10\n2,b\n\n3,c,30\n4,d,40,x\n5,e,50\n" * 9
    rows = rows_of(b"id,name,amount\n" + lines, block=SMALL)
    assert [row["_source_position"] for row in rows] == list(range(2, 47))
    assert [row["id"] for row in rows] == ["1", None, "3", None, "5"] * 9


def test_too_few_and_too_many_fields_keep_the_whole_line() -> None:
    content = b'id,name,amount\n1,a\n2,b,20\n3,"c,d",30,x\n,\n'
    assert corrupt(content) == [
        (2, "1,a", "too few fields"),
        (4, '3,"c,d",30,x', "too many fields"),
    ]


def test_a_file_of_corrupt_lines_alone_loses_none() -> None:
    lines = [f"{number},x" for number in range(2_000)]
    content = "\n".join(["id,name,amount", *lines]).encode()
    expected = [(number + 2, line, "too few fields") for number, line in enumerate(lines)]
    assert corrupt(content, block=64) == expected


def test_corrupt_lines_come_in_the_same_order_however_far_ahead_arrow_reads() -> None:
    lines = [f"{n},a,{n}" if n % 3 else f"{n},a" for n in range(5_000)]
    content = "\n".join(["id,name,amount", *lines, ""]).encode()
    seen = [row["_source_position"] for row in rows_of(content, block=256)]
    assert seen == list(range(2, 5_002))


def test_texts_are_kept_as_they_stand() -> None:
    content = 'id,name,amount\n NA ,"",NULL\n1e3,"say ""hi""\n,\r\n…",\x01\n'.encode()
    assert values(content) == [
        (" NA ", "", "NULL"),
        ("1e3", 'say "hi"\n,\r\n…', "\x01"),
    ]


def test_a_record_with_line_breaks_in_quotes_is_whole_across_blocks() -> None:
    content = b'id,name,amount\n1,"' + b"x\n" * 100 + b'",10\n2,b,20\n'
    assert values(content, block=128)[1:] == [("2", "b", "20")]
    assert values(content, block=128)[0] == ("1", "x\n" * 100, "10")


def test_other_delimiters_and_quotes() -> None:
    content = b"id;name;amount\n1;'a;b';10\n"
    assert values(content, formatted(delimiter=";", quote="'")) == [("1", "a;b", "10")]
    content = b'id\tname\tamount\n1\t"a\t10\n2\tb"\t20\n'
    assert values(content, formatted(delimiter="\t", quote=None)) == [
        ("1", '"a', "10"),
        ("2", 'b"', "20"),
    ]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-16-le", "utf-8-sig"])
def test_other_encodings_become_the_same_text(encoding: str) -> None:
    content = "id,name,amount\n1,Müller,10\n2,Zoë\n".encode(encoding)
    rows = rows_of(content, formatted(encoding=encoding), block=SMALL)
    assert [row["name"] for row in rows] == ["Müller", None]
    assert rows[1]["_corrupt_record"] == "2,Zoë"


@pytest.mark.parametrize("content", [GOOD[:15], GOOD[:14], b"id,name,amount\r\n\r\n"], ids=str)
def test_a_header_alone_is_a_file_without_rows(content: bytes) -> None:
    assert rows_of(content) == []


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_a_row_with_a_nul_is_corrupt_and_no_other(encoding: str) -> None:
    lines = ["id,name,amount", "1,a,10", '2,"b, \0\0",20', "3,c,30", "4,\0"]
    rows = rows_of("\n".join(lines).encode(encoding), formatted(encoding=encoding), block=SMALL)
    assert [(row["id"], row["_corrupt_record"], row["_corrupt_reason"]) for row in rows] == [
        ("1", None, None),
        (None, '2,"b, \0\0",20', "a NUL character"),
        ("3", None, None),
        (None, "4,\0", "too few fields"),
    ]


def test_one_column_reads_as_well_as_many() -> None:
    single = entity(columns=[{"name": "id", "type": "string"}])
    assert values(b"id\n1\n\n2\n", single) == [("1",), ("2",)]
    rows = rows_of(b"id\n1\n2,3\n", single)
    assert [(row["id"], row["_corrupt_reason"]) for row in rows] == [
        ("1", None),
        (None, "too many fields"),
    ]


@pytest.mark.parametrize(
    "header",
    [
        "id,Prénom,amount",
        "id,Pre\u0301nom,amount",
        '\ufeff"id" ,\u00a0Prénom\u200b,"amount"',
        "id,Pr\u00ade\u0301nom ,amount,X1,X1",
    ],
)
@pytest.mark.parametrize("declared", ["Prénom", "Pre\u0301nom"])
def test_names_that_look_the_same_are_the_same(header: str, declared: str) -> None:
    columns = [
        {"name": "id", "type": "string"},
        {"name": "first_name", "from": declared, "type": "string"},
    ]
    described = entity(columns=columns, extract={"extra_columns": "ignore"})
    assert values(f"{header}\n1,Ann,10{',' * header.count('X1')}\n".encode(), described) == [
        ("1", "Ann")
    ]


def test_columns_are_found_by_the_names_of_the_source() -> None:
    columns = [{"name": "order_id", "from": "Order ID", "type": "bigint"}]
    described = entity(columns=columns, key=["order_id"], extract={"extra_columns": "ignore"})
    assert values(b"Name,Order ID,,\na,1,,\n", described) == [("1",)]


@pytest.mark.parametrize(
    "content", [b"", b"\n\r\n\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)], ids=str
)
def test_an_empty_file_is_rejected(content: bytes) -> None:
    assert f"{PATH} is empty: it has no header | deliver" in rejection(content)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("id,amount", "line 1: column 'name' is missing | deliver the file with it"),
        ("id,Name,amount", "column 'name' is missing | the file calls it 'Name'"),
        ("id", "columns 'name', 'amount' are missing"),
        ("ID,NAME,AMOUNT_", "'id', 'name', 'amount' are missing | the file calls it 'ID': declare"),
        ("id,n_a-m e,amount", "the file calls it 'n_a-m e'"),
        ("id,name,amount,\0[/red]\x1b", r"column '\x00[/red]\x1b' is not declared"),
        ("id,name,amount,note", "column 'note' is not declared | declare it in columns of orders"),
        ("id,name,amount,", "a column without a name is not declared"),
        ("id,name,amount,id", "column 'id' is there more than once"),
    ],
)
def test_another_header_is_rejected_by_name(header: str, said: str) -> None:
    assert f"{PATH}: line 1: " in rejection(f"{header}\n".encode())
    assert said in rejection(f"{header}\n1,{CANARY},3\n".encode())


def test_a_file_without_a_header_is_rejected_without_showing_its_first_row() -> None:
    said = rejection(f"1,{CANARY},10\n".encode())
    assert "line 1 names none of the columns id, name, amount" in said
    assert "delimited by ','" in said


@pytest.mark.parametrize("block", [SMALL, 2**20])
def test_the_wrong_encoding_is_rejected_by_line_character_and_column(block: int) -> None:
    content = f"id,name,amount\n1,ok,10\n2,{CANARY} caf\xe9,20\n".encode("cp1252")
    said = rejection(content, block=block)
    assert f"{PATH}: line 3, character 13 (column 'name'): not text in utf-8" in said
    assert "declare format.encoding: cp1252" in said


def test_the_wrong_encoding_is_found_far_into_a_file_and_in_broken_lines() -> None:
    lines = "".join(f"{number},é,1\n" for number in range(300_000)).encode()
    content = b"id,name,amount\n" + lines + b"1,x,y,\xff\xfe\n"
    assert "line 300002, character 7" in rejection(content)


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        ("id,name,amount\n1,é,\x81\n".encode("latin-1"), "cp1252", "(column 'amount')"),
        ("id,name,amount\n1,é,2\n".encode(), "ascii", "format.encoding: utf-8 if"),
        (b"id,na\xffme,amount\n", "utf-8", "line 1, character 6: not text"),
        ("id,name,amount\n1,a,é".encode()[:-1], "utf-8", "line 2, character 5: not text"),
        ("id,name\n".encode("utf-16")[:-1], "utf-16", "line 1, character 8"),
    ],
)
def test_what_is_not_text_says_where_and_what_it_may_be(
    content: bytes, encoding: str, said: str
) -> None:
    assert said in rejection(content, formatted(encoding=encoding))


class _Pieces:
    """A stream that hands out bytes as somebody cut them."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read(self, _size: int, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_a_character_cut_by_two_reads_is_read_and_a_broken_one_is_found_where_it_begins() -> None:
    euro = "€".encode()
    good = _Pieces(b"id,name,amount\n1,", euro[:2], euro[2:], b",1\n")
    assert [row for b in read_csv(good, PATH, entity()) for row in b["name"].to_pylist()] == ["€"]
    bad = _Pieces(b"id,name,amount\n1,a", euro[:2], b"xyz,1\n")
    with pytest.raises(SourceRejectedError, match=r"line 2, character 4 \(column 'name'\): not"):
        list(read_csv(bad, PATH, entity()))


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_truncated_gzip_file_is_rejected(cut: int) -> None:
    lines = "".join(f"{number},{number * 7919 % 10007},1\n" for number in range(50_000)).encode()
    content = gzip.compress(b"id,name,amount\n" + lines)
    said = rejection(content[: -(len(content) // 2 if cut == 9 else cut)])
    assert f"{PATH}: its gzip data ends too early: the file was cut off" in said


@pytest.mark.parametrize("tail", [b"more", b"\x1f\x8b more than a header"])
def test_damaged_gzip_data_is_rejected(tail: bytes) -> None:
    assert "its gzip data is damaged" in rejection(gzip.compress(GOOD) + tail)


def test_a_flipped_bit_in_gzip_data_is_rejected() -> None:
    content = bytearray(gzip.compress(GOOD))
    content[-5] ^= 1
    assert "its gzip data is damaged" in rejection(bytes(content))


def test_a_record_that_is_too_long_is_rejected_and_not_read_without_end() -> None:
    content = b'id,name,amount\n1,a,10\n2,"' + CANARY.encode() * 1_000 + b'",30\n'
    said = rejection(content, block=256, longest=256)
    assert "the record after line 2 has more than 256 bytes" in said


def test_a_first_line_that_never_ends_is_rejected() -> None:
    assert "line 1 has more than 1,048,576 bytes" in rejection(b"x" * 3_000_000)


class _Endless:
    """A stream that counts what was read of it, and breaks off if told to."""

    def __init__(self, size: int, breaks_at: int | None = None) -> None:
        self.read_bytes, self._size, self._breaks_at = 0, size, breaks_at

    def read(self, size: int, /) -> bytes:
        if self._breaks_at is not None and self.read_bytes >= self._breaks_at:
            raise SourceUnavailableError("the source broke off", fix="try again")
        if self.read_bytes >= self._size:
            return b""
        line = b"1,abc,10.00\n" if self.read_bytes else b"id,name,amount\n"
        chunk = line * (size // len(line)) if self.read_bytes else line
        self.read_bytes += len(chunk)
        return chunk


def test_a_large_file_is_not_read_much_further_than_its_rows_are_taken() -> None:
    stream = _Endless(256 * 2**20)
    batches: Iterator[pa.RecordBatch] = read_csv(stream, PATH, entity(), 2**18)
    next(batches)
    assert stream.read_bytes < 16 * 2**20


def test_a_source_that_breaks_off_says_so() -> None:
    stream = _Endless(2**30, breaks_at=5 * 2**20)
    with pytest.raises(SourceUnavailableError, match="broke off"):
        list(read_csv(stream, PATH, entity()))
