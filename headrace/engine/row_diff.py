"""Row differences of two frames by content, independent of files and order."""

from collections.abc import Iterator, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from headrace.schema import Column, TableSchema

# Expected minus found copies of a row.
COPIES = "_copies"

_SIDE = "_side"


def differing_rows(expected: DataFrame, found: DataFrame, schema: TableSchema) -> DataFrame:
    """Rows that occur in one frame more often than in the other; NULLs are equal.

    Args:
        expected: Has the columns of `schema`, and may have more.
        found: Has the columns of `schema`, and may have more.
        schema: The columns to compare, and their types.

    Returns:
        The columns of `schema`, and `_copies` (bigint): the number of missing copies of the row,
        negative for unexpected copies.
    """
    columns = [F.col(c.name) for c in schema]

    def signed(rows: DataFrame, sign: int) -> DataFrame:
        cast = (parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in schema)
        return rows.select(*cast, F.lit(sign).cast("bigint").alias(COPIES))

    together = signed(expected, 1).unionByName(signed(found, -1))
    return together.groupBy(*columns).agg(F.sum(COPIES).alias(COPIES)).where(F.col(COPIES) != 0)


def differing_keys(
    added: DataFrame, removed: DataFrame, columns: Sequence[str], key: str
) -> pa.Array:
    """Distinct keys of the rows that only one frame has.

    This process needs eight bytes for each key, and the engine memory for the rows of one frame.

    Args:
        added: Rows.
        removed: Rows with the same columns.
        columns: Columns that are compared; NULLs are equal.
        key: The column to return.
    """

    def side(rows: DataFrame, sign: int) -> DataFrame:
        return rows.select(*columns).withColumn(_SIDE, F.lit(sign))

    counted = (
        side(added, 1).unionAll(side(removed, -1)).groupBy(*columns).agg(F.sum(_SIDE).alias("_n"))
    )
    found = counted.where(F.col("_n") != 0).select(key).distinct().toArrow()
    return found[key].combine_chunks()


def differing_days(
    one: DataFrame, other: DataFrame, columns: Sequence[Column], day: str
) -> set[date]:
    """Days on which two frames differ, by 64-bit hashes of their rows in any order.

    Args:
        one: Rows.
        other: Rows with the same columns.
        columns: Columns that are compared; NULLs are equal.
        day: The column with the day of a row.
    """
    contents = parse.row_hash([(F.col(column.name), column.type) for column in columns])

    def side(rows: DataFrame, sign: int) -> DataFrame:
        return rows.select(day, contents.alias("_hash"), F.lit(sign).alias(_SIDE))

    counted = side(one, 1).unionAll(side(other, -1)).groupBy(day, "_hash")
    differing = counted.agg(F.sum(_SIDE).alias("_n")).where(F.col("_n") != 0)
    return {row[day] for row in differing.select(day).distinct().collect()}


def rows_with_keys(rows: pa.RecordBatchReader, key: str, keys: pa.Array) -> pa.RecordBatchReader:
    """Filter the rows by `keys` while they are read."""

    def chosen() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            among = pc.is_in(batch.column(key), value_set=keys)
            if among.true_count:
                yield batch.filter(among)

    return pa.RecordBatchReader.from_batches(rows.schema, chosen())
