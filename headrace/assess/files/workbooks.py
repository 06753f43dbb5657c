"""Which sheets of Excel workbooks are tables, and where their header is."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.assess.files.fields import absence, field_names
from headrace.assess.files.forms import FileForm
from headrace.assess.files.text_dialect import is_value
from headrace.assess.sample_source import SourceField
from headrace.config.sources.file_formats import ExcelFormat
from headrace.sources.files.excel_reader import sheets_of
from headrace.sources.files.text.csv_header import plain

_MOST_PREAMBLE = 30
_MIDNIGHT = r"^(\d{4}-\d{2}-\d{2}) 00:00:00$"
# A table has at least so many columns.
_FEWEST_COLUMNS = 2


def workbook_forms(
    root: Path, paths: Sequence[str], days: Mapping[str, date]
) -> tuple[FileForm, ...]:
    """How workbooks of one entity are read: one form for each sheet that is a table.

    Args:
        root: Their folder.
        paths: Those of them that are looked at.
        days: By path, the day that a file names.
    """
    books = {path: _sheets(root / path) for path in paths}
    first = books[paths[0]]
    tables = {name: row for name, cells in first.items() if (row := _header_row(cells))}
    found = []
    for name, row in tables.items():
        form: dict[str, Any] = {"type": "excel"}
        if name != next(iter(first)):
            form["sheet"] = name
        if row > 1:
            form["header_row"] = row
        having = {path: book[name] for path, book in books.items() if name in book}
        problems = [f"{path}: there is no sheet '{name}'" for path in paths if path not in having]
        fields, day_columns = _fields(having, row, days)
        label = name if len(tables) > 1 else ""
        evidence = (f"sheet '{name}', its header in row {row}",)
        found.append(FileForm(form, fields, evidence, tuple(problems), {}, label, day_columns))
    return tuple(found)


def with_days(batch: pa.RecordBatch, names: Collection[str]) -> pa.RecordBatch:
    """Rows with days as days in some columns, as the reader gives them in columns of type date."""
    columns = [
        pc.replace_substring_regex(column, _MIDNIGHT, r"\1") if name in names else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _sheets(path: Path) -> dict[str, pa.RecordBatch]:
    with path.open("rb") as stream:
        return sheets_of(stream, path.name, ExcelFormat(type="excel"))


def _header_row(cells: pa.RecordBatch) -> int:
    """The number of the row that names the columns, from 1; 0 if the sheet is no table.

    It is the first row with texts that are no values, in all columns that have one below it.
    """
    used = {n for n in range(cells.num_columns) if cells.column(n).null_count < len(cells)}
    if len(used) < _FEWEST_COLUMNS or not len(cells):
        return 0
    for number in range(min(_MOST_PREAMBLE, len(cells) - 1)):
        texts = {n: plain(cells.column(n)[number].as_py() or "") for n in used}
        below = {
            n
            for n in used
            if len(rest := cells.column(n).slice(number + 1)) and rest.null_count < len(rest)
        }
        named = {n for n, text in texts.items() if text}
        if len(below) >= _FEWEST_COLUMNS and below <= named:
            return number + 1 if not any(is_value(texts[n]) for n in named) else 0
    return 0


def _fields(
    books: Mapping[str, pa.RecordBatch], row: int, days: Mapping[str, date]
) -> tuple[tuple[SourceField, ...], frozenset[str]]:
    """Columns of a sheet, and the names of those that have days only."""
    headers = {path: tuple(name for _, name in _named(cells, row)) for path, cells in books.items()}
    order = list(dict.fromkeys(name for names in headers.values() for name in names))
    own = dict(zip(order, field_names(order), strict=True))
    fields = tuple(
        SourceField(own[name], name, "string", *absence(name, headers, days)) for name in order
    )
    are_days: dict[str, bool] = {}
    for cells in books.values():
        for n, name in _named(cells, row):
            given = cells.column(n).slice(row).drop_null()
            if len(given):
                is_day = pc.all(pc.match_substring_regex(given, _MIDNIGHT)).as_py()
                are_days[name] = are_days.get(name, True) and bool(is_day)
    return fields, frozenset(own[name] for name, is_day in are_days.items() if is_day)


def _named(cells: pa.RecordBatch, row: int) -> Iterator[tuple[int, str]]:
    for n in range(cells.num_columns):
        if row <= len(cells) and (name := plain(cells.column(n)[row - 1].as_py() or "")):
            yield n, name
