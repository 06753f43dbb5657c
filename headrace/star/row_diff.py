"""Row difference of two frames by content, independent of files and order."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from headrace.schema import TableSchema

# Expected minus found copies of a row.
COPIES = "_copies"


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
