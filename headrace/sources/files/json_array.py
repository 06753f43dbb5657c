"""Splits a JSON document into the elements of one array, one a line, with bounded memory."""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from headrace.errors import SourceRejectedError, shown

# A text or number at the end of a piece may go on in the next one. Without possessive quantifiers a
# run of megabytes of blanks takes seconds, since each of its ends is tried.
_TOKEN = re.compile(
    rb'\s*+(?:([{}\[\],:])|("[^"\\]*+(?:\\.[^"\\]*+)*+")|([^\s{}\[\],:"]+))', re.DOTALL
)
_BLANK = re.compile(rb"\s*")
# A text that looks like the name of a member, and not like data, so that an error may show it.
MEMBER_NAME = re.compile(r"[A-Za-z_@$][\w.-]{0,39}")
_MOST_SHOWN = 10
_LF, _SPACE, _CONTROL = 10, 32, 1
_COMMA = ord(",")
_STEPS = np.zeros(256, np.int8)
_STEPS[[*b"{["]] = 1
_STEPS[[*b"}]"]] = -1
_IS_MARK = np.zeros(256, bool)
_IS_MARK[[*b"{}[],"]] = True


def array_elements(
    chunks: Iterable[bytes], steps: Sequence[str], path: str, most: int
) -> Iterator[bytes]:
    """The elements of an array in pieces; each element is on a line of its own.

    Line ends within an element become spaces, which mean the same. The document is read to its end.

    Args:
        chunks: The document as UTF-8.
        steps: The members that lead to the array; none if the document is the array.
        path: The file's name, for errors.
        most: The most bytes of an element.

    Raises:
        SourceRejectedError: There is no array, the document is not whole, or an element too long.
    """
    document = _Document(chunks, path, most)
    document.enter(steps)
    yield from document.elements()
    document.leave(len(steps))


def too_long_error(
    path: str, unit: str, number: int, most: int, option: str = "max_record_bytes"
) -> SourceRejectedError:
    """A record exceeds the limit that `format` has as `option`."""
    return SourceRejectedError(
        f"{path}: {unit} {number} has more than {most:,} bytes",
        fix="see that the file is what `format` says, with one record after another; declare "
        f"format.{option} if records are that long",
    )


class _Document:
    def __init__(self, chunks: Iterable[bytes], path: str, most: int) -> None:
        self._chunks, self._path, self._most = iter(chunks), path, most
        self._text = b""
        self._at = 0

    def enter(self, steps: Sequence[str]) -> None:
        """Go to the start of the array's elements."""
        where = "the document"
        for step in steps:
            token = self._next()
            if token != b"{":
                raise self._no_array(where, token)
            self._find(step, where)
            where = f"'{shown(step)}'"
        token = self._next()
        if token != b"[":
            raise self._no_array(where, token)

    def elements(self) -> Iterator[bytes]:
        """The elements, up to the end of the array."""
        text = self._text[self._at :]
        self._text, self._at, count = b"", 0, 0
        while True:
            block, end, rest = _split(text)
            if block.strip():
                count += block.count(b"\n")
                yield block
            elif block and (count or not end or block.count(b"\n") > 1):
                raise self._broken(f"there is nothing where record {count + 1} should be")
            if end:
                self._text = rest
                return
            if len(rest) > self._most:
                raise too_long_error(self._path, "record", count + 1, self._most)
            more = next(self._chunks, b"")
            if not more:
                raise self._broken(f"it ends within the array, after record {count}")
            text = rest + more

    def leave(self, depth: int) -> None:
        """Read what follows the array, so that a document that was cut off is found."""
        while depth:
            token = self._next()
            if token in (b"{", b"["):
                self._skip(token)
            elif token in (b"}", b"]"):
                depth -= 1
        while True:
            self._at = _end(_BLANK, self._text, self._at)
            if self._at < len(self._text):
                raise self._broken("it goes on after the end of the document")
            if not self._more():
                return

    def _find(self, step: str, where: str) -> None:
        """Go to the value of a member of the object that was just entered."""
        seen: list[str] = []
        token = self._next()
        while token != b"}":
            if not token.startswith(b'"') or self._next() != b":":
                raise self._broken("an object has no name and value where it should")
            name = _unquoted(token)
            if name == step:
                return
            seen.append(name)
            self._skip(self._next())
            token = self._next()
            if token == b",":
                token = self._next()
        names = [name for name in seen if MEMBER_NAME.fullmatch(name)][:_MOST_SHOWN]
        raise SourceRejectedError(
            f"{self._path}: {where} has no member '{shown(step)}', but "
            f"{', '.join(names) or 'none'}",
            fix="correct format.records to the path of the array",
        )

    def _skip(self, token: bytes) -> None:
        """Go to the end of the value that begins with a token."""
        depth = 0
        while True:
            depth += (token in (b"{", b"[")) - (token in (b"}", b"]"))
            if depth <= 0:
                return
            token = self._next()

    def _next(self) -> bytes:
        while True:
            match = _TOKEN.match(self._text, self._at)
            # A number or text may go on, and what is no token yet may become one.
            if match and (match[1] or match.end() < len(self._text)):
                self._at = match.end()
                return match[1] or match[2] or match[3]
            if len(self._text) - self._at > self._most:
                raise self._broken(f"a value before the array has more than {self._most:,} bytes")
            if not self._more():
                if match:
                    self._at = match.end()
                    return match[2] or match[3]
                raise self._broken("it ends too early")

    def _more(self) -> bool:
        chunk = next(self._chunks, b"")
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _no_array(self, where: str, token: bytes) -> SourceRejectedError:
        kind = {b"{": "an object", b"[": "an array", b"null": "null"}.get(token[:4], "no array")
        what = f"{where} is {kind}, not an array of records"
        if token == b"{":
            names: list[str] = []
            token = self._next()
            while token.startswith(b'"') and len(names) < _MOST_SHOWN and self._next() == b":":
                names.append(_unquoted(token))
                self._skip(self._next())
                token = self._next()
                token = self._next() if token == b"," else token
            named = ", ".join(name for name in names if MEMBER_NAME.fullmatch(name))
            what += f"; it has {named}" if named else ""
        fix = "declare format.records, the path of the array"
        if where == "the document" and token != b"[":
            fix += ", or type: json_lines if each line is a record"
        return SourceRejectedError(f"{self._path}: {what}", fix=fix)

    def _broken(self, what: str) -> SourceRejectedError:
        return SourceRejectedError(
            f"{self._path} is no whole JSON document: {what}", fix="deliver the file again, whole"
        )


def _split(text: bytes) -> tuple[bytes, bool, bytes]:
    """The whole elements at the start, one a line; whether the array ends; and the text after."""
    octets = np.frombuffer(text, np.uint8)
    quotes = _quotes(octets, has_escapes=b"\\" in text)
    marks = np.flatnonzero(_IS_MARK[octets])
    marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    kinds = octets[marks]
    depths = np.cumsum(_STEPS[kinds])
    ends = np.flatnonzero(depths < 0)
    is_end = len(ends) > 0
    if is_end:
        marks, kinds, depths = (part[: ends[0] + 1] for part in (marks, kinds, depths))
    commas = marks[(kinds == _COMMA) & (depths == 0)]
    if is_end:
        stop = int(marks[-1])
    elif len(commas):
        stop = int(commas[-1])
    else:
        return b"", False, text
    written = octets[: stop + 1].copy()
    lines = np.flatnonzero(written == _LF)
    within = np.searchsorted(quotes, lines) % 2 == 1
    # A line end in a text is no JSON: another control character is none either.
    written[lines] = np.where(within, _CONTROL, _SPACE)
    written[commas] = _LF
    written[stop] = _LF
    return written.tobytes(), is_end, text[stop + 1 :]


def _quotes(octets: npt.NDArray[np.uint8], *, has_escapes: bool) -> npt.NDArray[np.intp]:
    """Where texts begin and end: the quotes that are not escaped."""
    quotes = np.flatnonzero(octets == ord('"'))
    if not has_escapes or not len(quotes):
        return quotes
    # An odd number of backslashes before a quote escapes it. `others` are what is no backslash.
    others = np.flatnonzero(octets != ord("\\"))
    rank = np.searchsorted(others, quotes)
    before = np.where(rank > 0, others[rank - 1], -1)
    is_border: npt.NDArray[np.bool_] = (quotes - before - 1) % 2 == 0
    return quotes[is_border]


def _unquoted(token: bytes) -> str:
    return token.decode(errors="replace").strip('"')


def _end(pattern: re.Pattern[bytes], text: bytes, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start
