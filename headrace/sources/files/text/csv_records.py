"""Splits delimited text into valid records and damaged lines.

A quote that is left open, or not doubled within quotes, makes a parser join rows without an error.
Such lines are set aside first, so that Arrow parses valid records only.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

TEXT_AFTER_QUOTE = "text after a closing quote"
ESCAPED_QUOTE = "text after a closing quote: declare format.escape if \\ escapes quotes"
OPEN_QUOTE = "a quote is opened and never closed"
TOO_MANY_LINE_BREAKS = "more line breaks in quotes than format.max_line_breaks"

# If this many lines after an open quote are valid rows, only the quote is wrong.
_ROWS_AFTER_STRAY_QUOTE = 10

_LF, _CR = b"\n\r"
_LINE = re.compile(rb"[^\r\n]+")


class RecordTooLongError(Exception):
    """A record exceeds the limit. Internal: the reader converts it into an error with the line."""


@dataclass(frozen=True)
class Syntax:
    """How the records of a text are written.

    Attributes:
        delimiter: One byte.
        quote: One byte, or None.
        comment: Prefix of lines that are comments, if there are such lines.
        width: Fields of a row.
        max_line_breaks: Most line breaks in a quoted field.
        record_bytes: Most bytes of a record.
    """

    delimiter: bytes
    quote: bytes | None
    comment: bytes | None
    width: int
    max_line_breaks: int
    record_bytes: int


@dataclass(frozen=True)
class _Record:
    """A record, parsed by itself.

    Attributes:
        end: Offset after its line end; None if it may go on after the text at hand.
        fields: Number of its fields.
        breaks: The most line breaks in one of its quoted fields.
        damage: The reason to set it aside, if text follows a closing quote.
        is_open: The text at hand ends within quotes.
    """

    end: int | None
    fields: int
    breaks: int
    damage: str | None
    is_open: bool = False


class ValidRecords:
    """Passes valid records through, and replaces damaged lines.

    Args:
        syntax: How the text is written.
        set_aside: Called with a damaged line, without its end, and the reason; returns the line
            that replaces it.
    """

    def __init__(self, syntax: Syntax, set_aside: Callable[[bytes, str], bytes]) -> None:
        self.syntax = syntax
        self.set_aside = set_aside

    # Computed on first use: most texts have no quotes and need none of these.

    @cached_property
    def is_border(self) -> Flags:
        """By byte, whether it separates fields: the delimiter, CR and LF."""
        is_border = np.zeros(256, dtype=bool)
        is_border[[*b"\r\n", *self.syntax.delimiter]] = True
        return is_border

    @cached_property
    def _quoted(self) -> re.Pattern[bytes]:
        quote = re.escape(self.syntax.quote or b'"')
        # Without possessive quantifiers an open `"a""b` would be read as `"a"` and more.
        return re.compile(b"%b[^%b]*+(?:%b%b[^%b]*+)*+%b" % ((quote,) * 6))

    @cached_property
    def _plain(self) -> re.Pattern[bytes]:
        return re.compile(b"[^%b\r\n]*" % re.escape(self.syntax.delimiter))

    @cached_property
    def _blank(self) -> re.Pattern[bytes]:
        return re.compile(b"[%b]*" % b" \t".replace(self.syntax.delimiter, b""))

    @cached_property
    def _comments(self) -> tuple[re.Pattern[bytes], ...]:
        comment = re.escape(self.syntax.comment or b"") + rb"[^\r\n]*"
        # A pattern that begins with a fixed text is found several times as fast as alternatives.
        return tuple(re.compile(end + comment) for end in (b"", b"\n", b"\r"))

    def of(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The text in pieces, each of which ends at the end of a record.

        Raises:
            RecordTooLongError: A record is longer than `record_bytes`.
        """
        rest = b""
        for chunk in chunks:
            text = rest + chunk if rest else chunk
            pieces, end = self._split(text, is_last=False)
            yield from pieces
            rest = text[end:]
            if len(rest) > self.syntax.record_bytes:
                raise RecordTooLongError
        pieces, _ = self._split(rest, is_last=True)
        yield from pieces

    def _split(self, text: bytes, *, is_last: bool) -> tuple[list[bytes], int]:
        """The complete records at the start of `text`, damaged lines replaced, and their end."""
        if self.syntax.quote is not None and self.syntax.quote in text:
            quoted = _QuotedText(self, text, is_last=is_last)
            if quoted.has_fields:
                return quoted.split()
        end = len(text) if is_last else max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        pieces, start = [], 0
        for comment_start, comment_end in self.comments_in(text):
            if comment_start < end:
                pieces.append(text[start:comment_start])
                start = comment_end
        if start < end:
            pieces.append(text[start:end])
        return pieces, end

    def comments_in(self, text: bytes) -> list[tuple[int, int]]:
        """The spans of lines that look like comments, without their line ends.

        Some may be within quotes, and the last may go on after the text.
        """
        if self.syntax.comment is None:
            return []
        at_start, *behind_line_end = self._comments
        first = at_start.match(text)
        found = [first.span()] if first else []
        for pattern in behind_line_end:
            found += [(match.start() + 1, match.end()) for match in pattern.finditer(text)]
        return sorted(found)

    def record_at(self, text: bytes, start: int, *, is_last: bool) -> _Record:
        """The record that begins at `start`; `is_last` says that nothing follows the text."""
        quote, at, fields, breaks, damage = self.syntax.quote, start, 0, 0, None
        while True:
            fields += 1
            if quote is not None and text.startswith(quote, at):
                quoted = self._quoted.match(text, at)
                is_open = quoted is None or (quoted.end() == len(text) and not is_last)
                close = len(text) if quoted is None else quoted.end()
                breaks = max(breaks, _line_breaks(text, at, close))
                if is_open:
                    return _Record(None, fields, breaks, damage, is_open=True)
                at = _end_of(self._blank, text, close)
                if _end_of(self._plain, text, at) > at and damage is None:
                    is_escaped = text.startswith(b"\\", close - 2)
                    damage = ESCAPED_QUOTE if is_escaped else TEXT_AFTER_QUOTE
            at = _end_of(self._plain, text, at)
            if at == len(text):
                return _Record(
                    at if is_last else None, fields, breaks, is_open=False, damage=damage
                )
            if text.startswith(self.syntax.delimiter, at):
                at += 1
                continue
            at += 2 if text.startswith(b"\r\n", at) else 1
            return _Record(at, fields, breaks, damage)

    def is_comment(self, line: bytes) -> bool:
        """Whether a line is a comment."""
        return self.syntax.comment is not None and line.startswith(self.syntax.comment)

    def is_row(self, line: bytes) -> bool:
        """Whether a line is by itself a valid record with as many fields as a row."""
        record = self.record_at(line, 0, is_last=True)
        is_valid = record.end is not None and record.damage is None
        return is_valid and record.fields == self.syntax.width > 1


class RecordBlocks:
    """Records as a file object for Arrow's CSV reader.

    The result of one read is one block to Arrow. After a block that ends with CR, Arrow drops an LF
    at the start of the next one (apache/arrow#51368), so blocks begin and end with records.

    Args:
        records: Pieces that end at the end of a record.
        block_bytes: Approximate size of a block.

    Attributes:
        ends_too_soon: A record is too long, and the file object ends before it. Arrow reads ahead,
            so the record's number is known only when all records before it are parsed.
    """

    def __init__(self, records: Iterable[bytes], block_bytes: int) -> None:
        self._records = iter(records)
        self._enough = block_bytes // 2
        self._rest = b""
        self._has_begun = False
        self.ends_too_soon = False
        self.closed = False

    def readable(self) -> bool:
        """Whether it can be read; required by Arrow."""
        return True

    def read(self, size: int) -> bytes:
        """Some records, at most `size` bytes; none at the end."""
        block = self._rest or self._next_block()
        if not self._has_begun:
            self._has_begun = True
            # Arrow rejects an empty file. It also drops a byte order mark at the start: that of the
            # file is removed already, so one here is part of the first row and is doubled.
            block = (BOM_UTF8 + block if block.startswith(BOM_UTF8) else block) or b"\n"
        end = size
        if len(block) > size and block[size - 1 : size + 1] == b"\r\n":
            end -= 1
        self._rest = block[end:]
        return block[:end]

    def close(self) -> None:
        """Required by Arrow; there is nothing to close."""
        self.closed = True

    def _next_block(self) -> bytes:
        parts: list[bytes] = []
        filled = 0
        try:
            while filled <= self._enough and (piece := next(self._records, None)) is not None:
                # Drop blank lines at the start; an LF there may be the second half of a CRLF.
                if part := piece if parts else piece.lstrip(b"\r\n"):
                    parts.append(part)
                    filled += len(part)
        except RecordTooLongError:
            self.ends_too_soon = True
        return b"".join(parts) if len(parts) > 1 else parts[0] if parts else b""


class _QuotedText:
    """A text with quotes that begins at the start of a record.

    In a valid text, quotes alternately open and close a field: an opening one follows a delimiter
    or line end, a closing one precedes a delimiter or line end. This is checked for all quotes at
    once. Only the record of a quote that fails the check is parsed by itself; the alternation
    starts again after that record.
    """

    def __init__(self, records: ValidRecords, text: bytes, *, is_last: bool) -> None:
        self._records, self._text, self._is_last = records, text, is_last
        self._octets = np.frombuffer(text, np.uint8)
        self._quotes = np.flatnonzero(self._octets == (records.syntax.quote or b'"')[0])
        self._opens = self._follow_border(self._quotes)
        self.has_fields = bool(self._opens.any())
        self._in_text = np.empty(0, dtype=np.intp)  # Quotes that most likely are plain text.
        self._failing: dict[int, Numbers] = {}
        self._comments: list[tuple[int, int]] = []
        self._start = 0  # Start of the current record.
        self._turn = 0  # Index of the first quote at or after it.
        self._written = 0  # Up to here the text is in the pieces.
        self._pieces: list[bytes] = []

    def split(self) -> tuple[list[bytes], int]:
        """See ValidRecords."""
        if self._is_regular():
            self._failing[0] = np.empty(0, dtype=np.intp)
        else:
            self._pass_over_text_lines()
        whole = len(self._text) if self._is_last else len(self._text) - 1
        comments = self._records.comments_in(self._text)
        self._comments = [span for span in comments if span[1] <= whole]
        while True:
            failing = self._next_failing()
            if self._drop_comment(failing):
                continue
            if failing is None:
                count = len(self._quotes)
                end = len(self._text) if self._is_last else self._start_of_record(count)
                break
            start = self._start_of_record(failing)
            after = self._check_record(start)
            if after is None:
                end = start
                break
            self._go_to(after)
        self._write_to(end)
        return self._pieces, end

    def _is_regular(self) -> bool:
        """Whether all quotes alternate as the class describes."""
        opening, closing = self._quotes[0::2], self._quotes[1::2]
        # Closed and opened again: a doubled quote, which is text.
        is_next = opening[1:] == closing[: len(opening) - 1] + 1
        opens, closes = self._opens[0::2].copy(), self._precede_border(closing)
        opens[1:] |= is_next
        closes[: len(is_next)] |= is_next
        return bool(opens.all() and closes.all())

    def _pass_over_text_lines(self) -> None:
        """Take out quotes of lines on which none opens a field: outside of fields they are text."""
        ends = np.flatnonzero((self._octets == _LF) | (self._octets == _CR))
        lines = np.searchsorted(ends, self._quotes)
        has_field = np.zeros(len(ends) + 1, dtype=bool)
        has_field[lines[self._opens]] = True
        is_kept = has_field[lines]
        self._in_text, self._quotes = self._quotes[~is_kept], self._quotes[is_kept]

    def _failing_by(self, parity: int) -> Numbers:
        """Indexes of the quotes that fail the check, if those of even (0) or odd (1) index open."""
        if parity not in self._failing:
            is_next = np.diff(self._quotes) == 1
            opens, closes = self._follow_border(self._quotes), self._precede_border(self._quotes)
            opens[1:] |= is_next
            closes[:-1] |= is_next
            is_opening = np.arange(len(self._quotes)) % 2 == parity
            failing = np.flatnonzero(~np.where(is_opening, opens, closes))
            # A quote that was taken out as text, but lies within a field: its opening quote fails.
            before = np.searchsorted(self._quotes, self._in_text)
            within = before[(before - parity) % 2 == 1] - 1
            self._failing[parity] = np.union1d(failing, within[within >= 0])
        return self._failing[parity]

    def _follow_border(self, quotes: Numbers) -> Flags:
        return np.asarray(self._records.is_border[self._octets[quotes - 1]] | (quotes == 0))

    def _precede_border(self, quotes: Numbers) -> Flags:
        last = len(self._text) - 1
        after = self._octets[np.minimum(quotes + 1, last)]
        return np.asarray(self._records.is_border[after] | (quotes == last))

    def _next_failing(self) -> int | None:
        """Index of the next quote that fails the check or opens a field of too many lines."""
        failing = self._failing_by(self._turn % 2)
        at = int(np.searchsorted(failing, self._turn))
        limit = int(failing[at]) if at < len(failing) else len(self._quotes)
        if (too_long := self._next_too_long(limit)) is not None:
            return too_long
        if limit < len(self._quotes):
            return limit
        is_open = (limit - self._turn) % 2 == 1
        return limit - 1 if is_open and self._is_last else None

    def _next_too_long(self, limit: int) -> int | None:
        """Index of the first quote before `limit` that opens a field of too many lines."""
        opening = self._quotes[self._turn : limit : 2]
        closing = self._quotes[self._turn + 1 : limit : 2]
        if not len(opening):
            return None
        if len(opening) > len(closing):
            closing = np.append(closing, len(self._text))
        allowed = self._records.syntax.max_line_breaks
        # A field has at least as many characters as line breaks.
        if closing[-1] - opening[0] <= allowed:
            return None
        is_field = np.ones(len(opening), dtype=bool)
        is_field[1:] = opening[1:] - closing[:-1] != 1
        fields = np.flatnonzero(is_field)
        ends = closing[np.append(fields[1:], len(closing)) - 1]
        for number in np.flatnonzero(ends - opening[fields] - 1 > allowed):
            first, end = int(opening[fields[number]]), int(ends[number])
            if _line_breaks(self._text, first, end) > allowed:
                return self._turn + 2 * int(fields[number])
        return None

    def _drop_comment(self, failing: int | None) -> bool:
        """Drop the next comment, unless a failing quote precedes it; False if none is dropped."""
        while self._comments:
            start, end = self._comments[0]
            quote = int(np.searchsorted(self._quotes, start))
            if failing is not None and quote > failing:
                return False
            del self._comments[0]
            if start >= self._start and (quote - self._turn) % 2 == 0:
                self._write_to(start)
                self._written = end
                self._go_to(end)
                return True
        return False

    def _start_of_record(self, quote: int) -> int:
        """The start of the record that holds a quote, by the quote's index.

        The index after the last quote stands for the last record.
        """
        if (quote - self._turn) % 2 == 1:
            quote -= 1
        is_end = quote == len(self._quotes)
        end = len(self._text) if is_end else int(self._quotes[quote])
        while quote > self._turn:
            before = int(self._quotes[quote - 1]) + 1
            if start := _line_start(self._text, before, end):
                return start
            quote -= 2
            end = int(self._quotes[quote])
        return _line_start(self._text, self._start, end) or self._start

    def _check_record(self, start: int) -> int | None:
        """Parse the record at `start`, set its lines aside if it is damaged, and return its end.

        None: the record may go on after the text.
        """
        records, text = self._records, self._text
        record = records.record_at(text, start, is_last=self._is_last)
        has_too_many = record.breaks > records.syntax.max_line_breaks
        reason = record.damage or (TOO_MANY_LINE_BREAKS if has_too_many else None)
        end = record.end
        if end is None:
            is_final = record.is_open and self._is_last
            if not is_final and not (has_too_many and self._is_stray_quote(start, len(text))):
                return None
            reason, end = OPEN_QUOTE, len(text)
        if reason is None:
            return end
        lines = list(_LINE.finditer(text, start, end))
        if self._is_stray_quote(start, end):
            reason, lines, end = OPEN_QUOTE, lines[:1], lines[0].end()
        self._write_to(start)
        self._pieces += [records.set_aside(line[0], reason) for line in lines]
        self._written = end
        return end

    def _is_stray_quote(self, start: int, end: int) -> bool:
        """Whether the lines after the first are valid rows, so that only the first is damaged."""
        rows = 0
        lines = _LINE.finditer(self._text, start, end)
        next(lines)
        for line in lines:
            if line.end() == len(self._text) and not self._is_last:
                return False
            if self._records.is_comment(line[0]):
                continue
            if not self._records.is_row(line[0]):
                return False
            rows += 1
            if rows == _ROWS_AFTER_STRAY_QUOTE:
                return True
        return False

    def _go_to(self, start: int) -> None:
        self._start = start
        self._turn = int(np.searchsorted(self._quotes, start))

    def _write_to(self, end: int) -> None:
        if end > self._written:
            self._pieces.append(self._text[self._written : end])
            self._written = end


def _line_breaks(text: bytes, start: int, end: int) -> int:
    pairs = text.count(b"\r\n", start, end)
    return text.count(b"\n", start, end) + text.count(b"\r", start, end) - pairs


def _line_start(text: bytes, start: int, end: int) -> int:
    """Offset after the last line end between two offsets; 0 if there is none."""
    return max(text.rfind(b"\n", start, end), text.rfind(b"\r", start, end)) + 1


def _end_of(pattern: re.Pattern[bytes], text: bytes, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start
