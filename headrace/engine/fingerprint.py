"""Comparing tables by their contents: a count and a sum of row hashes, whatever the order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.engine.functions import row_hash
from headrace.schema import TableSchema


@dataclass(frozen=True)
class Fingerprint:
    """What equal bags of rows have in common, on every engine and in every order.

    Attributes:
        rows: How many there are.
        total: Sum of their 64-bit hashes, exact. Rows that differ have equal sums by accident
            only, once in 2^64; it is no defence against someone who wants that.
    """

    rows: int
    total: int


EMPTY = Fingerprint(0, 0)


def content_fingerprint(df: DataFrame, schema: TableSchema) -> Fingerprint:
    """Fingerprint of the columns that `schema` names, in its order and types.

    Columns that `schema` lacks do not count, so audit columns can be left out.
    """
    return _of(df.agg(*_aggregates(schema)).collect()[0])


def fingerprints_by(df: DataFrame, schema: TableSchema, column: str) -> Mapping[Any, Fingerprint]:
    """Fingerprint of the rows of each value of `column`, such as the partition day."""
    counted = df.groupBy(F.col(column).alias("_value")).agg(*_aggregates(schema)).collect()
    return {row["_value"]: _of(row) for row in counted}


def _aggregates(schema: TableSchema) -> tuple[Column, Column]:
    # As decimals: a sum of bigints overflows, silently on one engine.
    hashed = row_hash([(F.col(column.name), column.type) for column in schema])
    total = F.sum(hashed.cast("decimal(20,0)")).cast("decimal(38,0)")
    return F.count(F.lit(1)).alias("_rows"), total.alias("_total")


def _of(row: Any) -> Fingerprint:
    return Fingerprint(row["_rows"], int(row["_total"] or 0))
