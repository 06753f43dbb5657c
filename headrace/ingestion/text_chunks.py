"""From the bytes of a file to chunks of valid UTF-8, with bounded memory.

Belongs here: reading, decompressing, transcoding, and where in the text a bad byte lies.
Elsewhere: what the text means (headrace.ingestion.csv_reader).
"""

import codecs
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from headrace.errors import SourceRejectedError
from headrace.ingestion.landing import ByteStream

CHUNK_BYTES = 2**20

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 31  # zlib's number for a gzip header and checksum
_KEPT_AS_THEY_ARE = {"utf-8", "ascii"}
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LIKELY_ENCODINGS = ("utf-8", "cp1252", "latin-1")


class UndecodableTextError(Exception):
    """A byte is not text in the declared encoding. Never shown: its reader knows the columns.

    Attributes:
        line: Its line in the file, from 1.
        character: Its position in the line, from 1.
        line_start: The line before it; None when too much of it is gone.
        suggestion: An encoding in which the bytes around it are text, if one is likely.
    """

    def __init__(
        self, line: int, character: int, line_start: str | None, suggestion: str | None
    ) -> None:
        super().__init__(f"line {line}, character {character}")
        self.line = line
        self.character = character
        self.line_start = line_start
        self.suggestion = suggestion


def read_chunks(stream: ByteStream) -> Iterator[bytes]:
    """The bytes of a stream, up to CHUNK_BYTES at a time."""
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def gunzipped(chunks: Iterable[bytes], path: str) -> Iterator[bytes]:
    """The same bytes, decompressed if they are gzip's, whatever the file's name says.

    Raises:
        SourceRejectedError: The gzip data is damaged or ends too early.
    """
    rest = iter(chunks)
    first = next(rest, b"")
    whole = chain([first], rest) if first else iter(())
    return _inflated(whole, path) if first.startswith(_GZIP_MAGIC) else whole


def as_utf8(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The same text in UTF-8. What is UTF-8 already is looked at and passed on untouched.

    Raises:
        UndecodableTextError: A byte is not text in `encoding`.
    """
    name = codecs.lookup(encoding).name
    name = "utf-8" if name == "utf-8-sig" else name  # The reader drops the mark itself.
    decoder = codecs.getincrementaldecoder(name)()
    at_rest, place = decoder.getstate(), _Place()
    for chunk in chain(chunks, [b""]):
        state = decoder.getstate()
        if name in _KEPT_AS_THEY_ARE and state == at_rest and chunk.isascii():
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
            raise place.undecodable(before, chunk, name) from None
        place.pass_text(text)
        yield chunk if name in _KEPT_AS_THEY_ARE else text.encode()


class ChunkReader:
    """Chunks as the file that Arrow reads from: every read is filled as far as the chunks go."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self.closed = False

    def readable(self) -> bool:
        """Arrow asks."""
        return True

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        parts, filled = [self._rest], len(self._rest)
        while filled < size and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            filled += len(chunk)
        joined = b"".join(parts)
        self._rest = joined[size:]
        return joined[:size]

    def close(self) -> None:
        """Nothing to close: the chunks belong to whoever made them."""
        self.closed = True


class _Place:
    """How many lines have passed, and how many characters of the line that has not ended."""

    def __init__(self) -> None:
        self._lines = 0
        self._characters = 0
        self._is_start = True

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
        is_utf16 = self._is_start and chunk.startswith(_UTF16_MARKS)
        suggestion = "utf-16" if is_utf16 else _likely_encoding(chunk, encoding)
        return UndecodableTextError(line, position + 1, known, suggestion)

    def _pass(self, lines: int, length: int, last: int) -> None:
        self._lines += lines
        self._characters = length - last - 1 if lines else self._characters + length
        self._is_start = self._is_start and not length


def _inflated(chunks: Iterable[bytes], path: str) -> Iterator[bytes]:
    members = _GzipMembers()
    try:
        for chunk in chunks:
            yield from members.inflate(chunk)
        yield from members.flush()
    except zlib.error as error:
        raise SourceRejectedError(
            f"{path}: its gzip data is damaged: {error}", fix="deliver the file again"
        ) from None
    if not members.ended:
        raise SourceRejectedError(
            f"{path}: its gzip data ends too early: the file was cut off",
            fix="deliver the file again, whole",
        )


class _GzipMembers:
    """Inflates gzip data a bounded piece at a time; files joined with cat are one file."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)

    @property
    def ended(self) -> bool:
        return self._member.eof

    def inflate(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._member.eof:
                if not chunk.strip(b"\0"):
                    return  # Padding, as tapes and block devices leave it.
                self._member = zlib.decompressobj(_GZIP)
            if text := self._member.decompress(chunk, CHUNK_BYTES):
                yield text
            chunk = self._member.unused_data or self._member.unconsumed_tail

    def flush(self) -> Iterator[bytes]:
        if text := self._member.flush():
            yield text


def _likely_encoding(chunk: bytes, declared: str) -> str | None:
    for encoding in _LIKELY_ENCODINGS:
        if encoding == declared:
            continue
        try:
            codecs.getincrementaldecoder(encoding)().decode(chunk)
        except UnicodeDecodeError:
            continue
        return encoding
    return None
