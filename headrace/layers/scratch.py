"""Scratch: rows computed once, in files that nothing refers to, until the work is done.

Belongs here: writing them, reading them, deleting them.
Elsewhere: what they are for (headrace.layers.star_audit).

They lie in the tables' own staging folders.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from headrace.engine.staging import write_table
from headrace.engine.types import spark_schema
from headrace.lake.staging import stage_batches
from headrace.lake.table import LakeTable


@contextmanager
def scratch_files(spark: SparkSession) -> Iterator["Scratch"]:
    """Files that are deleted in the end, whatever happens."""
    scratch = Scratch(spark, [])
    try:
        yield scratch
    finally:
        scratch.delete()


@dataclass(frozen=True)
class Scratch:
    """Files that nothing refers to, and that are deleted in the end."""

    spark: SparkSession
    stagings: list[tuple[LakeTable, str]]

    def kept(self, table: LakeTable, rows: DataFrame) -> DataFrame:
        """A frame, computed once."""
        token = self._token(table)
        write_table(rows, uri=table.staging_uri(token))
        paths = [file.path for file in table.staged_files(token)]
        return self.spark.read.schema(rows.schema).parquet(*paths) if paths else rows

    def stored(self, table: LakeTable, rows: pa.RecordBatchReader) -> DataFrame:
        """Arrow batches as a frame of the engine."""
        token = self._token(table)
        folder = table.staging_uri(token)
        schema = spark_schema(stage_batches(rows, table.storage, folder, partition_column=None))
        paths = [file.path for file in table.staged_files(token)]
        if not paths:
            return self.spark.createDataFrame([], schema)
        return self.spark.read.schema(schema).parquet(*paths)

    def delete(self) -> None:
        """Delete every file that was written."""
        for table, token in self.stagings:
            found = table.storage.list_files(table.staging_uri(token))
            table.storage.delete(file.uri for file in found)

    def _token(self, table: LakeTable) -> str:
        token = table.new_token()
        self.stagings.append((table, token))
        return token
