"""Finds how a delimited text file is written: encoding, delimiter, quote, header, footer."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charset_normalizer import from_bytes

from headrace.sources.files.text.csv_header import plain

# Of two that fit equally, the first: commas may be decimal marks.
_DELIMITERS = (";", "\t", "|", ",", "||", "::", "~", "^", "\x01", "\x1f", "§", ":")
_COMMENTS = ("#", "--", "//")
# The first words of lines that sum up or end a file.
_FOOTER = re.compile(
    r"(?i)\W*(?:trailer|total|sum|summe|gesamt|eof|end|footer|count|rows?|records?|anzahl|zeilen)\b"
)
_FOOTER_TEXT = re.compile(r"[A-Za-z][A-Za-z_ ]{2,}")
_VALUE = re.compile(
    r"[-+(]?[$€£]?\s?\d[\d.,:/ \-T]*[)%€Z]?|true|false|null|n/?a|\\N", re.IGNORECASE
)
# Of the records, so many have the width of the table, or the delimiter is another one.
_REGULAR = 0.6
_QUOTED = 0.8
_MOST_PREAMBLE, _MOST_FOOTER = 30, 5
_ENCODINGS = ["cp1252", "iso8859_15", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "koi8_r"]
_ENCODINGS += ["cp437", "cp850", "mac_roman", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"]
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Share of NUL bytes in UTF-16 of western text.
_WIDE_SHARE = 0.2
_WESTERN = frozenset("àâäáãåæçèéêëìíîïñòóôöõøœùúûüýÿß€£§°\u2018\u2019\u201c\u201d\u2013")
_MOSTLY, _WORD = 0.9, 3
_TWO = 2


@dataclass(frozen=True)
class Dialect:
    """How a text file is written; the attributes are those of `format`.

    Attributes:
        names: Fields of the header, or `column_1` and so on.
        regular_share: Share of the records that have as many fields.
        evidence: What each option was concluded from.
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    header: bool = True
    skip_lines: int = 0
    footer: int | str = 0
    comment: str | None = None
    names: tuple[str, ...] = ()
    regular_share: float = 1.0
    evidence: tuple[str, ...] = ()

    def as_format(self) -> dict[str, Any]:
        """The options that are not the default, for `format`."""
        values = {
            "delimiter": self.delimiter,
            "quote": self.quote,
            "escape": self.escape,
            "skip_lines": self.skip_lines,
            "footer": self.footer,
            "comment": self.comment,
            "encoding": self.encoding,
        }
        defaults = {name: getattr(Dialect(), name) for name in values}
        found: dict[str, Any] = {n: v for n, v in values.items() if v != defaults[n]}
        named = [plain(name) for name in self.names]
        if not self.header:
            found["header"] = False
        elif len({*named}) < len(named) or not all(named):
            # The reader finds fields by their name, so each needs one of its own.
            found["header"] = list(unique_names(named))
            found["skip_lines"] = self.skip_lines + 1
        return found


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which none is blank and none is there twice: `column_5`, `amount_2`."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        base = name or f"column_{number}"
        again = next(
            text
            for text in (base, *(f"{base}_{i}" for i in range(2, len(names) + 2)))
            if text not in found
        )
        found.append(again)
    return tuple(found)


def find_encoding(chunks: Iterable[bytes]) -> tuple[str, str]:
    """The encoding of bytes, which are read once, and why it is that."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8, is_ascii, first, odd = True, True, b"", b""
    for chunk in chunks:
        first = first or chunk[:4096]
        is_ascii = is_ascii and chunk.isascii()
        odd += b"" if len(odd) > 2**16 else _lines_outside_ascii(chunk)
        if is_utf8 and not is_ascii:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                is_utf8 = False
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            return encoding, "a byte order mark says so"
    if first.count(0) > _WIDE_SHARE * len(first) and first:
        return ("utf-16-le" if first[1:2] == b"\0" else "utf-16-be"), "every second byte is NUL"
    if is_utf8:
        return "utf-8", "all bytes are ASCII" if is_ascii else "all bytes are UTF-8"
    return _likely_encoding(odd)


def _lines_outside_ascii(chunk: bytes) -> bytes:
    lines = (line for line in chunk.splitlines(keepends=True) if not line.isascii())
    return b"".join(line for line, _ in zip(lines, range(500), strict=False))


def _likely_encoding(sample: bytes) -> tuple[str, str]:
    text = sample.decode("cp1252", "replace")
    letters = [c for c in text if not c.isascii()]
    western = sum(c.lower() in _WESTERN for c in letters)
    words = re.findall(r"[^\W\d_]+", text)
    # Western words have one or two letters outside ASCII, other alphabets whole words.
    foreign = sum(not any(c.isascii() for c in word) for word in words if len(word) >= _WORD)
    if "\ufffd" not in text and western >= _MOSTLY * len(letters) and not foreign:
        return (
            "cp1252",
            f"{len(letters)} bytes outside ASCII are letters of western languages in it",
        )
    best = from_bytes(sample, cp_isolation=_ENCODINGS).best()
    if best is not None:
        name = codecs.lookup(best.encoding).name
        return name, "a guess from the frequency of letters: look at names with accents"
    return "latin-1", "a guess, since no other encoding has all of the bytes"


def find_dialect(text: str, tail: str = "", *, is_whole: bool = False) -> Dialect:
    """The dialect of a text.

    Args:
        text: The beginning of a file, whole lines.
        tail: Its last lines, for the footer; '' if `text` is the whole file.
        is_whole: Whether `text` ends where the file does.
    """
    lines = _lines(text)
    skipped = 1 if lines and _is_sep(lines[0]) else 0
    comment = _comment(lines)
    body = [line for line in lines if not (comment and line.startswith(comment))]
    best, score = Dialect(), (0.0, 0.0)
    for delimiter in _DELIMITERS:
        if delimiter * 2 in _DELIMITERS and delimiter not in text.replace(delimiter * 2, ""):
            continue  # Each is one half of a delimiter of two.
        shape, (tolerant, _, width) = _with_quotes(body, text, delimiter)
        # Width counts little: a delimiter of a tenth of the columns may be in every text.
        if (found := (tolerant + min(width, 20) / 100, width)) > score and width:
            best, score = shape, found
    best = replace(best, comment=comment if comment and _is_aside(best, lines, comment) else None)
    best = _with_preamble(best, lines, skipped)
    best = _with_footer(best, _lines(tail) if tail else lines, known=bool(tail) or is_whole)
    return _with_header(best, lines)


def _with_quotes(
    lines: Sequence[str], text: str, delimiter: str
) -> tuple[Dialect, tuple[float, float, float]]:
    """The best quote and escape character for a delimiter, and its score."""
    best, score = Dialect(), (0.0, 0.0, 0.0)
    for quote, escape in _quotes(text, delimiter):
        if quote is None and score[1] > _QUOTED:
            continue  # Without quotes, delimiters in them would be more columns.
        shape = Dialect(delimiter=delimiter, quote=quote, escape=escape)
        if (found := _score(_widths(lines, shape))) > score:
            best, score = replace(shape, regular_share=found[1]), found
    return best, score


def records_of(lines: Iterable[str], dialect: Dialect) -> Iterator[list[str]]:
    """The fields of each record that is not blank and no comment."""
    delimiter = dialect.delimiter
    comment = dialect.comment
    some = (line for line in lines if line.strip() and not (comment and line.startswith(comment)))
    if len(delimiter) > 1:  # Python's csv takes one character, and one that no line has will do.
        some = (line.replace(dialect.delimiter, "\x1e") for line in some)
        delimiter = "\x1e"
    try:
        yield from csv.reader(
            some,
            delimiter=delimiter,
            quotechar=dialect.quote,
            quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
            escapechar=dialect.escape,
        )
    except csv.Error:
        return


def is_value(text: str) -> bool:
    """Whether a text looks like a number, a time or a null, which no field is called."""
    return _VALUE.fullmatch(text.strip()) is not None


def _quotes(text: str, delimiter: str) -> Iterator[tuple[str | None, str | None]]:
    if '\\"' in text:
        yield '"', "\\"
    yield '"', None
    if f"'{delimiter}'" in text:
        yield "'", None
    if '"' in text:
        yield None, None


def _widths(lines: Sequence[str], dialect: Dialect) -> list[int]:
    return [len(fields) for fields in records_of([f"{line}\n" for line in lines], dialect)]


def _is_sep(line: str) -> bool:
    """Whether a line says the delimiter, as Excel writes it."""
    return line.casefold().startswith("sep=")


def _score(widths: Sequence[int]) -> tuple[float, float, float]:
    """How well records of some widths make a table.

    Returns:
        Share of the most frequent width when a preamble and a footer are forgiven, share of it
        among all records, the width.
    """
    if not widths:
        return 0.0, 0.0, 0.0
    width, count = Counter(widths).most_common(1)[0]
    share = count / max(len(widths) - min(len(widths) // 4, 6), count)
    if width < _TWO or share < _REGULAR:
        return 0.0, 0.0, 0.0
    return round(share, 2), round(count / len(widths), 3), width


def _lines(text: str) -> list[str]:
    """The lines of a text by its line ends alone; Python knows further ones."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def _comment(lines: Sequence[str]) -> str | None:
    """What lines begin with that are no rows; a header may begin with # too."""
    for sign in _COMMENTS:
        marked = [i for i, line in enumerate(lines) if line.startswith(sign)]
        is_header = marked == [0] and any(lines[0].count(d) >= _TWO for d in _DELIMITERS[:4])
        if marked and len(marked) < len(lines) // 2 and not is_header:
            return sign
    return None


def _is_aside(dialect: Dialect, lines: Sequence[str], comment: str) -> bool:
    """Whether no line that begins with a comment's sign may be a row; a rule of dashes is none."""
    width = _width(dialect, [line for line in lines if not line.startswith(comment)])
    marked = [line for line in lines if line.startswith(comment)]
    return not any(
        len(next(records_of([line], dialect), [])) == width and not {*line} <= {*"-+=| \t;,#"}
        for line in marked
    )


def _with_preamble(dialect: Dialect, lines: Sequence[str], skipped: int) -> Dialect:
    """The dialect with the lines before the header: those that are narrower than the table."""
    width = _width(dialect, lines)
    for number, line in enumerate(lines[:_MOST_PREAMBLE]):
        if number < skipped or not line.strip():
            continue
        if dialect.comment and line.startswith(dialect.comment):
            continue
        fields = next(records_of([f"{line}\n"], dialect), [])
        if len(fields) == width and sum(bool(field.strip()) for field in fields) * 2 > width:
            before = [
                text
                for text in lines[:number]
                if text.strip() and not (dialect.comment and text.startswith(dialect.comment))
            ]
            if not before:
                return dialect
            why = f"{number} lines before the header"
            return replace(dialect, skip_lines=number, evidence=(*dialect.evidence, why))
    return dialect


def _width(dialect: Dialect, lines: Sequence[str]) -> int:
    widths = _widths(lines, dialect)
    return Counter(widths).most_common(1)[0][0] if widths else 1


def _with_footer(dialect: Dialect, lines: Sequence[str], *, known: bool) -> Dialect:
    """The dialect with the lines at the end that are no rows.

    A line that may be a damaged row is none of them: it has to reach quarantine.
    """
    some = [line for line in lines if line.strip()]
    records = list(records_of([f"{line}\n" for line in some], dialect))
    if not known or not records:
        return dialect
    width = Counter(map(len, records)).most_common(1)[0][0]
    has_breaks = any("\n" in field.rstrip("\n") for record in records for field in record)
    begins_with_values = sum(is_value(record[0]) for record in records) * 2 > len(records)
    count = 0
    for line in some[: -(1 if has_breaks else _MOST_FOOTER) - 1 : -1]:
        fields = next(records_of([f"{line}\n"], dialect), [])
        is_sum = _FOOTER.match(line) is not None and begins_with_values
        is_row = len(fields) == width and not is_sum
        is_text = dialect.delimiter not in line and not is_value(line) and not has_breaks
        if is_row or not (_FOOTER.match(line) or is_text):
            break
        count += 1
    if not count or count == len(some):
        return dialect
    why = f"the last {'line is' if count == 1 else f'{count} lines are'} no row"
    begins = _FOOTER_TEXT.match(some[-1])
    footer: int | str = count
    if count == 1 and begins is not None:
        footer = begins[0].rstrip()
        footer += dialect.delimiter if some[-1].startswith(footer + dialect.delimiter) else ""
    return replace(dialect, footer=footer, evidence=(*dialect.evidence, why))


def _with_header(dialect: Dialect, lines: Sequence[str]) -> Dialect:
    body = [f"{line}\n" for line in lines[dialect.skip_lines :]]
    records = list(records_of(body, dialect))
    if not records:
        return dialect
    first, rows = [field.strip() for field in records[0]], records[1:]
    named = [field for field in first if field]
    is_row = any(map(is_value, named)) or not named
    # A word that its own column has again is a value.
    repeats = sum(
        any(len(row) > i and row[i].strip() == field for row in rows[:500])
        for i, field in enumerate(first)
        if field
    )
    if is_row or repeats * 2 > len(named):
        names = tuple(f"column_{i}" for i in range(1, len(first) + 1))
        skipped = lines[: dialect.skip_lines]
        if any(dialect.delimiter in line for line in skipped if not _is_sep(line)):
            # Lines before a row may be damaged rows, which have to reach quarantine.
            dialect = replace(dialect, skip_lines=0, evidence=())
        why = "the first line has values and no names"
        return replace(dialect, header=False, names=names, evidence=(*dialect.evidence, why))
    return replace(dialect, names=tuple(first))
