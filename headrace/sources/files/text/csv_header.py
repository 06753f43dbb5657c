"""The header of a file: which declared columns the file has, and where."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain

import pyarrow as pa

from headrace.config.entities.columns import ColumnConfig
from headrace.config.sources.file_extract import CsvFormat, FileFormat
from headrace.config.sources.file_source import FileEntity
from headrace.errors import SourceRejectedError, shown
from headrace.sources.files.text.csv_dialect import Placeholders

# A longer first line means that the file is no text, or that a quote is never closed.
_MAX_BYTES = 2**20
_BYTE_ORDER_MARK = "\ufeff".encode()
# Most headers are shorter.
_LIKELY_BYTES = 4096
# Common delimiters, the most frequent ones first.
_DELIMITERS = (";", "\t", ",", "|", "::", "||", ":", "~", "^", "\x01", "\x1f", "§", " ")
# Invisible characters that editors and spreadsheets leave in names.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


@dataclass(frozen=True)
class Header:
    """The fields of a file.

    Attributes:
        names: By position, normalized by `plain`.
        line: The line of the names in the file, from 1; 0 if the configuration gives them.
    """

    names: tuple[str, ...]
    line: int


def split_header(
    chunks: Iterable[bytes], form: CsvFormat, placeholders: Placeholders | None, path: str
) -> tuple[Header, Iterator[bytes]]:
    """The names in the first record that is not blank and no comment, and the bytes after it.

    Args:
        chunks: The file as UTF-8, from its start.
        form: Its format.
        placeholders: Those of its dialect, if it needs any.
        path: Its name, for errors.

    Raises:
        SourceRejectedError: The file is empty, or its first line is too long to be a header.
    """
    rest, head, found = iter(chunks), b"", None
    for chunk in rest:
        head += chunk
        if (found := _first_record(head, form, placeholders)) or len(head) > _MAX_BYTES:
            break
    else:
        # The file ends here, so the last record needs no line end.
        found = _first_record(head + b"\n", form, placeholders)
    if found is None and len(head) > _MAX_BYTES:
        raise SourceRejectedError(
            f"{path}: line 1 has more than {_MAX_BYTES:,} bytes",
            fix="see that the file is text, and that no quote in its header is left open",
        )
    if found is None:
        raise SourceRejectedError(
            f"{path} is empty: it has no header",
            fix="deliver the file again; for a day without rows, with a header only",
        )
    header, length = found
    return header, chain([head[length:]], rest)


def without_header(chunks: Iterable[bytes], form: CsvFormat) -> Iterator[bytes]:
    """The bytes of a file that has no header, without byte order mark and lines to skip."""
    rest, head = iter(chunks), b""
    for chunk in rest:
        head += chunk
        start = _mark_length(head)
        skipped = _skip_lines(head, start, form.skip_lines)
        if len(head) >= len(_BYTE_ORDER_MARK) and skipped is not None and skipped < len(head):
            return chain([head[skipped:]], rest)
        if len(head) > _MAX_BYTES and skipped is None:
            break
    skipped = _skip_lines(head, _mark_length(head), form.skip_lines)
    return chain([head[skipped:]] if skipped is not None else [], rest)


def without_footer(
    chunks: Iterable[bytes], form: CsvFormat, placeholders: Placeholders | None, path: str
) -> Iterator[bytes]:
    """The same bytes without the lines of the footer.

    Raises:
        SourceRejectedError: The file ends without a footer.
    """
    lines = 1 if isinstance(form.footer, str) else form.footer
    buffered = b""
    for chunk in chunks:
        buffered += chunk
        start = _last_lines(buffered, lines)[0]
        yield buffered[:start]
        buffered = buffered[start:]
        if len(buffered) > lines * _MAX_BYTES:
            raise _without_its_footer(path)
    start, count = _last_lines(buffered, lines)
    text = buffered[start:].decode(errors="replace")
    text = placeholders.as_written(text) if placeholders else text
    if count < lines or not text.startswith(form.footer if isinstance(form.footer, str) else ""):
        raise _without_its_footer(path)


def find_columns(header: Header, entity: FileEntity, path: str) -> tuple[int, ...]:
    """The position of each declared column, in their declared order.

    Raises:
        SourceRejectedError: A declared column is missing or repeated, or the file has a column that
            is not declared and `extra_columns` is `fail`.
    """
    names, where = header.names, f"{path}: line {header.line}"
    declared = tuple([column.source_name for column in entity.columns])
    wanted = declared if declared == names else tuple(map(plain, declared))
    if wanted == names and len(set(names)) == len(names):
        return tuple(range(len(names)))
    if not header.line:  # Names of `format.header`, which the configuration has checked.
        return tuple(names.index(name) for name in wanted)
    missing = [name for name in wanted if name not in names]
    spelt = {_letters(name) for name in names}
    if len(missing) == len(wanted) and not any(_letters(name) in spelt for name in wanted):
        # The line may be a row of data, so the error does not show its fields.
        raise SourceRejectedError(
            f"{where} names none of the columns {', '.join(wanted)}",
            fix=_no_names_fix(wanted, names, entity.extract.format),
        )
    if missing:
        raise SourceRejectedError(
            f"{where}: {_columns(missing)} missing", fix=_missing_fix(missing[0], names)
        )
    extra = [name for name in names if name not in wanted]
    if repeated := [name for name in wanted if names.count(name) > 1]:
        raise SourceRejectedError(
            f"{where}: {_columns(repeated)} there more than once",
            fix="give every column a name of its own",
        )
    if extra and entity.extract.extra_columns == "fail":
        raise SourceRejectedError(
            f"{where}: {_columns(extra)} not declared",
            fix=f"declare it in columns of {entity.name}, or set extra_columns: ignore",
        )
    return tuple(names.index(name) for name in wanted)


def entity_of_file(
    entity: FileEntity, names: Sequence[str], day: date | None, path: str
) -> FileEntity:
    """The entity as one file has it: each column by its name there, without absent ones.

    A column that the file must not lack stays, so that `find_columns` reports it.

    Args:
        entity: As declared.
        names: The fields of the file's header, normalized by `plain`.
        day: Day of all rows of the file; None if rows have days of their own.
        path: The file's name, for errors.

    Raises:
        SourceRejectedError: The file has a column by several of its names, or by none of them.
    """
    if not any(column.may_be_absent or len(column.source_names) > 1 for column in entity.columns):
        return entity
    found = [_named(column, {*names}, day, path) for column in entity.columns]
    return entity.model_copy(update={"columns": tuple(filter(None, found))})


def with_absent_columns(read: pa.RecordBatch, entity: FileEntity) -> pa.RecordBatch:
    """The rows with all declared columns in their order; one that the file lacked is NULL."""
    declared = [column.name for column in entity.columns]
    known = dict(zip(read.schema.names, read.columns, strict=True))
    if all(name in known for name in declared):
        return read
    nothing = pa.nulls(len(read), pa.string())
    others = [name for name in known if name not in declared]
    columns = {name: known.get(name, nothing) for name in (*declared, *others)}
    return pa.RecordBatch.from_pydict(columns)


def plain(name: str) -> str:
    """A name normalized for comparison: composed, trimmed, without invisible characters."""
    if name.isascii():
        return name.strip()
    return _INVISIBLE.sub("", unicodedata.normalize("NFC", name)).strip()


def records_in(
    lines: Iterable[str], form: CsvFormat, delimiter: str | None = None
) -> Iterator[list[str]]:
    """The fields of each record, by Python's slow CSV reader: for a few lines only."""
    delimiter = delimiter or form.delimiter
    if form.quote is None:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=delimiter, quotechar=form.quote)


def _first_record(
    head: bytes, form: CsvFormat, placeholders: Placeholders | None
) -> tuple[Header, int] | None:
    """The header and the length in bytes up to its end, if it is complete."""
    start = _skip_lines(head, _mark_length(head), form.skip_lines)
    if start is None:
        return None
    # Decoding a whole chunk for its first line takes a tenth of the time to read it.
    end = start + _LIKELY_BYTES
    if end < len(head) and (found := _first_record_in(head, start, end, form, placeholders)):
        return found
    return _first_record_in(head, start, len(head), form, placeholders)


def _first_record_in(
    head: bytes, start: int, stop: int, form: CsvFormat, placeholders: Placeholders | None
) -> tuple[Header, int] | None:
    """The header between two offsets; None if there is none, or it may go on after them."""
    text = head[start:stop].decode(errors="ignore")  # A character may be cut at the end.
    consumed = 0

    def lines() -> Iterator[str]:
        nonlocal consumed
        for line in io.StringIO(text, newline=""):
            consumed += len(line)
            is_comment = form.comment is not None and line.startswith(form.comment)
            yield "\n" if is_comment else line

    delimiter = placeholders.delimiter if placeholders else form.delimiter
    try:
        for fields in records_in(lines(), form, delimiter):
            meant = map(placeholders.meaning, fields) if placeholders else fields
            names = tuple(plain(field) for field in meant)
            if any(names):
                record = text[:consumed]
                if not record.endswith(("\n", "\r")) or (text == record and stop < len(head)):
                    return None
                end = start + len(record.encode())
                # The line on which it ends; a header within quotes may have several.
                return Header(names, len(head[:end].splitlines())), end
    except csv.Error:  # A field longer than Python's csv takes: not a header.
        return None
    return None


def _mark_length(head: bytes) -> int:
    return len(_BYTE_ORDER_MARK) if head.startswith(_BYTE_ORDER_MARK) else 0


def _skip_lines(head: bytes, start: int, count: int) -> int | None:
    """The offset after `count` lines; None if `head` does not have their ends."""
    for _ in range(count):
        ends = [end for sign in (b"\n", b"\r") if (end := head.find(sign, start)) >= 0]
        if not ends or (head[min(ends) :] == b"\r"):
            return None  # The CR may be half of a CRLF.
        start = min(ends) + (2 if head.startswith(b"\r\n", min(ends)) else 1)
    return start


def _last_lines(text: bytes, count: int) -> tuple[int, int]:
    """The offset of the last lines that are not blank, and their number, at most `count`."""
    start, found = len(text), 0
    while found < count:
        end = len(text[:start].rstrip(b"\r\n"))
        if not end:
            return 0, found
        start = max(text.rfind(b"\n", 0, end), text.rfind(b"\r", 0, end)) + 1
        found += 1
    return start, found


def _without_its_footer(path: str) -> SourceRejectedError:
    return SourceRejectedError(
        f"{path} ends without the footer that format.footer declares: it was cut off",
        fix="deliver the file again, whole, or correct format.footer",
    )


def _columns(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"column '{shown(names[0])}' is" if names[0] else "a column without a name is"
    listed = ", ".join(f"'{shown(name)}'" for name in names)
    return f"columns {listed} are"


def _missing_fix(missing: str, names: Sequence[str]) -> str:
    alike = [name for name in names if name.casefold() == missing.casefold()]
    alike += [name for name in names if name and _letters(name) == _letters(missing)]
    if alike:
        return f"the file calls it '{shown(alike[0])}': declare that name (from: …)"
    return (
        "deliver the file with it; declare its new name (from: [old, new]), since when files have "
        "it (since: …) or that they may lack it (optional: true); or remove it from columns"
    )


def _no_names_fix(wanted: Sequence[str], names: Sequence[str], form: FileFormat) -> str:
    if not isinstance(form, CsvFormat):
        return "correct format.sheet or format.header_row, or declare the names it uses (from: …)"
    delimiter = form.delimiter
    if names[0].casefold().startswith("sep="):
        return "it says the delimiter, as Excel writes it: declare format.skip_lines: 1"
    line = delimiter.join(names)
    for other in _DELIMITERS:
        if {*wanted} <= {plain(name).strip('"') for name in line.split(other)}:
            return f"the file is delimited by {other!r}: declare format.delimiter"
    return (
        f"see that the file is delimited by '{delimiter}' and has a header (else format.header: "
        "false), or declare the names it uses (from: …)"
    )


def _letters(name: str) -> str:
    """Letters and digits only, to find a name with a slightly different spelling."""
    folded = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in folded if letter.isalnum())


def _named(
    column: ColumnConfig, names: set[str], day: date | None, path: str
) -> ColumnConfig | None:
    known = [plain(name) for name in column.source_names]
    present = [name for name in known if name in names]
    if len(present) > 1:
        raise SourceRejectedError(
            f"{path}: the header has {' and '.join(present)}, both of which are '{column.name}'",
            fix="remove one of them from its `from`, and declare it as a column of its own",
        )
    if present:
        return column.model_copy(update={"source": present[0]})
    if column.may_lack(day):
        return None
    if len(known) > 1:
        raise SourceRejectedError(
            f"{path}: the header has none of {', '.join(known)}, the names of '{column.name}'",
            fix="add the name that the file uses to its `from`",
        )
    return column
