"""Row difference of two frames by content, independent of files and order."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from headrace.schema import TableSchema

# How many more copies of a row are expected than were found; negative: more were found.
COPIES = "_copies"


def differing_rows(expected: DataFrame, found: DataFrame, schema: TableSchema) -> DataFrame:
    """Rows that the two do not have equally often, NULLs equal to NULLs; no row if they are equal.

    Args:
        expected: Has the columns of `schema`, and may have more.
        found: Likewise.
        schema: The columns that are compared, and their types.

    Returns:
        The columns of `schema`, and `_copies` (bigint): above 0 the row is missing so many times,
        below 0 it is there so many times too often.
    """
    columns = [F.col(c.name) for c in schema]

    def signed(rows: DataFrame, sign: int) -> DataFrame:
        cast = (parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in schema)
        return rows.select(*cast, F.lit(sign).cast("bigint").alias(COPIES))

    together = signed(expected, 1).unionByName(signed(found, -1))
    return together.groupBy(*columns).agg(F.sum(COPIES).alias(COPIES)).where(F.col(COPIES) != 0)
