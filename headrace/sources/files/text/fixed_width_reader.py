"""Rows of fixed-width text as Arrow batches of text, with bounded memory."""

from collections.abc import Iterator
from datetime import date
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.sources.file_formats import FixedWidthFormat
from headrace.config.sources.file_source import FileEntity
from headrace.lineage_schema import POSITION
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD, without_nuls
from headrace.sources.files.json_array import too_long_error
from headrace.sources.files.json_reader import whole_lines
from headrace.sources.files.signatures import check_signature
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

TOO_SHORT = "the line ends before the last column does"
TOO_LONG = "the line goes on after the last column"
_MARK = "\ufeff"


def read_fixed_width(
    stream: ByteStream,
    path: str,
    entity: FileEntity,
    *,
    day: date | None = None,  # noqa: ARG001  # Positions are the same for all days.
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in its order: the declared columns as text, then technical columns.

    Positions count characters, not bytes. Blanks around a value are removed. A line that ends
    before the last column does (unless `may_be_short`), or that has text after it (unless
    `extra_columns: ignore`), is set aside. A blank line is skipped. `_source_position` is the line.

    Args:
        stream: The file's bytes.
        path: Its name, for errors.
        entity: The columns and the format.
        day: Not used.
        chunk_bytes: How much is read at once.

    Raises:
        SourceRejectedError: The file is not as declared. Names file, line and remedy.
        SourceUnavailableError: The connection to the landing zone was lost.
    """
    form = cast("FixedWidthFormat", entity.extract.format)
    content = decompressed(read_chunks(stream, chunk_bytes), path, entity.extract.unpack)
    checked, encoding = check_signature(content, form.encoding, path)
    text = as_utf8(without_hidden_utf8(checked, encoding, path), encoding)
    line = 0
    try:
        for block in whole_lines(text, form.max_line_bytes):
            lines = block.decode().split("\n")[:-1]
            if not line:
                lines[0] = lines[0].removeprefix(_MARK)
            for number, text_of_line in enumerate(lines, line + 1):
                if len(text_of_line) > form.max_line_bytes:
                    raise too_long_error(
                        path, "line", number, form.max_line_bytes, "max_line_bytes"
                    )
            read = _rows(pa.array(lines, pa.string()), line, form, entity)
            line += len(lines)
            if len(read):
                yield without_nuls(read, "")
    except UndecodableTextError as error:
        raise undecodable_error(error, path, form.encoding) from None
    except UnicodeError:
        raise other_encoding_error(path, form.encoding) from None


def _rows(
    lines: pa.StringArray, before: int, form: FixedWidthFormat, entity: FileEntity
) -> pa.RecordBatch:
    lines = pc.utf8_rtrim(lines, "\r")
    numbers = np.arange(before + 1, before + 1 + len(lines))
    is_line = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(lines)), 0)
    is_line = pc.and_(is_line, pa.array(numbers > form.skip_lines))
    lines, numbers = lines.filter(is_line), pa.array(numbers).filter(is_line)
    spans = [form.positions[column.name] for column in entity.columns]
    last = max(end for _, end in spans)
    lengths = pc.utf8_length(lines).to_numpy(zero_copy_only=False)
    rest = pc.utf8_length(pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(lines, last)))
    is_long = rest.to_numpy(zero_copy_only=False) > 0
    if entity.extract.extra_columns == "ignore":
        is_long[:] = False
    # `may_be_short`: editors remove blanks at the end of a line, so its last values may be empty.
    is_short = np.zeros(len(lines), dtype=bool) if form.may_be_short else lengths < last
    is_bad = pa.array(is_long | is_short)
    columns = {}
    for column, (first, end) in zip(entity.columns, spans, strict=True):
        value = pc.utf8_trim(pc.utf8_slice_codeunits(lines, first - 1, end), " \t")
        columns[column.name] = pc.if_else(is_bad, pa.scalar(None, pa.string()), value)
    reason = pc.if_else(pa.array(is_long), TOO_LONG, TOO_SHORT)
    nothing = pa.scalar(None, pa.string())
    columns[CORRUPT_RECORD] = pc.if_else(is_bad, lines, nothing)
    columns[CORRUPT_REASON] = pc.if_else(is_bad, reason, nothing)
    columns[POSITION] = numbers.cast(pa.int64())
    return pa.RecordBatch.from_pydict(columns)
