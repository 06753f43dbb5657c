"""Detects by a file's first bytes that it is not text, or text in another encoding."""

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain

from headrace.errors import SourceRejectedError

# Enough for the names of a workbook's first parts, which distinguish Excel's zip files from others.
SAMPLE_BYTES = 4096

_UNPACK = "deliver the file itself, plain or compressed by gzip or Zstandard"
_ZIP = "name its member in `path`, such as orders.zip!orders.csv, or " + _UNPACK
_EXPORT = "declare format: {type: excel}, or save the sheet as CSV in UTF-8 and deliver that"
_KINDS = (
    (b"PK\x03\x04", "a zip file", _ZIP),
    (b"PK\x05\x06", "an empty zip file", _UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", _EXPORT),
    (b"\x1f\x8b", "a gzip file within a compressed file", "compress it once"),
    (b"BZh91AY&SY", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file within a compressed file", "compress it once"),
    (b"\x04\x22\x4d\x18", "an LZ4 file", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR file", _UNPACK),
    (b"PAR1\x15", "a Parquet file", "declare connector: parquet_files, or deliver it as text"),
    (b"%PDF-", "a PDF document", "deliver its table as delimited text"),
)
_ZIPPED_DOCUMENTS = (
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet (.ods)"),
    (b"xl/", "an Excel workbook (.xlsx)"),
    (b"[Content_Types].xml", "an Office document, most likely an Excel workbook (.xlsx)"),
)
# Where a tar archive says what it is.
_TAR_AT = 257
_MARKUP = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
)
# UTF-32's byte order marks begin with those of UTF-16, so they come first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", {"utf-8", "utf-8-sig"}),
    (codecs.BOM_UTF32_LE, "utf-32", {"utf-32", "utf-32-le"}),
    (codecs.BOM_UTF32_BE, "utf-32", {"utf-32", "utf-32-be"}),
    (codecs.BOM_UTF16_LE, "utf-16", {"utf-16", "utf-16-le"}),
    (codecs.BOM_UTF16_BE, "utf-16", {"utf-16", "utf-16-be"}),
)
_WIDE = {"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
# No signature and no byte order mark above begins with one of these.
_PLAIN_STARTS = frozenset(bytes([byte]) for byte in b'abcdefghijklmnopqrstuvwxyz"0123456')
# Half of the bytes of Latin text in UTF-16 are NULs, all of them the same byte of their pairs.
_NUL_SHARE = 0.3


def check_signature(
    chunks: Iterable[bytes], encoding: str, path: str
) -> tuple[Iterator[bytes], str]:
    """The same bytes, and their encoding; for UTF-16 without a mark, with the byte order found.

    Raises:
        SourceRejectedError: The file is no text, or text in another encoding than `encoding`.
    """
    sample, whole = peek(chunks, SAMPLE_BYTES)
    # True for most files. The checks below take a tenth of the time to read a small file.
    is_plain = sample[:1] in _PLAIN_STARTS and b"\0" not in sample
    if not sample or (is_plain and codecs.lookup(encoding).name not in _WIDE):
        return whole, encoding
    if (kind := _kind_of(sample)) is not None:
        what, fix = kind
        raise SourceRejectedError(f"{path} is {what}, not text", fix=fix)
    return whole, _encoding_of(sample, encoding, path)


def peek(chunks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `size` bytes, fewer if there are no more, and all of the bytes."""
    rest = iter(chunks)
    first = next(rest, b"")
    while len(first) < size and (more := next(rest, b"")):
        first += more
    return first[:size], chain([first] if first else [], rest)


def _kind_of(sample: bytes) -> tuple[str, str] | None:
    for magic, what, fix in _KINDS:
        if sample.startswith(magic):
            if magic == b"PK\x03\x04":
                documents = (name for part, name in _ZIPPED_DOCUMENTS if part in sample)
                if document := next(documents, None):
                    return document, _EXPORT
            return what, fix
    if sample[_TAR_AT:].startswith(b"ustar"):
        return "a tar archive", f"{_UNPACK}, or in a zip archive"
    start = sample.removeprefix(codecs.BOM_UTF8).lstrip()[:16].lower()
    for tag, what in _MARKUP:
        if start.startswith(tag):
            return what, "see what its source answered, and deliver the file again"
    return None


def _encoding_of(sample: bytes, encoding: str, path: str) -> str:
    declared = codecs.lookup(encoding).name
    for mark, marked, readers in _MARKS:
        if sample.startswith(mark):
            if declared in readers:
                return encoding
            raise _another_encoding(path, marked, encoding, "as its byte order mark says")
    found = _utf16_order(sample)
    if found is not None and declared not in _WIDE:
        raise _another_encoding(path, found, encoding, "as its NUL bytes show")
    if declared == "utf-16" and found is not None:
        return found
    if declared in _WIDE and b"\0" not in sample:
        # A line end or a delimiter of UTF-16 and UTF-32 has a NUL.
        raise SourceRejectedError(
            f"{path} is not text in {encoding}: no byte order mark, no NUL byte",
            fix="declare the encoding it is in, such as format.encoding: utf-8",
        )
    if declared in {"utf-16", "utf-32"}:
        raise SourceRejectedError(
            f"{path} has no byte order mark, which {encoding} needs",
            fix=f"declare format.encoding: {encoding}-le or {encoding}-be",
        )
    return encoding


def _utf16_order(sample: bytes) -> str | None:
    pairs = len(sample) // 2
    if pairs < 2 or b"\0" not in sample:  # noqa: PLR2004  # One pair may be anything.
        return None
    first, second = (sample[side : 2 * pairs : 2].count(0) for side in (0, 1))
    if second >= _NUL_SHARE * pairs and not first:
        return "utf-16-le"
    if first >= _NUL_SHARE * pairs and not second:
        return "utf-16-be"
    return None


def _another_encoding(path: str, found: str, declared: str, why: str) -> SourceRejectedError:
    return SourceRejectedError(
        f"{path} is text in {found}, {why}, not in {declared}",
        fix=f"declare format.encoding: {found}, or deliver the file in {declared}",
    )
