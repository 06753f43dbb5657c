"""What two sets of files do not share: a file written anew holds mostly the rows that it had.

Belongs here: finding those rows' keys or days, and the rows of a stream that have them.
Elsewhere: which files came and went (headrace.lake.changes), loading rows
(headrace.layers.warehouse).
"""

from collections.abc import Iterator, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from headrace.lake.scan import LakeScan
from headrace.schema import Column

_SIDE = "_side"


def keys_of_differences(
    spark: SparkSession, come: LakeScan, gone: LakeScan, columns: Sequence[str], key: str
) -> pa.Array:
    """Keys of the rows that only one side has, each once; eight bytes a difference.

    Args:
        spark: Compares; it needs room for the rows of one side.
        come: Files on one side.
        gone: Files on the other.
        columns: What makes rows equal; NULLs do not differ.
        key: The column that is returned.
    """

    def side(scan: LakeScan, sign: int) -> DataFrame:
        return scan.frame(spark).select(*columns).withColumn(_SIDE, F.lit(sign))

    counted = side(come, 1).unionAll(side(gone, -1)).groupBy(*columns).agg(F.sum(_SIDE).alias("_n"))
    found = counted.where(F.col("_n") != 0).select(key).distinct().toArrow()
    return found[key].combine_chunks()


def days_of_differences(
    one: DataFrame, other: DataFrame, columns: Sequence[Column], day: str
) -> set[date]:
    """Days on which two frames have other rows, in whatever order; by 64-bit hashes of the rows.

    Args:
        one: Rows.
        other: Rows, with the same columns.
        columns: What makes rows equal; NULLs do not differ.
        day: The column that says which day a row is of.
    """
    contents = parse.row_hash([(F.col(column.name), column.type) for column in columns])

    def side(rows: DataFrame, sign: int) -> DataFrame:
        return rows.select(day, contents.alias("_hash"), F.lit(sign).alias(_SIDE))

    counted = side(one, 1).unionAll(side(other, -1)).groupBy(day, "_hash")
    differing = counted.agg(F.sum(_SIDE).alias("_n")).where(F.col("_n") != 0)
    return {row[day] for row in differing.select(day).distinct().collect()}


def with_keys(rows: pa.RecordBatchReader, key: str, keys: pa.Array) -> pa.RecordBatchReader:
    """The rows whose key is among `keys`, in their order, as they are read."""

    def chosen() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            among = pc.is_in(batch.column(key), value_set=keys)
            if among.true_count:
                yield batch.filter(among)

    return pa.RecordBatchReader.from_batches(rows.schema, chosen())
