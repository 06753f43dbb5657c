"""Reads published rows as Arrow record batches, by COPY in CSV format.

No library reads binary COPY into Arrow, and the alternatives change values: connectorx turns
infinities into finite numbers, ADBC returns numerics as text.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
from psycopg import sql

from headrace.date_keys import date_key
from headrace.errors import UnpublishedTableError
from headrace.schema import Column, TableSchema
from headrace.warehouse.ddl.schema import PublishedTable, look_up, schema_of
from headrace.warehouse.sessions import Connect, RowsRefusedError, map_errors
from headrace.warehouse.tables import WarehouseTable

_BLOCK_BYTES = 4 * 2**20
_LIST = "list<string>"
# Types that pyarrow's CSV reader converts exactly. The other types are read as text, then cast.
_CSV_TYPES = ("boolean", "int", "bigint", "double")


def read(
    connect: Connect,
    namespace: str,
    name: str,
    *,
    days: Collection[date] | None = None,
    columns: Sequence[str] | None = None,
    day_column: str | None = None,
) -> pa.RecordBatchReader:
    """The rows of some days of a table, or of all, in one query and with bounded memory.

    The session stays open until the reader is exhausted or garbage-collected.

    Args:
        connect: Opens sessions with the warehouse.
        namespace: Postgres's schema.
        name: The table.
        days: None for all; a table without partitions and `day_column` is always read whole.
        columns: The result has them in this order; None for all.
        day_column: The column of a row's day in a table without partitions.

    Raises:
        UnpublishedTableError: The table does not exist.
        IncompatibleSchemaError: A column's type is not supported.
    """
    label = f"{namespace}.{name}"
    with map_errors(f"reading {label}"), connect() as session:
        published = look_up(session, namespace, name)
    if published is None:
        raise UnpublishedTableError(
            f"{label}: nothing was ever published to it", fix="materialize its asset first"
        )
    found = {column.name: column for column in published.columns}
    schema = schema_of(label, [found[column] for column in columns or found])
    by = published.partition_column or day_column
    query = _select(sql.Identifier(namespace, name), schema, published, days if by else None, by)
    return pa.RecordBatchReader.from_batches(
        schema.arrow(), _batches(connect, label, schema, query)
    )


def days_with_rows(connect: Connect, table: WarehouseTable, day_column: str) -> set[date]:
    """The days of the rows of a published table; `day_column` holds them as yyyymmdd."""
    with map_errors(f"reading {table.label}"), connect() as session:
        if look_up(session, table.namespace, table.name) is None:
            return set()
        query = sql.SQL("select to_date({day}::text, 'YYYYMMDD') from {table} group by {day}")
        found = session.execute(
            query.format(day=sql.Identifier(day_column), table=table.identifier)
        )
        return {row[0] for row in found}


def _select(
    relation: sql.Identifier,
    schema: TableSchema,
    published: PublishedTable,
    days: Collection[date] | None,
    by: str | None,
) -> sql.Composed:
    # Arrays as JSON: no Arrow reader parses Postgres's array syntax.
    selected = [
        sql.SQL("array_to_json({0}) as {0}" if column.type == _LIST else "{}").format(
            sql.Identifier(column.name)
        )
        for column in schema
    ]
    query = sql.SQL("select {} from {}").format(sql.SQL(", ").join(selected), relation)
    if days is None or by is None:
        return query
    is_date = any(c.name == by and c.type == "date" for c in published.columns)
    values: list[date | int] = [day if is_date else date_key(day) for day in sorted(days)]
    kind = sql.SQL("date" if is_date else "bigint")
    return query + sql.SQL(" where {} = any({}::{}[])").format(
        sql.Identifier(by), sql.Literal(values), kind
    )


def _batches(
    connect: Connect, label: str, schema: TableSchema, query: sql.Composed
) -> Iterator[pa.RecordBatch]:
    statement = sql.SQL("copy ({}) to stdout (format csv, force_quote *)").format(query)
    with (
        map_errors(f"reading {label}"),
        connect() as session,
        session.cursor() as cursor,
        cursor.copy(statement) as stream,
    ):
        block, size = [], 0
        for rows in stream:  # Each message of COPY has one whole row.
            block.append(bytes(rows))
            size += len(block[-1])
            if size >= _BLOCK_BYTES:
                yield _parsed(label, schema, b"".join(block))
                block, size = [], 0
        if block:
            yield _parsed(label, schema, b"".join(block))


def _parsed(label: str, schema: TableSchema, text: bytes) -> pa.RecordBatch:
    types = {
        c.name: schema.arrow().field(c.name).type if c.type in _CSV_TYPES else pa.string()
        for c in schema
    }
    rows = pa.csv.read_csv(
        pa.BufferReader(text),
        # As one block, because the reader may split blocks at a line break inside quotes.
        pa.csv.ReadOptions(
            column_names=list(schema.names), block_size=len(text) + 1, use_threads=False
        ),
        # An empty line is a NULL in a result of one column.
        pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pa.csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    ).combine_chunks()
    columns = [_typed(label, rows[c.name].combine_chunks(), c, schema) for c in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow())


def _typed(label: str, text: pa.Array, column: Column, schema: TableSchema) -> pa.Array:
    target = schema.arrow().field(column.name).type
    if isinstance(text, pa.ChunkedArray):
        text = pa.concat_arrays(text.chunks) if text.num_chunks else pa.array([], text.type)
    if text.type == target:
        return text
    try:
        return _lists(text) if column.type == _LIST else text.cast(target)
    except pa.ArrowInvalid:
        raise RowsRefusedError(
            f"{label}: Arrow's {column.type} cannot hold a value of column '{column.name}'",
            fix="correct infinite times, times before the year 1 and numeric NaN, or leave out the "
            "column",
        ) from None


def _lists(text: pa.Array) -> pa.Array:
    """JSON arrays of strings as Arrow lists."""
    lines = pc.binary_join_element_wise('{"v":', pc.fill_null(text, "null"), "}", "")
    document = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0].as_buffer()
    kind = pa.list_(pa.string())
    rows = pa.json.read_json(
        pa.BufferReader(document),
        pa.json.ReadOptions(use_threads=False, block_size=document.size + 1),
        pa.json.ParseOptions(explicit_schema=pa.schema([("v", kind)])),
    )
    return pa.concat_arrays(rows["v"].chunks)
