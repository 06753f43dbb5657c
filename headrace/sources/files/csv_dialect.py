"""Dialects that Arrow does not read, written as one that it does.

Arrow takes a delimiter of one ASCII byte, and its escape character drops what it should keep.
Placeholders stand for what a dialect has beyond that while Arrow parses, and are taken back after.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.file_extract import CsvFormat
from headrace.config.sources import EntityConfig
from headrace.sources.corrupt_rows import set_aside
from headrace.sources.files.decoding import MARKED_BYTE

BAD_BYTES = "bytes that are no text"

# Control characters that texts hardly ever have. Where they do, a placeholder stands for them, too.
_RARE = "\x1f\x1e\x1d\x1c\x1b\x1a"
_BAD = "x"
# Bounds what is held back of a line that does not end; its record is too long then anyway.
_MAX_LINE_BYTES = 2**22


@dataclass(frozen=True)
class Placeholders:
    """A dialect's placeholders.

    Attributes:
        lead: Begins each placeholder; a code follows.
        delimiter: The one character that stands for the delimiter.
        codes: By code, the text in the file and the text it means.
    """

    form: CsvFormat
    lead: str
    delimiter: str
    codes: dict[str, tuple[str, str]]

    @classmethod
    def of(cls, form: CsvFormat) -> "Placeholders | None":
        """The placeholders of a format; None if Arrow reads it as it is."""
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
        held = b""
        for chunk in chunks:
            held += chunk
            # A CR at the end may be half of a line end, and half of what is escaped.
            end = max(held.rfind(b"\n"), held.rfind(b"\r", 0, -1)) + 1
            if end or len(held) > _MAX_LINE_BYTES:
                end = end or len(held)
                yield special.sub(self._placeholder, held[:end])
                held = held[end:]
        if held:
            yield special.sub(self._placeholder, held)

    def meaning(self, text: str) -> str:
        """What a text with placeholders means."""
        return self._restored(text, meant=True)

    def as_written(self, text: str) -> str:
        """The text as it stands in the file, a bad byte as its two hexadecimal digits."""
        return self._restored(text, meant=False)

    def restored(self, read: pa.RecordBatch, entity: EntityConfig) -> pa.RecordBatch:
        """The rows with the meant texts, those with bad bytes in a column set aside."""
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
        # The lead's own placeholder last: what it stands for must not begin another one.
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
        # Longer texts first: an escaped delimiter is no escape before a delimiter's first half.
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
