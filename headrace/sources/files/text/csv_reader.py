"""Rows of delimited text as Arrow batches of text, with bounded memory and nothing lost."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from headrace.config.sources.file_extract import CsvFormat, FileExtract
from headrace.config.sources.file_source import FileEntity
from headrace.errors import SourceRejectedError, shown
from headrace.lineage_schema import POSITION
from headrace.sources.corrupt_rows import (
    CORRUPT_REASON,
    CORRUPT_RECORD,
    NulWatch,
    without_nuls,
)
from headrace.sources.files.signatures import check_signature
from headrace.sources.files.text.csv_dialect import Placeholders
from headrace.sources.files.text.csv_header import (
    Header,
    entity_of_file,
    find_columns,
    plain,
    records_in,
    split_header,
    with_absent_columns,
    without_footer,
    without_header,
)
from headrace.sources.files.text.csv_records import RecordBlocks, Syntax, ValidRecords
from headrace.sources.files.text.decoding import (
    CHUNK_BYTES,
    UndecodableTextError,
    as_utf8,
    decompressed,
    other_encoding_error,
    read_chunks,
    undecodable_error,
    without_hidden_utf8,
)
from headrace.sources.landing.landing_zone import ByteStream

TOO_FEW_FIELDS = "too few fields"
TOO_MANY_FIELDS = "too many fields"

# The longest record. Arrow reads 32 blocks ahead of the batch it returns, however many are asked
# for: blocks of 1 MiB bound that at 32 MiB a file.
RECORD_BYTES = 2**20
# The most that one read of `RecordBlocks` returns. With 8 MiB, a file of 14 KB takes 0.1 ms more.
_BLOCK_BYTES = 2 * CHUNK_BYTES


def read_csv(
    stream: ByteStream,
    path: str,
    entity: FileEntity,
    chunk_bytes: int = CHUNK_BYTES,
    record_bytes: int = RECORD_BYTES,
    *,
    day: date | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in its order: the declared columns as text, then technical columns.

    Texts are those of the file, an empty one included; NULL stands only for a column that the file
    lacks, as it may. A record with too few or too many fields, or with a NUL character, has its
    text in `_corrupt_record`, the reason in `_corrupt_reason`, and NULL in its columns. So has each
    line that a misplaced quote damages. `_source_position` counts records; the header is 1. Blank
    lines and comments do not count, and a record with line breaks in quotes counts once. A record
    whose fields are all empty, as spreadsheets write them, is skipped.

    Args:
        stream: The file's bytes; gzip and Zstandard are recognised by them.
        path: Its name, for errors.
        entity: The columns and the format.
        chunk_bytes: How much is read at once.
        record_bytes: The longest record there can be.
        day: Day of all rows, which decides what columns the file may lack; None if rows have days
            of their own.

    Raises:
        SourceRejectedError: The file is not as declared. Names file, line, column and remedy.
        SourceUnavailableError: The connection to the landing zone was lost.
    """
    form = entity.extract.csv
    watch, header = NulWatch(), Header((), 0)
    placeholders = Placeholders.of(form)
    try:
        text = watch.over(_text(stream, path, entity.extract, chunk_bytes))
        text = placeholders.insert(text) if placeholders else text
        header, rest = _split_header(text, entity, placeholders, path)
        rest = without_footer(rest, form, placeholders, path) if form.footer else rest
        delivered = entity_of_file(entity, header.names, day, path)
        layout = _Layout(path, delivered, header, placeholders, chunk_bytes, record_bytes)
        fields = [column.name for column in delivered.columns]
        schema = pa.schema([(name, pa.string()) for name in fields] + _TECHNICAL)
        for rows in _read_records(rest, layout, schema):
            read = placeholders.restored(rows, delivered) if placeholders else rows
            whole = without_nuls(read, form.delimiter) if watch.found else read
            yield with_absent_columns(whole, entity)
    except UndecodableTextError as error:
        column = _column_at(error, form, header.names)
        raise undecodable_error(error, path, form.encoding, column) from None
    except pa.ArrowInvalid:  # Its message quotes the record.
        raise SourceRejectedError(
            f"{path}: Arrow cannot parse it", fix="see that it is delimited text"
        ) from None
    except UnicodeError:  # Some encodings report no position.
        raise other_encoding_error(path, form.encoding) from None


_TECHNICAL = [(CORRUPT_RECORD, pa.string()), (CORRUPT_REASON, pa.string()), (POSITION, pa.int64())]


@dataclass(frozen=True)
class _Layout:
    """How a file's records are read; `positions` are those of the declared columns."""

    path: str
    entity: FileEntity
    header: Header
    placeholders: Placeholders | None
    chunk_bytes: int
    record_bytes: int

    @property
    def form(self) -> CsvFormat:
        return self.entity.extract.csv

    @property
    def width(self) -> int:
        return len(self.header.names)

    @property
    def delimiter(self) -> str:
        return self.placeholders.delimiter if self.placeholders else self.form.delimiter

    @property
    def first_line(self) -> int:
        """The number of the record before the first row."""
        return 1 if self.header.line else 0

    def syntax(self) -> Syntax:
        """What the records are made of."""
        form = self.form
        return Syntax(
            delimiter=self.delimiter.encode(),
            quote=form.quote.encode() if form.quote else None,
            comment=form.comment.encode() if form.comment else None,
            width=self.width,
            max_line_breaks=form.max_line_breaks,
            record_bytes=self.record_bytes,
        )


class _CorruptRecords:
    """Records that are no rows, collected by Arrow's handler of invalid rows.

    Damaged lines are stored here before Arrow parses. It gets a mark and a number in their place,
    and rejects them, because a mark has another number of fields than a row.
    """

    def __init__(self, layout: _Layout) -> None:
        self._placeholders = layout.placeholders
        self._delimiter = layout.delimiter
        self._mark = uuid4().hex + (layout.delimiter if layout.width == 1 else "")
        self._damaged: dict[int, tuple[str, str]] = {}
        self._marks = 0
        self._first_line = layout.first_line
        # One list, to which append is atomic: Arrow may call from a thread of its own. A record
        # without a reason consists of delimiters; it is counted and not returned.
        self._records: list[tuple[str, str, int]] = []

    @property
    def lines(self) -> list[int]:
        return [line for _, _, line in self._records]

    def set_aside(self, line: bytes, reason: str) -> bytes:
        """Store a damaged line; returns the line that replaces it."""
        self._damaged[self._marks] = (line.decode(), reason)
        self._marks += 1
        return f"{self._mark}{self._marks - 1}\n".encode()

    def __call__(self, record: pa_csv.InvalidRow) -> str:
        if record.text.startswith(self._mark):
            text, reason = self._damaged.pop(int(record.text.removeprefix(self._mark)))
        elif not record.text.strip(self._delimiter):
            text = reason = ""
        else:
            too_few = record.actual_columns < record.expected_columns
            text, reason = record.text, TOO_FEW_FIELDS if too_few else TOO_MANY_FIELDS
        if self._placeholders:
            text = self._placeholders.as_written(text)
        self._records.append((text, reason, record.number + self._first_line))
        return "skip"

    def take(self, schema: pa.Schema, before: int | None = None) -> pa.RecordBatch | None:
        """Remove the records before a line, or all, and return them as a batch; None without."""
        # Arrow parses ahead, by an unknown amount: only the records before a row that it has
        # returned are known to be complete.
        count = len(self._records)
        if before is not None:
            count = sum(line < before for line in self.lines)
        taken = [record for record in self._records[:count] if record[1]]
        del self._records[:count]
        if not taken:
            return None
        nothing = [pa.nulls(len(taken), pa.string())] * (len(schema) - len(_TECHNICAL))
        known = [
            pa.array(values, kind)
            for values, (_, kind) in zip(zip(*taken, strict=True), _TECHNICAL, strict=True)
        ]
        return pa.RecordBatch.from_arrays([*nothing, *known], schema=schema)


def _text(stream: ByteStream, path: str, extract: FileExtract, chunk_bytes: int) -> Iterator[bytes]:
    """The file's text in UTF-8."""
    form = extract.csv
    content = decompressed(read_chunks(stream, chunk_bytes), path, extract.unpack)
    checked, encoding = check_signature(content, form.encoding, path)
    return as_utf8(without_hidden_utf8(checked, encoding, path), encoding, form.bad_bytes)


def _split_header(
    text: Iterable[bytes], entity: FileEntity, placeholders: Placeholders | None, path: str
) -> tuple[Header, Iterator[bytes]]:
    """The file's own header, or the one that the configuration gives, and the text of the rows."""
    form = entity.extract.csv
    if form.header is True:
        return split_header(text, form, placeholders, path)
    fields = form.header or [column.source_name for column in entity.columns]
    return Header(tuple(map(plain, fields)), 0), without_header(text, form)


def _read_records(
    chunks: Iterable[bytes], layout: _Layout, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    corrupt, last = _CorruptRecords(layout), layout.first_line
    records = ValidRecords(layout.syntax(), corrupt.set_aside).of(chunks)
    blocks = RecordBlocks(records, layout.chunk_bytes)
    with _open(blocks, layout, corrupt) as reader:
        for batch in reader:
            if not batch.num_rows:
                continue
            lines = _lines_after(last, batch.num_rows, corrupt.lines)
            last = int(lines[-1])
            rows = _with_lines(batch, lines, schema)
            if lines[0] == 1 and len(rows):
                _refuse_header(rows, layout)
            if read := _in_order(rows, corrupt.take(schema, before=last)):
                yield read
    last = max([last, *corrupt.lines])
    if left := corrupt.take(schema):
        yield left
    if blocks.ends_too_soon:
        raise SourceRejectedError(
            f"{layout.path}: the record after line {last} has more than "
            f"{layout.record_bytes:,} bytes",
            fix="see whether a quote is left open there; format.quote: null if quotes mean nothing",
        )


def _open(
    blocks: RecordBlocks, layout: _Layout, corrupt: _CorruptRecords
) -> pa_csv.CSVStreamingReader:
    names = [str(position) for position in range(layout.width)]
    positions = find_columns(layout.header, layout.entity, layout.path)
    # Undeclared columns, too: a row is empty only if they are empty.
    wanted = list(dict.fromkeys([*(names[position] for position in positions), *names]))
    return pa_csv.open_csv(
        pa.PythonFile(blocks, mode="r"),
        # Arrow reports numbers of records in a single thread only; files are read in parallel.
        pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=names),
        pa_csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char=layout.form.quote or False,
            newlines_in_values=layout.form.quote is not None,
            invalid_row_handler=corrupt,
        ),
        pa_csv.ConvertOptions(
            check_utf8=False,  # Every byte is validated already.
            column_types={name: pa.string() for name in wanted},
            include_columns=wanted,
            strings_can_be_null=False,
        ),
    )


def _refuse_header(rows: pa.RecordBatch, layout: _Layout) -> None:
    """Reject a file whose first row is a header, though the configuration says it has none."""
    columns = layout.entity.columns
    first = [plain(rows.column(column.name)[0].as_py()) for column in columns]
    if first == [plain(column.source_name) for column in columns]:
        raise SourceRejectedError(
            f"{layout.path}: line 1 names the columns, but format.header says that none does",
            fix="remove format.header, or deliver the file without the line",
        )


def _lines_after(last: int, count: int, taken: Sequence[int]) -> np.ndarray:
    """The next `count` line numbers after `last` that are not `taken`."""
    if not taken:
        return np.arange(last + 1, last + 1 + count)
    candidates = np.arange(last + 1, last + 1 + count + len(taken))
    return candidates[~np.isin(candidates, taken)][:count]


def _with_lines(batch: pa.RecordBatch, lines: np.ndarray, schema: pa.Schema) -> pa.RecordBatch:
    no_reason = pa.nulls(batch.num_rows, pa.string())
    columns = batch.columns[: len(schema) - len(_TECHNICAL)]
    rows = pa.RecordBatch.from_arrays(
        [*columns, no_reason, no_reason, pa.array(lines)], schema=schema
    )
    is_empty = _is_empty(batch)
    return rows if is_empty is None else rows.filter(pa.array(~is_empty))


def _is_empty(batch: pa.RecordBatch) -> npt.NDArray[np.bool_] | None:
    """Which rows have only empty fields; None if no row has."""
    is_empty = None
    for position in range(batch.num_columns):
        column = batch.column(position)
        start, end = column.offset, column.offset + len(column) + 1
        offsets = np.frombuffer(column.buffers()[1], np.int32)[start:end]
        has_none = offsets[1:] == offsets[:-1]
        is_empty = has_none if is_empty is None else is_empty & has_none
        if not is_empty.any():
            return None
    return is_empty


def _in_order(rows: pa.RecordBatch, corrupt: pa.RecordBatch | None) -> pa.RecordBatch:
    if corrupt is None:
        return rows
    return pa.concat_batches([rows, corrupt]).sort_by(POSITION)


def _column_at(error: UndecodableTextError, form: CsvFormat, names: Sequence[str]) -> str | None:
    """The name of the column in which the bad byte lies, if its line is known from the start."""
    if error.line_start is None or not names:
        return None
    # `?` stands for the bad character: after a delimiter it is a field of its own.
    line, delimiter = f"{error.line_start}?", form.delimiter
    if len(delimiter) > 1:  # Python's csv takes one character: use one that no line has.
        line, delimiter = line.replace(delimiter, "\x1f"), "\x1f"
    try:
        fields = next(records_in([line], form, delimiter))
    except csv.Error:  # A field longer than Python's csv takes.
        return None
    return shown(names[len(fields) - 1]) if len(fields) <= len(names) else None
