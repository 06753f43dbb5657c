"""Rows by COPY's text format: pieces of its output, and their columns (decisions/0047).

Text instead of CSV: the server writes no quotes, and Arrow reads unquoted values faster.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from psycopg import sql

from headrace.schema import arrow_type
from headrace.sources.postgres.session import Session

_NULL = "\\N"
# What a backslash stands before. PostgreSQL has no text with a NUL, which stands for an escaped
# backslash until all others are replaced.
_ESCAPED_BACKSLASH, _MARK = "\\\\", "\0"
_ESCAPES = {r"\b": "\b", r"\f": "\f", r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\v": "\v"}


def copied(session: Session, statement: sql.Composed, size: int) -> Iterator[bytes]:
    """The output of `copy … to stdout` in pieces of whole rows.

    Args:
        session: Nothing else may use it until all is read; it may be closed before.
        statement: Text format.
        size: Bytes of a piece; one row may be longer.

    Raises:
        psycopg.Error: As psycopg does.
    """
    parts: list[bytes | bytearray | memoryview] = []
    waiting = 0
    with session.cursor() as cursor, cursor.copy(statement) as copy:
        for row in copy:
            parts.append(row)
            waiting += len(row)
            if waiting >= size:
                yield b"".join(parts)
                parts, waiting = [], 0
    if parts:
        yield b"".join(parts)


def parsed(text: bytes, types: Mapping[str, str]) -> pa.RecordBatch:
    """Rows of COPY's text format.

    Args:
        text: Whole rows.
        types: By column its type, one of headrace.schema.TYPE_NAMES.

    Returns:
        Columns of these types; all as text if a value is none of its type. NULL is null.
    """
    kinds = {name: arrow_type(kind) for name, kind in types.items()}
    # Arrow reads 1000 from CSV as a decimal(5,2) without an error; a cast does not.
    read = {n: pa.string() if pa.types.is_decimal(kind) else kind for n, kind in kinds.items()}
    try:
        found = _read(text, read)
        columns = [_cast(_unescaped(found.column(name)), kind) for name, kind in kinds.items()]
    except pa.ArrowInvalid:
        found = _read(text, dict.fromkeys(types, pa.string()))
        columns = [_unescaped(column) for column in found.columns]
    return pa.RecordBatch.from_arrays(columns, [*types])


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values if values.type == kind else pc.cast(values, kind)


def _read(text: bytes, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    read = pa_csv.read_csv(
        pa.py_buffer(text),
        read_options=pa_csv.ReadOptions(column_names=[*types], block_size=len(text) + 1),
        parse_options=pa_csv.ParseOptions(
            delimiter="\t",
            quote_char=False,
            # A row of one column that is '' is an empty line.
            ignore_empty_lines=False,
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=types,
            null_values=[_NULL],
            strings_can_be_null=True,
            true_values=["t"],
            false_values=["f"],
        ),
    )
    (batch,) = read.combine_chunks().to_batches()
    return batch


def _unescaped(values: pa.Array) -> pa.Array:
    if not pa.types.is_string(values.type) or not _has(values, "\\"):
        return values
    values = pc.replace_substring(values, _ESCAPED_BACKSLASH, _MARK)
    for sign, character in _ESCAPES.items():
        values = pc.replace_substring(values, sign, character)
    return pc.replace_substring(values, _MARK, "\\")


def _has(values: pa.StringArray, character: str) -> bool:
    return bool(pc.any(pc.match_substring(values, character)).as_py())
