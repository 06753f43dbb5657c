"""Frames that read staged files of a known schema."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession

from headrace.engine.values.types import spark_schema
from headrace.schema import TableSchema
from headrace.staged import StagedPartition


def read_staged(
    spark: SparkSession, staged: Mapping[date, StagedPartition], schema: TableSchema
) -> DataFrame:
    """The rows of staged partitions."""
    return read_files(spark, _paths(staged.values()), schema)


def read_files(spark: SparkSession, paths: Sequence[str], schema: TableSchema) -> DataFrame:
    """The rows of Parquet files; without files, an empty frame."""
    if not paths:
        return spark.createDataFrame([], spark_schema(schema))
    return spark.read.schema(spark_schema(schema)).parquet(*paths)


def _paths(partitions: Iterable[StagedPartition]) -> list[str]:
    return [file.path for partition in partitions for file in partition.files]
