"""Writing frames as Parquet files to where nothing refers to them yet."""

from pyspark.sql import DataFrame, DataFrameWriter
from pyspark.sql import functions as F

from headrace.engine.session import engine_name

FOLDER_COLUMN = "_pd"

# Level 1 of zstd takes the time of snappy and 0.87 of its space; level 3 saves 1% more.
_OPTIONS = {
    "sail": {"compression": "zstd(1)", "statistics_enabled": "chunk"},
    "spark": {"compression": "zstd", "parquet.compression.codec.zstd.level": "1"},
}

# Dictionaries are for texts that differ. Numbers take less CPU and space without them (a year of
# facts a fifth and a seventh, of typed receipts a fourteenth and a quarter), and a text that is the
# same in all rows compresses to nothing. Sail has one switch for all columns of a file.
_WITHOUT_DICTIONARIES = {
    "sail": {"dictionary_enabled": "false"},
    "spark": {"parquet.enable.dictionary": "false"},
}


# With fewer rows a day zstd only takes time to begin: a fifth of writing 366 days of 270 rows, for
# a fifth less space.
_ROWS_FOR_ZSTD = 512
_WITHOUT_ZSTD = {"compression": "snappy"}


def write_partitions(
    df: DataFrame,
    *,
    uri: str,
    partition_column: str = "_partition_date",
    has_text: bool = True,
    rows_a_day: float | None = None,
) -> None:
    """Write a frame below `uri` as `_pd=<yyyymmdd>/<file>.parquet`, one file a day.

    The folders are named after the partition column: partitioning by the column itself takes it
    out of the files. A day of more rows than an engine's writer likes may get several
    files; files of one day never hold rows of another.

    What lies below `uri` already stays, so several slices of days can be written there one after
    the other. A frame without rows leaves no file on Sail and an empty one on Spark: list what
    was written, and read its footers.

    Args:
        df: Rows of any number of days. Sail keeps a writer open for each: a year of 1.5M rows
            takes 1.7 GB at once and 0.5 GB in slices of 30 days, in about the same time.
        uri: Folder or S3 prefix that only this staging uses.
        partition_column: The column, of type date, without NULLs.
        has_text: Whether a column holds texts that differ from row to row; the frame itself would
            ask its engine, and does not know which are the same.
        rows_a_day: About how many rows a day has; None for many.
    """
    day = F.col(partition_column)
    # A number: Sail writes out the folder of every row, and named by dates the whole write takes a
    # tenth more CPU.
    folder = F.year(day) * 10_000 + F.month(day) * 100 + F.dayofmonth(day)
    split = df.withColumn(FOLDER_COLUMN, folder)
    if engine_name(df.sparkSession) == "spark":
        # Spark's tasks write a file each for every day they meet; Sail's write into one.
        split = split.repartition(FOLDER_COLUMN)
    writer = _writer(split, has_text=has_text)
    if rows_a_day is not None and rows_a_day < _ROWS_FOR_ZSTD:
        writer = writer.options(**_WITHOUT_ZSTD)
    writer.partitionBy(FOLDER_COLUMN).parquet(uri)


def write_table(df: DataFrame, *, uri: str) -> None:
    """Write a frame without partitions to files directly below `uri`.

    An engine chooses how many files; none or an empty one if there are no rows.
    """
    _writer(df).parquet(uri)


def write_split(df: DataFrame, *, uri: str, by: str) -> None:
    """Write a frame as `<by>=<value>/<file>.parquet` below `uri`, in one pass.

    The files lack the column `by`; a value that no row has gets no folder.
    """
    _writer(df).partitionBy(by).parquet(uri)


def _writer(df: DataFrame, *, has_text: bool = True) -> DataFrameWriter:
    engine = engine_name(df.sparkSession)
    options = _OPTIONS[engine] if has_text else _OPTIONS[engine] | _WITHOUT_DICTIONARIES[engine]
    return df.write.mode("append").options(**options)
