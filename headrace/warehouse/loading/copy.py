"""Binary COPY of Arrow record batches into a Postgres table."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import pgpq
import pyarrow as pa
from psycopg import sql

from headrace.errors import IncompatibleSchemaError, UnknownColumnError
from headrace.schema import TableSchema
from headrace.warehouse.sessions import RowsRefusedError, Session

# About 2 MB encoded: larger batches are no faster and need more memory.
_ROWS = 16_384


def fitted(
    table: str, schema: TableSchema, reader: pa.RecordBatchReader
) -> Iterator[pa.RecordBatch]:
    """The rows of `reader` in small batches, with the columns and types of `schema`.

    Lossless casts are made: integers to wider ones, dictionaries to strings, timestamps to µs.
    Others are refused, such as floats for decimals.

    Raises:
        UnknownColumnError: A column is missing, or not in the schema.
        IncompatibleSchemaError: A column's type cannot be cast without loss.
        RowsRefusedError: A value does not fit its column.
    """
    _check_columns(table, schema, reader.schema)
    target = schema.arrow()
    for batch in reader:
        for start in range(0, batch.num_rows, _ROWS):
            piece = batch.slice(start, _ROWS)
            columns = [_cast(table, piece.column(field.name), field) for field in target]
            yield pa.RecordBatch.from_arrays(columns, schema=target)


def copy(
    session: Session,
    relation: sql.Identifier,
    columns: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    check: Callable[[], None],
) -> int:
    """COPY `batches` into `relation`; returns the number of rows.

    `check` is called before each batch, and may raise to stop.
    """
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        relation, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    rows = 0
    encoder = None
    with session.cursor() as cursor, cursor.copy(statement) as stream:
        for batch in batches:
            check()
            if encoder is None:
                encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
                stream.write(encoder.write_header())
            stream.write(encoder.write_batch(batch))
            rows += batch.num_rows
        if encoder is not None:
            stream.write(encoder.finish())
    return rows


def _check_columns(table: str, schema: TableSchema, found: pa.Schema) -> None:
    missing = [name for name in schema.names if name not in found.names]
    extra = [name for name in found.names if name not in schema.names]
    if missing or extra:
        raise UnknownColumnError(
            f"{table}: columns missing from the rows: {missing or 'none'}; unknown columns: "
            f"{extra or 'none'}",
            fix=f"load exactly the columns {', '.join(schema.names)}",
        )
    for field in schema.arrow():
        if not _is_castable(found.field(field.name).type, field.type):
            raise IncompatibleSchemaError(
                f"{table}: column '{field.name}' is {schema.column(field.name).type}, "
                f"but the rows have {found.field(field.name).type}",
                fix=f"cast '{field.name}' before it is loaded, or declare another type",
            )


def _is_castable(found: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        return _is_castable(found.value_type, target)
    if found == target or pa.types.is_null(found):
        return True
    if _is_list(found) and _is_list(target):
        return _is_castable(found.value_type, target.value_type)
    return any(kind(found) and kind(target) for kind in _KINDS)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


_KINDS = (
    pa.types.is_integer,
    pa.types.is_decimal,
    pa.types.is_floating,
    pa.types.is_date,
    pa.types.is_timestamp,
    _is_text,
)


def _cast(table: str, column: pa.Array, field: pa.Field) -> pa.Array:
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid:
        # Not Arrow's message: it quotes the value.
        raise RowsRefusedError(
            f"{table}: a value of column '{field.name}' ({column.type}) does not fit {field.type}",
            fix=f"declare a wider type for '{field.name}', or quarantine such rows",
        ) from None
