"""Evaluates one expression over many values in one query, in their order."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from headrace.schema import arrow_type

Build = Callable[..., Column]


def each(
    spark: SparkSession, values: Sequence[Any], build: Build, type_name: str = "string"
) -> list[Any]:
    """What `build` makes of a column that holds `values`."""
    return each_row(spark, [(value,) for value in values], build, (type_name,))


def each_row(
    spark: SparkSession, rows: Sequence[Sequence[Any]], build: Build, types: Sequence[str]
) -> list[Any]:
    """What `build` makes of columns that hold `rows`."""
    if not rows:
        return []
    names = [f"c{number}" for number in range(len(types))]
    columns = [
        pa.array([row[number] for row in rows], arrow_type(kind))
        for number, kind in enumerate(types)
    ]
    table = pa.table([pa.array(range(len(rows)), pa.int64()), *columns], names=["n", *names])
    found = spark.createDataFrame(table).select("n", build(*map(F.col, names)).alias("found"))
    return [row["found"] for row in sorted(found.collect(), key=lambda row: int(row["n"]))]
