"""Files that are no text or another encoding's: known by their bytes, named with a remedy."""

import gzip
import io
import zipfile
from typing import Any

import pyarrow as pa
import pytest

from headrace.errors import SourceRejectedError
from headrace.sources.files.text.csv_reader import read_csv
from tests.raw.building import entity

TEXT = "id,name,amount\n1,Müller,10\n2,Zoë,20\n"


def names(content: bytes, encoding: str = "utf-8", chunk: int = 2**20) -> list[Any]:
    described = entity(extract={"format": {"encoding": encoding}})
    batches = read_csv(io.BytesIO(content), "f.csv", described, chunk)
    return [name for batch in batches for name in batch["name"].to_pylist()]


def rejection(content: bytes, encoding: str = "utf-8", chunk: int = 2**20) -> str:
    with pytest.raises(SourceRejectedError) as caught:
        names(content, encoding, chunk)
    return f"{caught.value} | {caught.value.fix}"


def zipped(*members: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for member in members:
            archive.writestr(member, TEXT)
    return target.getvalue()


KINDS = {
    "a zip file": zipped("orders.csv"),
    "an Excel workbook (.xlsx)": zipped("[Content_Types].xml", "xl/workbook.xml"),
    "an Excel workbook (.xls)": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512,
    "an OpenDocument spreadsheet (.ods)": zipped("application/vnd.oasis.opendocument.spreadsheet"),
    "a gzip file within a compressed file": gzip.compress(gzip.compress(TEXT.encode())),
    "a Zstandard file within a compressed file": pa.compress(
        pa.compress(TEXT.encode(), codec="zstd", asbytes=True), codec="zstd", asbytes=True
    ),
    "a Parquet file": b"PAR1\x15\x04" + b"\0" * 20,
    "a web page": b"\xef\xbb\xbf\n<!DOCTYPE HTML>\n<title>Sign in</title>",
}


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_a_file_that_is_no_text_is_called_what_it_is(what: str, encoding: str, chunk: int) -> None:
    assert f"f.csv is {what}, not text | " in rejection(KINDS[what], encoding, chunk)


def test_a_zip_file_within_gzip_is_called_a_zip_file() -> None:
    assert "is a zip file" in rejection(gzip.compress(zipped("orders.csv")))


@pytest.mark.parametrize("written", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("declared", ["utf-8", "cp1252", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_another_unicode_encoding_is_named(written: str, declared: str, chunk: int) -> None:
    if {written, declared} <= {"utf-8", "utf-8-sig"} or written == declared:
        assert names(TEXT.encode(written), declared, chunk) == ["Müller", "Zoë"]
        return
    if {written, declared} == {"utf-16-le", "utf-16-be"}:
        assert "names none of the columns" in rejection(TEXT.encode(written), declared, chunk)
        return
    named = written.replace("-sig", "")
    said = rejection(TEXT.encode(written), declared, chunk)
    assert f"f.csv is text in {named}, as its" in said
    assert f"declare format.encoding: {named}, or" in said


@pytest.mark.parametrize("written", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("chunk", [1, 3, 2**20])
def test_utf_16_is_read_without_a_byte_order_mark(written: str, chunk: int) -> None:
    assert names(TEXT.encode(written), "utf-16", chunk) == ["Müller", "Zoë"]


def test_what_is_declared_as_utf_16_and_is_not_is_named() -> None:
    assert "no byte order mark, no NUL byte | declare the encoding it is in" in rejection(
        TEXT.encode(), "utf-16"
    )
    assert "not text in utf-16-le" in rejection(TEXT.encode(), "utf-16-le")
    assert "utf-16 needs | declare format.encoding: utf-16-le or utf-16-be" in rejection(
        "абвгдежз\n".encode("utf-16-le") * 9, "utf-16"
    )
    assert "utf-32 needs" in rejection(TEXT.encode("utf-32-le"), "utf-32")


@pytest.mark.parametrize("declared", ["cp1252", "latin-1", "cp850"])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_utf_8_is_not_read_as_another_encoding(declared: str, chunk: int) -> None:
    said = rejection(TEXT.encode(), declared, chunk)
    assert "f.csv is text in utf-8, not in" in said
    assert "declare format.encoding: utf-8" in said
    assert names(TEXT.encode(declared), declared, chunk) == ["Müller", "Zoë"]
    # One place that is no UTF-8 says that the others only look like it.
    assert names((TEXT + "3,Ã¼,Zoë\n").encode("latin-1"), "latin-1")[2] == "Ã¼"
    assert names(b"id,name,amount\n1,a,2\n", declared) == ["a"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("1,Müller,2\n2,São Paulo,3", "cp1252"),
        ("1,5 €,2", "cp1252"),
        ("1,it\u2019s “so”,2", "cp1252"),
        ("1,Élan,2\n2,25°C,3", "latin-1"),
    ],
)
def test_cp1252_is_suggested_for_western_text(text: str, encoding: str) -> None:
    said = rejection(f"id,name,amount\n{text}\n".encode(encoding))
    assert "declare format.encoding: cp1252 if that is what it is" in said


@pytest.mark.parametrize(
    "content",
    [
        "1,Москва,2\n2,Анна,3".encode("cp1251"),
        "1,東京,2\n2,大阪,3".encode("shift_jis"),
        "1,Müller,2\n2,Käse,3".encode("cp850"),
        "1,Müller,2\n2,caféteria,3".encode("mac-roman"),
        "1,Müller,2\n2,Zoë,3\n3,a".encode() + b"\xff,4",
        b"1,\x00\x01\xe9,2",
        "1,Ωμέγα,2".encode("iso8859-7"),
    ],
)
def test_cp1252_is_not_suggested_for_anything_else(content: bytes) -> None:
    said = rejection(b"id,name,amount\n" + content + b"\n")
    assert "not text in utf-8 | deliver the file in utf-8" in said
    assert "cp1252" not in said
