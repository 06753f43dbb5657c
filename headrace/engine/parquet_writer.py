"""Writes frames as Parquet files into staging folders."""

from pyspark.sql import DataFrame, DataFrameWriter
from pyspark.sql import functions as F

from headrace.engine.session import engine_name
from headrace.engine.values.times import date_key_of
from headrace.schema import PARTITION_COLUMN

FOLDER_COLUMN = "_pd"

# zstd level 1 is as fast as snappy and its files are 13 % smaller; level 3 saves another 1 %.
_OPTIONS = {
    "sail": {"compression": "zstd(1)", "statistics_enabled": "chunk"},
    "spark": {"compression": "zstd", "parquet.compression.codec.zstd.level": "1"},
}

# Dictionary encoding pays for text columns only. Without it, a year of facts takes 20 % less CPU
# and 14 % less space, a year of typed receipts 7 % and 25 % less. A text that is the same in all
# rows compresses well without it. Sail has one switch for all columns of a file.
_WITHOUT_DICTIONARIES = {
    "sail": {"dictionary_enabled": "false"},
    "spark": {"parquet.enable.dictionary": "false"},
}

# Below this number of rows a file, starting zstd costs more than it saves: 20 % of the time to
# write 366 days of 270 rows, for 20 % less space.
_ROWS_FOR_ZSTD = 512
_WITHOUT_ZSTD = {"compression": "snappy"}


def write_partitions(
    df: DataFrame,
    *,
    uri: str,
    partition_column: str = PARTITION_COLUMN,
    has_text: bool = True,
    rows_a_day: float | None = None,
) -> None:
    """Write a frame below `uri` as `_pd=<yyyymmdd>/<file>.parquet`, one file a day.

    A helper column names the folders, because partitioning by the date column itself would remove
    it from the files. An engine may split a large day into several files; a file never holds rows
    of two days.

    Files that are already below `uri` stay, so that batches of days can be written one after the
    other. For a frame without rows Sail writes no file and Spark an empty one: list the folder and
    read the footers to learn what was written.

    Args:
        df: Rows of any number of days. Sail keeps one writer open for each day: a year of 1.5M
            rows takes 1.7 GB in one write and 0.5 GB in batches of 30 days, in about the same time.
        uri: Folder or S3 prefix that only this staging uses.
        partition_column: The column, of type date, without NULLs.
        has_text: Whether a text column has values that differ from row to row.
        rows_a_day: Approximate number of rows a day; None for many.
    """
    # An integer: Sail formats the folder name for every row, and dates take 10 % more CPU.
    split = df.withColumn(FOLDER_COLUMN, date_key_of(F.col(partition_column)))
    if engine_name(df.sparkSession) == "spark":
        # Every Spark task writes its own file for each day; Sail writes one file a day.
        split = split.repartition(FOLDER_COLUMN)
    writer = _writer(split, has_text=has_text)
    if rows_a_day is not None and rows_a_day < _ROWS_FOR_ZSTD:
        writer = writer.options(**_WITHOUT_ZSTD)
    writer.partitionBy(FOLDER_COLUMN).parquet(uri)


def write_table(df: DataFrame, *, uri: str) -> None:
    """Write a frame without partitions to files directly below `uri`.

    The engine chooses the number of files; without rows there is none, or an empty one.
    """
    _writer(df).parquet(uri)


def write_split(df: DataFrame, *, uri: str, by: str) -> None:
    """Write a frame as `<by>=<value>/<file>.parquet` below `uri`, in one pass.

    The files lack the column `by`. Only values that occur get a folder.
    """
    _writer(df).partitionBy(by).parquet(uri)


def _writer(df: DataFrame, *, has_text: bool = True) -> DataFrameWriter:
    engine = engine_name(df.sparkSession)
    options = _OPTIONS[engine] if has_text else _OPTIONS[engine] | _WITHOUT_DICTIONARIES[engine]
    return df.write.mode("append").options(**options)
