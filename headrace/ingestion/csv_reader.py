"""Rows of delimited text as Arrow batches of text, with bounded memory and nothing lost.

Belongs here: records, the ones with too few or too many fields, their line numbers.
Elsewhere: bytes to UTF-8 (headrace.ingestion.text_chunks), the header (csv_header), what the
texts mean (headrace.standardize).
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from headrace.config.sources import CsvFormat, EntityConfig
from headrace.errors import SourceRejectedError
from headrace.ingestion.corrupt_rows import (
    CORRUPT_REASON,
    CORRUPT_RECORD,
    NulWatch,
    without_nuls,
)
from headrace.ingestion.csv_header import find_columns, records_in, split_header
from headrace.ingestion.file_columns import entity_of_file, with_absent_columns
from headrace.ingestion.landing import ByteStream
from headrace.ingestion.text_chunks import (
    ChunkReader,
    UndecodableTextError,
    as_utf8,
    gunzipped,
    read_chunks,
)

LINE = "_line"
TOO_FEW_FIELDS = "too few fields"
TOO_MANY_FIELDS = "too many fields"

# Arrow reads 32 blocks ahead of the batch it returns, however many are asked for: a block of 1 MiB
# bounds that at 32 MiB a file, and a record at 1 MiB.
BLOCK_BYTES = 2**20
_HEADER_LINE = 1


def read_csv(
    stream: ByteStream,
    path: str,
    entity: EntityConfig,
    block_bytes: int = BLOCK_BYTES,
    *,
    day: date | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in its order: the declared columns as text, then what is wrong with them.

    Texts are as they stand in the file; none is NULL, not even an empty one, but those of a column
    that the file may lack and lacks. A record with too few
    or too many fields, or with a NUL character, has its text in `_corrupt_record` and NULL in its
    columns. `_line` counts records from 1, the header; blank lines do not count, and a record with
    line breaks in quotes counts once.

    Args:
        stream: The file's bytes; gzip is recognised by them.
        path: Its name, for errors.
        entity: The columns and the format.
        block_bytes: How much is parsed at once, and the longest record there can be.
        day: Day of all rows, which says what columns the file may lack; None if rows say theirs.

    Raises:
        SourceRejectedError: The file cannot be read as declared: file, line, column and remedy.
        SourceUnavailableError: The landing zone broke off.
    """
    form = entity.extract.format
    watch = NulWatch()
    text = watch.over(as_utf8(gunzipped(read_chunks(stream), path), form.encoding))
    names: tuple[str, ...] = ()
    try:
        names, rest = split_header(text, form, path)
        delivered = entity_of_file(entity, names, day, path)
        layout = _Layout(path, form, len(names), find_columns(names, delivered, path))
        fields = [column.name for column in delivered.columns]
        schema = pa.schema([(name, pa.string()) for name in fields] + _TECHNICAL)
        for rows in _read_records(rest, layout, schema, block_bytes):
            whole = without_nuls(rows, delivered) if watch.found else rows
            yield with_absent_columns(whole, entity)
    except UndecodableTextError as error:
        raise _undecodable(error, path, form, names) from None


_TECHNICAL = [(CORRUPT_RECORD, pa.string()), (CORRUPT_REASON, pa.string()), (LINE, pa.int64())]


@dataclass(frozen=True)
class _Layout:
    path: str
    form: CsvFormat
    width: int
    positions: tuple[int, ...]


class _Misfits:
    """Records with too few or too many fields, as Arrow meets them, and the mark at the end."""

    def __init__(self, layout: _Layout) -> None:
        mark = uuid4().hex
        # The mark has another number of fields than the header, so that Arrow shows it to us. If
        # it does not, a quote was open and swallowed it with all that stood before.
        self._mark = mark if layout.width > 1 else f"{mark}{layout.form.delimiter}{mark}"
        self.saw_the_end = False
        # One list, appended to at once: Arrow may call from a thread of its own.
        self._records: list[tuple[str, str, int]] = []

    @property
    def end(self) -> bytes:
        return f"\n{self._mark}\n".encode()

    @property
    def lines(self) -> list[int]:
        return [line for _, _, line in self._records]

    def __call__(self, record: pa_csv.InvalidRow) -> str:
        if record.text == self._mark:
            self.saw_the_end = True
        else:
            too_few = record.actual_columns < record.expected_columns
            reason = TOO_FEW_FIELDS if too_few else TOO_MANY_FIELDS
            self._records.append((record.text, reason, record.number + _HEADER_LINE))
        return "skip"

    def take(self, schema: pa.Schema, before: int | None = None) -> pa.RecordBatch | None:
        """Those before a line, or all that are left, as a batch; each is taken once."""
        # Arrow parses ahead, by as much as it likes: only what lies before a row that it has
        # returned is known to be complete.
        count = len(self._records)
        if before is not None:
            count = sum(line < before for line in self.lines)
        if not count:
            return None
        nothing = [pa.nulls(count, pa.string())] * (len(schema) - len(_TECHNICAL))
        taken = zip(*self._records[:count], strict=True)
        del self._records[:count]
        known = [
            pa.array(values, kind) for values, (_, kind) in zip(taken, _TECHNICAL, strict=True)
        ]
        return pa.RecordBatch.from_arrays([*nothing, *known], schema=schema)


def _read_records(
    chunks: Iterable[bytes], layout: _Layout, schema: pa.Schema, block_bytes: int
) -> Iterator[pa.RecordBatch]:
    misfits, last = _Misfits(layout), _HEADER_LINE
    try:
        with _open(chunks, layout, misfits, block_bytes) as reader:
            for batch in reader:
                if not batch.num_rows:
                    continue
                lines = _lines_after(last, batch.num_rows, misfits.lines)
                last = int(lines[-1])
                rows = _with_lines(batch, lines, schema)
                yield _in_order(rows, misfits.take(schema, before=last))
    except pa.ArrowInvalid:
        # Arrow says "straddling object", and its other messages quote the record.
        before = max([last, *misfits.lines])
        raise SourceRejectedError(
            f"{layout.path}: the record after line {before} has more than {block_bytes:,} bytes",
            fix="see whether a quote is left open there; format.quote: null if quotes mean nothing",
        ) from None
    if not misfits.saw_the_end:
        opened = max([last, *misfits.lines])
        raise SourceRejectedError(
            f"{layout.path}: line {opened}: a quote is opened and never closed",
            fix="correct the line, or set format.quote: null if quotes mean nothing in this file",
        )
    if left := misfits.take(schema):
        yield left


def _open(
    chunks: Iterable[bytes], layout: _Layout, misfits: _Misfits, block_bytes: int
) -> pa_csv.CSVStreamingReader:
    def marked() -> Iterator[bytes]:
        yield from chunks
        yield misfits.end

    names = [str(position) for position in range(layout.width)]
    wanted = [names[position] for position in layout.positions]
    return pa_csv.open_csv(
        pa.PythonFile(ChunkReader(marked()), mode="r"),
        # Only a single thread knows the numbers of records; files are read side by side instead.
        pa_csv.ReadOptions(use_threads=False, block_size=block_bytes, column_names=names),
        pa_csv.ParseOptions(
            delimiter=layout.form.delimiter,
            quote_char=layout.form.quote or False,
            newlines_in_values=layout.form.quote is not None,
            invalid_row_handler=misfits,
        ),
        pa_csv.ConvertOptions(
            check_utf8=False,  # Every byte was looked at already.
            column_types={name: pa.string() for name in wanted},
            include_columns=wanted,
            strings_can_be_null=False,
        ),
    )


def _lines_after(last: int, count: int, taken: Sequence[int]) -> np.ndarray:
    """The next `count` line numbers after `last` that are not `taken`."""
    if not taken:
        return np.arange(last + 1, last + 1 + count)
    candidates = np.arange(last + 1, last + 1 + count + len(taken))
    return candidates[~np.isin(candidates, taken)][:count]


def _with_lines(batch: pa.RecordBatch, lines: np.ndarray, schema: pa.Schema) -> pa.RecordBatch:
    fine = pa.nulls(batch.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([*batch.columns, fine, fine, pa.array(lines)], schema=schema)


def _in_order(rows: pa.RecordBatch, misfits: pa.RecordBatch | None) -> pa.RecordBatch:
    if misfits is None:
        return rows
    return pa.concat_batches([rows, misfits]).sort_by(LINE)


def _undecodable(
    error: UndecodableTextError, path: str, form: CsvFormat, names: Sequence[str]
) -> SourceRejectedError:
    where = f"line {error.line}, character {error.character}"
    if column := _column_at(error, form, names):
        where += f" (column '{column}')"
    fix = f"deliver the file in {form.encoding}"
    if error.suggestion:
        fix += f", or declare format.encoding: {error.suggestion} if that is what it is"
    return SourceRejectedError(f"{path}: {where}: not text in {form.encoding}", fix=fix)


def _column_at(error: UndecodableTextError, form: CsvFormat, names: Sequence[str]) -> str | None:
    """The name of the column in which the bad byte lies, if its line is known from the start."""
    if error.line_start is None or not names:
        return None
    # The end stands for the bad character, so that a field begins where a delimiter ends the line.
    try:
        fields = next(records_in([f"{error.line_start}?"], form))
    except csv.Error:  # A field longer than Python's csv takes.
        return None
    return names[len(fields) - 1] if len(fields) <= len(names) else None
