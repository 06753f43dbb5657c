"""Rewrites CSV dialects that Arrow cannot parse into one that it can.

Arrow accepts delimiters of one ASCII byte only, and drops an escape character before any character.
Placeholders replace other delimiters, escape sequences and bad bytes while Arrow parses.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.sources.file_extract import CsvFormat
from headrace.config.sources.file_source import FileEntity
from headrace.sources.corrupt_rows import set_aside
from headrace.sources.files.text.decoding import MARKED_BYTE

BAD_BYTES = "bytes that are no text"

# Control characters that are rare in text. Where the text has one, a placeholder replaces it, too.
_RARE = "\x1f\x1e\x1d\x1c\x1b\x1a"
_BAD = "x"
# The most of an unfinished line that is buffered; a longer record is refused anyway.
_MAX_LINE_BYTES = 2**22


@dataclass(frozen=True)
class Placeholders:
    """A dialect's placeholders.

    Attributes:
        lead: Begins each placeholder; a code follows.
        delimiter: Replaces the delimiter; the delimiter itself if Arrow reads it.
        codes: By code, the text in the file and the text it means.
    """

    form: CsvFormat
    lead: str
    delimiter: str
    codes: dict[str, tuple[str, str]]

    @classmethod
    def of(cls, form: CsvFormat) -> "Placeholders | None":
        """The placeholders of a format; None if Arrow reads it without any."""
        is_short = len(form.delimiter) == 1 and form.delimiter.isascii()
        escape = form.escape if form.escape != form.quote else None
        if is_short and escape is None and form.bad_bytes != "quarantine":
            return None
        used = {form.delimiter, form.quote, escape, *(form.comment or ""), *str(form.footer)}
        free = [sign for sign in _RARE if sign not in used]
        lead, delimiter = free[0], form.delimiter if is_short else free[1]
        codes = {"0": (lead, lead)}
        if not is_short:
            codes["1"] = (delimiter, delimiter)
        if escape is not None:
            escaped = {"d": form.delimiter, "e": escape, "l": "\r\n", "n": "\n", "r": "\r"}
            if form.quote is not None:
                escaped["q"] = form.quote
            codes |= {code: (escape + text, text) for code, text in escaped.items()}
        return cls(form, lead, delimiter, codes)

    def insert(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same text with placeholders, in pieces that end with a line end."""
        special = self._special()
        buffered = b""
        for chunk in chunks:
            buffered += chunk
            # A CR at the end may be half of a CRLF, which may be escaped as a whole.
            end = max(buffered.rfind(b"\n"), buffered.rfind(b"\r", 0, -1)) + 1
            if end or len(buffered) > _MAX_LINE_BYTES:
                end = end or len(buffered)
                yield special.sub(self._placeholder, buffered[:end])
                buffered = buffered[end:]
        if buffered:
            yield special.sub(self._placeholder, buffered)

    def meaning(self, text: str) -> str:
        """The meaning of a text with placeholders, without escape characters."""
        return self._restored(text, meant=True)

    def as_written(self, text: str) -> str:
        """The text as the file has it, with a bad byte as its two hexadecimal digits."""
        return self._restored(text, meant=False)

    def restored(self, read: pa.RecordBatch, entity: FileEntity) -> pa.RecordBatch:
        """The rows with placeholders replaced; those with bad bytes become corrupt rows."""
        columns = dict(zip(read.schema.names, read.columns, strict=True))
        is_bad = np.zeros(len(read), dtype=bool)
        for column in entity.columns:
            texts = columns[column.name]
            marked = pc.match_substring(texts, self.lead + _BAD).fill_null(False)  # noqa: FBT003
            is_bad |= marked.to_numpy(zero_copy_only=False)
            columns[column.name] = self._meanings(texts)
        rows = pa.RecordBatch.from_arrays(list(columns.values()), schema=read.schema)
        return (
            set_aside(rows, is_bad, pa.scalar(BAD_BYTES), self.form.delimiter)
            if is_bad.any()
            else rows
        )

    def _meanings(self, texts: pa.StringArray) -> pa.StringArray:
        if self.delimiter != self.form.delimiter:
            texts = pc.replace_substring(texts, self.delimiter, self.form.delimiter)
        if not pc.any(pc.match_substring(texts, self.lead)).as_py():
            return texts
        bad = f"{self.lead}{_BAD}([0-9a-f]{{2}})"
        texts = pc.replace_substring_regex(texts, bad, r"\\x\1")
        # The lead's own placeholder last: the lead that replaces it must not begin another one.
        for code, (_, meant) in reversed(self.codes.items()):
            texts = pc.replace_substring(texts, self.lead + code, meant)
        return texts

    def _restored(self, text: str, *, meant: bool) -> str:
        if self.delimiter != self.form.delimiter:
            text = text.replace(self.delimiter, self.form.delimiter)
        text = re.sub(f"{self.lead}{_BAD}([0-9a-f]{{2}})", r"\\x\1", text)
        for code, texts in reversed(self.codes.items()):
            text = text.replace(self.lead + code, texts[meant])
        return text

    def _special(self) -> re.Pattern[bytes]:
        # Longer texts first: an escaped delimiter is not an escape and part of a delimiter.
        written = sorted((text for text, _ in self.codes.values()), key=len, reverse=True)
        parts = [re.escape(text.encode()) for text in written]
        parts += [re.escape(self.form.delimiter.encode()), MARKED_BYTE.pattern]
        return re.compile(b"|".join(parts))

    def _placeholder(self, match: re.Match[bytes]) -> bytes:
        found = match[0]
        if MARKED_BYTE.fullmatch(found):
            byte = ord(found.decode("utf-8", "surrogatepass")) & 0xFF
            return f"{self.lead}{_BAD}{byte:02x}".encode()
        text = found.decode()
        for code, (written, _) in self.codes.items():
            if text == written:
                return (self.lead + code).encode()
        return self.delimiter.encode()
