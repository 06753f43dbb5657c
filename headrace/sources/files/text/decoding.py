"""Decodes the bytes of a file into chunks of valid UTF-8, with bounded memory."""

import codecs
import gzip
import io
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Literal

import pyarrow as pa
from typing_extensions import Buffer

from headrace.config.sources.file_formats import UnpackLimits
from headrace.errors import SourceRejectedError
from headrace.sources.files.signatures import peek
from headrace.sources.landing.landing_zone import ByteStream

CHUNK_BYTES = 2**20
# A bad byte marked by `as_utf8`: a lone surrogate, which valid UTF-8 never holds.
MARKED_BYTE = re.compile(rb"\xed[\xb0-\xb3][\x80-\xbf]")

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PASSED_THROUGH = {"utf-8", "ascii"}
_UNICODE = ("utf-", "utf_", "ascii")
_MARKING = "headrace.marked_bytes"
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# The runs of high bytes that are examined to guess an encoding.
_GUESSED_BY = 200
# Western words have one or two letters outside ASCII in a row; other alphabets whole words.
_HIGH_RUN = 2


class UndecodableTextError(Exception):
    """A byte is not text in the declared encoding.

    Internal: the reader of the file converts it into an error that names the column.

    Attributes:
        line: Its line in the file, from 1.
        character: Its position in the line, from 1.
        line_start: The part of the line before it; None if the line began in an earlier chunk.
        suggestion: The encoding that the bytes around it are most likely in, if there is one.
    """

    def __init__(
        self, line: int, character: int, line_start: str | None, suggestion: str | None
    ) -> None:
        super().__init__(f"line {line}, character {character}")
        self.line = line
        self.character = character
        self.line_start = line_start
        self.suggestion = suggestion


def undecodable_error(
    error: UndecodableTextError, path: str, encoding: str, column: str | None = None
) -> SourceRejectedError:
    """A byte of a file is not text in its encoding; names the column if it is known."""
    fix = f"deliver the file in {encoding}"
    if error.suggestion:
        fix += f", or declare format.encoding: {error.suggestion} if that is what it is"
    where = f"line {error.line}, character {error.character}"
    where += f" (column '{column}')" if column else ""
    return SourceRejectedError(f"{path}: {where}: not text in {encoding}", fix=fix)


def other_encoding_error(path: str, encoding: str) -> SourceRejectedError:
    """A file is not text in its encoding, and the codec reports no position."""
    return SourceRejectedError(
        f"{path} is not text in {encoding}",
        fix=f"deliver the file in {encoding}, or declare the format.encoding it is in",
    )


def read_chunks(stream: ByteStream, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The bytes of a stream, up to `size` at a time."""
    while chunk := stream.read(size):
        yield chunk


def decompressed(
    chunks: Iterable[bytes], path: str, limits: UnpackLimits | None = None
) -> Iterator[bytes]:
    """The same bytes, decompressed if they are gzip's or Zstandard's, whatever the file is called.

    Raises:
        SourceRejectedError: The data is damaged or ends too early, or exceeds the limits.
    """
    first, whole = peek(chunks, len(_ZSTD_MAGIC))
    inflated = None
    packed = _CountedChunks(whole)
    if first.startswith(_GZIP_MAGIC):
        inflated = _inflated(packed, path)
    elif first == _ZSTD_MAGIC:
        inflated = _zstd_inflated(packed, path)
    if inflated is None:
        return whole
    return within_limits(inflated, lambda: packed.count, path, limits or UnpackLimits())


def within_limits(
    chunks: Iterable[bytes], packed_bytes: Callable[[], int], path: str, limits: UnpackLimits
) -> Iterator[bytes]:
    """The same bytes, up to the limits.

    Args:
        chunks: Decompressed bytes.
        packed_bytes: How many bytes they have been so far before they were decompressed.
        path: The file's name, for errors.
        limits: The most bytes, and the highest ratio.

    Raises:
        SourceRejectedError: There are more.
    """
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > limits.max_bytes:
            raise SourceRejectedError(
                f"{path}: it has more than {limits.max_bytes:,} bytes once decompressed",
                fix="see that it is what its source means to deliver; if it is, declare a higher "
                "extract.unpack.max_bytes",
            )
        if count > limits.ratio_from_bytes and count > limits.max_ratio * packed_bytes():
            raise SourceRejectedError(
                f"{path}: decompressed, it has more than {limits.max_ratio:,} times the bytes it "
                "is delivered with",
                fix="see that it is what its source means to deliver; if it is, declare a higher "
                "extract.unpack.max_ratio",
            )
        yield chunk


def as_utf8(
    chunks: Iterable[bytes],
    encoding: str,
    bad_bytes: Literal["fail", "quarantine", "replace"] = "fail",
) -> Iterator[bytes]:
    """Convert text to UTF-8. Text in UTF-8 is validated and passed through.

    Bytes that are not text in `encoding` are marked (MARKED_BYTE) for `quarantine`.

    Raises:
        UndecodableTextError: The text has such a byte, and `bad_bytes` is `fail`.
    """
    name = codecs.lookup(encoding).name
    name = "utf-8" if name == "utf-8-sig" else name  # The reader removes the byte order mark.
    decoder = codecs.getincrementaldecoder(name)(_error_handler(bad_bytes))
    at_rest, place = decoder.getstate(), _Place()
    for chunk in chain(chunks, [b""]):
        state = decoder.getstate()
        if name in _PASSED_THROUGH and state == at_rest and chunk.isascii():
            place.pass_ascii(chunk)
            yield chunk
            continue
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            decoder.setstate(state)
            before = decoder.decode(chunk[: max(0, error.start - len(state[0]))])
            # The reader needs the header, which may be in this chunk, to name the column.
            yield before.encode()
            raise place.undecodable(before, state[0] + chunk, name) from None
        place.pass_text(text)
        is_same = name in _PASSED_THROUGH and bad_bytes == "fail"
        yield chunk if is_same else text.encode("utf-8", "surrogatepass")


def without_hidden_utf8(chunks: Iterable[bytes], encoding: str, path: str) -> Iterable[bytes]:
    """The same bytes; refuses a file in UTF-8 for which a single-byte encoding is declared.

    A single-byte encoding decodes UTF-8 without an error, but each letter outside ASCII wrong.

    Raises:
        SourceRejectedError: The file has letters outside ASCII, and is valid UTF-8 as a whole.
    """
    is_unicode = codecs.lookup(encoding).name.startswith(_UNICODE)
    return chunks if is_unicode else _never_utf8(chunks, encoding, path)


class _Place:
    """A position in the text: complete lines, and characters of the line that follows them."""

    def __init__(self) -> None:
        self._lines = 0
        self._characters = 0

    def pass_ascii(self, chunk: bytes) -> None:
        self._pass(chunk.count(b"\n"), len(chunk), chunk.rfind(b"\n"))

    def pass_text(self, text: str) -> None:
        self._pass(text.count("\n"), len(text), text.rfind("\n"))

    def undecodable(self, before: str, chunk: bytes, encoding: str) -> UndecodableTextError:
        line = self._lines + before.count("\n") + 1
        start = before.rfind("\n") + 1
        if start or not self._characters:
            known, position = before[start:], len(before) - start
        else:
            known, position = None, self._characters + len(before)
        return UndecodableTextError(line, position + 1, known, _likely_encoding(chunk, encoding))

    def _pass(self, lines: int, length: int, last: int) -> None:
        self._lines += lines
        self._characters = length - last - 1 if lines else self._characters + length


def _never_utf8(chunks: Iterable[bytes], encoding: str, path: str) -> Iterator[bytes]:
    decoder, has_letters, is_utf8 = codecs.getincrementaldecoder("utf-8")(), False, True
    for chunk in chunks:
        has_letters = has_letters or not chunk.isascii()
        if has_letters and is_utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                is_utf8 = False
        yield chunk
    if has_letters and is_utf8 and not decoder.getstate()[0]:
        raise SourceRejectedError(
            f"{path} is text in utf-8, not in {encoding}: the whole file is valid utf-8",
            fix=f"declare format.encoding: utf-8, or deliver the file in {encoding}",
        )


def _inflated(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=io.BufferedReader(ChunkStream(chunks), CHUNK_BYTES)) as members:
        try:
            while text := members.read(CHUNK_BYTES):
                yield text
        except EOFError:
            raise SourceRejectedError(
                f"{path}: its gzip data ends too early: the file was cut off",
                fix="deliver the file again, whole",
            ) from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise SourceRejectedError(
                f"{path}: its gzip data is damaged: {error}", fix="deliver the file again"
            ) from None


def _zstd_inflated(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    # Arrow's stream reports data that ends too early, refuses windows above 128 MiB, and
    # decompresses no more than is read. For an empty frame, one read returns nothing.
    source = pa.PythonFile(io.BufferedReader(ChunkStream(chunks), CHUNK_BYTES), mode="r")
    try:
        with pa.CompressedInputStream(source, "zstd") as frames:
            while text := frames.read(CHUNK_BYTES):
                yield text
    except OSError as error:
        if "Truncated" in str(error):
            raise SourceRejectedError(
                f"{path}: its Zstandard data ends too early: the file was cut off",
                fix="deliver the file again, whole",
            ) from None
        raise SourceRejectedError(
            f"{path}: its Zstandard data is damaged: {str(error)[:120]}",
            fix="deliver the file again",
        ) from None


class _CountedChunks:
    """Chunks, and how many bytes of them were read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.count += len(chunk)
        return chunk


class ChunkStream(io.RawIOBase):
    """Chunks of bytes as a raw stream, which is what the gzip module reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a buffer; returns how many bytes were written to it, 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        target = memoryview(buffer)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _error_handler(bad_bytes: str) -> str:
    """The name of the codecs' error handler for an option `bad_bytes`."""
    if bad_bytes == "quarantine":
        codecs.register_error(_MARKING, _marked)
        return _MARKING
    return "replace" if bad_bytes == "replace" else "strict"


def _marked(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in bad), error.end


def _likely_encoding(chunk: bytes, declared: str) -> str | None:
    """The encoding that the bytes around a bad one are most likely in; None without a guess."""
    if declared != "utf-8" and _is_utf8(chunk):
        return "utf-8"
    return "cp1252" if declared != "cp1252" and _is_cp1252(chunk) else None


def _is_utf8(chunk: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(chunk)
    except UnicodeDecodeError:
        return False
    return True


def _is_cp1252(chunk: bytes) -> bool:
    """Whether the high bytes are letters and signs of cp1252, in places usual in western text."""
    places = list(islice(_HIGH_BYTES.finditer(chunk), _GUESSED_BY))
    fits = sum(_fits_cp1252(chunk, found) for found in places)
    # One in ten may be an error. Binary data has control characters; the high bytes of UTF-8 with
    # a few errors do not fit cp1252.
    return bool(places) and not _CONTROLS.search(chunk) and fits * 10 >= len(places) * 9


def _fits_cp1252(chunk: bytes, found: re.Match[bytes]) -> bool:
    if found.end() - found.start() > _HIGH_RUN:
        return False
    try:
        word = chunk[max(0, found.start() - 1) : found.end() + 1].decode("cp1252")
    except UnicodeDecodeError:
        return False
    before, after = word[:1] if found.start() else "", word[-1:]
    for letter in found[0].decode("cp1252"):
        kind = unicodedata.category(letter)
        if letter == "\u2019":  # An apostrophe.
            continue
        if kind == "Lu" and before.islower():
            return False
        if not kind.startswith("L") and before.isalpha() and after.isalpha():
            return False
        before = letter
    return True
