"""Rows of Excel workbooks as Arrow batches of text. A sheet is read whole into memory."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.config.model import did_you_mean
from headrace.config.sources.file_formats import ExcelFormat
from headrace.config.sources.file_source import FileEntity
from headrace.errors import SourceRejectedError, shown
from headrace.lineage_schema import POSITION
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD, set_aside, without_nuls
from headrace.sources.files.text.csv_header import (
    Header,
    entity_of_file,
    find_columns,
    plain,
    with_absent_columns,
)
from headrace.sources.files.text.decoding import CHUNK_BYTES, read_chunks
from headrace.sources.landing.landing_zone import ByteStream

EXCEL_ERROR = "a cell with an error of Excel, such as #DIV/0!"

_BATCH_ROWS = 16_384
_MIDNIGHT = r"^(\d{4}-\d{2}-\d{2}) 00:00:00$"
_MOST_SHEETS = 10


def read_excel(
    stream: ByteStream, path: str, entity: FileEntity, *, day: date | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a sheet in its order: the declared columns as text, then technical columns.

    A number has as many digits as Excel stores, a date is `2026-01-31 00:00:00`, in a column of
    type `date` without `formats` `2026-01-31`; true and false are texts; an empty cell is the empty
    text. A row with an error of Excel is set aside, and one without any value is skipped.
    `_source_position` is the row's number in the sheet.

    Args:
        stream: The file's bytes.
        path: Its name, for errors.
        entity: The columns and the format.
        day: Day of all rows, which decides what columns the file may lack; None if rows have days
            of their own.

    Raises:
        SourceRejectedError: The file is not as declared. Names file, sheet, column and remedy.
        SourceUnavailableError: The connection to the landing zone was lost.
    """
    form = cast("ExcelFormat", entity.extract.format)
    cells, has_error = _sheet(_content(stream, path, form), path, form)
    header = _header(cells, path, form)
    delivered = entity_of_file(entity, header.names, day, path)
    positions = find_columns(header, delivered, path)
    first = form.header_row
    for start in range(first, len(cells), _BATCH_ROWS):
        part = cells.slice(start, _BATCH_ROWS)
        columns = {
            column.name: _texts(
                part.column(n), is_date=column.kind == "date" and not column.formats
            )
            for column, n in zip(delivered.columns, positions, strict=True)
        }
        count = len(part)
        nothing = pa.nulls(count, pa.string())
        columns |= {CORRUPT_RECORD: nothing, CORRUPT_REASON: nothing}
        columns[POSITION] = pa.array(range(start + 1, start + count + 1), pa.int64())
        is_bad = has_error[start : start + count]
        is_row = is_bad.copy()
        for cell in part.columns:
            is_row |= cell.is_valid().to_numpy(zero_copy_only=False)
        read = pa.RecordBatch.from_pydict(columns)
        if is_bad.any():
            read = set_aside(read, is_bad, pa.scalar(EXCEL_ERROR), ",")
        read = without_nuls(read.filter(pa.array(is_row)), ",")
        if len(read):
            yield with_absent_columns(read, entity)


def sheets_of(stream: ByteStream, path: str, form: ExcelFormat) -> dict[str, pa.RecordBatch]:
    """The cells of each sheet of a workbook as text, from its first row.

    Raises: as `read_excel` does.
    """
    import fastexcel  # noqa: PLC0415

    content = _content(stream, path, form)
    try:
        names = fastexcel.read_excel(content).sheet_names
    except fastexcel.FastExcelError:
        raise _no_workbook(path) from None
    return {
        name: _sheet(content, path, form.model_copy(update={"sheet": name}))[0] for name in names
    }


def _content(stream: ByteStream, path: str, form: ExcelFormat) -> bytes:
    """The file, if it and what it unpacks to fit into the limit."""
    content = bytearray()
    for chunk in read_chunks(stream):
        content += chunk
        if len(content) > form.max_bytes:
            raise _too_large(path, form)
    if content.startswith(b"PK"):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as parts:
                size = 0
                for part in parts.infolist():
                    # The sizes that the archive states need not be true.
                    with parts.open(part) as packed:
                        while chunk := packed.read(CHUNK_BYTES):
                            size += len(chunk)
                            if size > form.max_bytes:
                                raise _too_large(path, form)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise _no_workbook(path) from None
    return bytes(content)


def _sheet(
    content: bytes, path: str, form: ExcelFormat
) -> tuple[pa.RecordBatch, "np.ndarray[tuple[int], np.dtype[np.bool_]]"]:
    """All cells of the sheet as text, from its first row, and which rows have an error."""
    # fastexcel takes a tenth of a second to import.
    import fastexcel  # noqa: PLC0415

    try:
        workbook = fastexcel.read_excel(content)
        name = _sheet_name(workbook.sheet_names, path, form)
        sheet = workbook.load_sheet(name, header_row=None, skip_rows=0, dtypes="string")
        cells, errors = sheet.to_arrow_with_errors()
    except fastexcel.FastExcelError:
        raise _no_workbook(path) from None
    has_error = np.zeros(len(cells), dtype=bool)
    if errors is not None:
        has_error[[error.position[0] for error in errors.errors]] = True
    return cells, has_error


def _sheet_name(names: list[str], path: str, form: ExcelFormat) -> str:
    listed = ", ".join(f"'{shown(name)}'" for name in names[:_MOST_SHEETS])
    if isinstance(form.sheet, str):
        if form.sheet not in names:
            near = did_you_mean(form.sheet, names)
            raise SourceRejectedError(
                f"{path}: there is no sheet '{form.sheet}', but {listed}{near}",
                fix="correct format.sheet, or deliver the workbook with it",
            )
        return form.sheet
    if form.sheet > len(names):
        raise SourceRejectedError(
            f"{path}: there is no sheet {form.sheet}, but {len(names)}: {listed}",
            fix="correct format.sheet, or deliver the workbook with it",
        )
    return names[form.sheet - 1]


def _header(cells: pa.RecordBatch, path: str, form: ExcelFormat) -> Header:
    row = form.header_row - 1
    names = (
        [plain(cells.column(n)[row].as_py() or "") for n in range(cells.num_columns)]
        if (row < len(cells))
        else []
    )
    if not any(names):
        raise SourceRejectedError(
            f"{path}: row {form.header_row} of the sheet is empty: it has no header",
            fix="declare format.header_row, the number of the row with the names of the columns",
        )
    for n, name in enumerate(names):
        below = cells.column(n).slice(form.header_row)
        if not name and below.null_count < len(below):
            raise SourceRejectedError(
                f"{path}: column {n + 1} of the sheet has values, and no name in row "
                f"{form.header_row}",
                fix="give it a name, or remove its values",
            )
    return Header(tuple(names), form.header_row)


def _texts(cells: pa.StringArray, *, is_date: bool) -> pa.StringArray:
    texts = cells.cast(pa.string()).fill_null("")
    return pc.replace_substring_regex(texts, _MIDNIGHT, r"\1") if is_date else texts


def _too_large(path: str, form: ExcelFormat) -> SourceRejectedError:
    return SourceRejectedError(
        f"{path}: the workbook has more than {form.max_bytes:,} bytes once decompressed",
        fix="deliver large tables as CSV or Parquet, or declare a higher format.max_bytes",
    )


def _no_workbook(path: str) -> SourceRejectedError:
    return SourceRejectedError(
        f"{path} is no whole Excel workbook",
        fix="deliver it again, whole and without a password; text files need another format",
    )
