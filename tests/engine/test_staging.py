from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from headrace.engine.parquet_writer import write_partitions, write_table
from headrace.engine.values.types import spark_schema
from headrace.schema import Column, TableSchema
from tests import servers

SCHEMA = TableSchema(
    (
        Column("id", "bigint"),
        Column("amount", "decimal(12,2)"),
        Column("at", "timestamp"),
        Column("seen", "timestamptz"),
        Column("_partition_date", "date"),
    )
)
FIRST = date(2017, 1, 1)


def rows_of(spark: SparkSession, days: Sequence[date], each: int) -> Any:
    values = [(n, None, None, None, day) for n in range(each) for day in days]
    return spark.createDataFrame(values, spark_schema(SCHEMA))


def files_of(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        found.setdefault(path.parent.name, []).append(path)
    return found


def test_each_day_is_one_file_in_a_folder_of_its_own(spark: SparkSession, tmp_path: Path) -> None:
    days = [FIRST + timedelta(n) for n in range(5)]
    write_partitions(rows_of(spark, days, 7).repartition(3), uri=str(tmp_path / "staged"))
    found = files_of(tmp_path / "staged")
    assert {name: len(files) for name, files in found.items()} == {
        f"_pd={d:%Y%m%d}": 1 for d in days
    }
    assert all(pq.ParquetFile(f).metadata.num_rows == 7 for files in found.values() for f in files)


def test_the_partition_column_stays_in_the_file(spark: SparkSession, tmp_path: Path) -> None:
    write_partitions(rows_of(spark, [FIRST], 2), uri=str(tmp_path / "staged"))
    ((file,),) = files_of(tmp_path / "staged").values()
    table = pq.ParquetFile(file).read()
    assert table.column_names == [*SCHEMA.names]
    assert table["_partition_date"].to_pylist() == [FIRST, FIRST]


def test_another_column_can_name_the_days(spark: SparkSession, tmp_path: Path) -> None:
    frame = rows_of(spark, [FIRST], 1).withColumnRenamed("_partition_date", "day")
    write_partitions(frame, uri=str(tmp_path / "staged"), partition_column="day")
    assert [*files_of(tmp_path / "staged")] == [f"_pd={FIRST:%Y%m%d}"]


def test_times_are_written_in_microseconds_and_decimals_as_declared(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_table(rows_of(spark, [FIRST], 1), uri=str(tmp_path / "staged"))
    ((file,),) = files_of(tmp_path / "staged").values()
    assert pq.read_schema(file).remove_metadata() == SCHEMA.arrow()


def test_files_are_compressed_with_zstd(spark: SparkSession, tmp_path: Path) -> None:
    write_table(rows_of(spark, [FIRST], 1), uri=str(tmp_path / "staged"))
    ((file,),) = files_of(tmp_path / "staged").values()
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"


def first_column(folder: Path) -> Any:
    ((file,),) = files_of(folder).values()
    return pq.ParquetFile(file).metadata.row_group(0).column(0)


@pytest.mark.parametrize(
    ("rows_a_day", "compression"), [(None, "ZSTD"), (512, "ZSTD"), (20, "SNAPPY")]
)
def test_days_of_few_rows_do_without_zstd(
    spark: SparkSession, tmp_path: Path, rows_a_day: float | None, compression: str
) -> None:
    uri = str(tmp_path / "staged")
    write_partitions(rows_of(spark, [FIRST], 1), uri=uri, rows_a_day=rows_a_day)
    assert first_column(tmp_path / "staged").compression == compression


@pytest.mark.parametrize("has_text", [True, False])
def test_dictionaries_are_for_texts(spark: SparkSession, tmp_path: Path, *, has_text: bool) -> None:
    rows = spark.createDataFrame([(1, None, None, None, FIRST)] * 2_000, spark_schema(SCHEMA))
    write_partitions(rows.coalesce(1), uri=str(tmp_path / "staged"), has_text=has_text)
    assert first_column(tmp_path / "staged").has_dictionary_page == has_text


def test_the_footer_counts_nulls(spark: SparkSession, tmp_path: Path) -> None:
    write_table(rows_of(spark, [FIRST], 3).coalesce(1), uri=str(tmp_path / "staged"))
    ((file,),) = files_of(tmp_path / "staged").values()
    group = pq.ParquetFile(file).metadata.row_group(0)
    assert [group.column(n).statistics.null_count for n in range(2)] == [0, 3]


def test_slices_are_written_beside_each_other(spark: SparkSession, tmp_path: Path) -> None:
    for number in range(3):
        day = FIRST + timedelta(number)
        write_partitions(rows_of(spark, [day], 2), uri=str(tmp_path / "staged"))
    assert len(files_of(tmp_path / "staged")) == 3


@pytest.mark.parametrize("write", [write_partitions, write_table])
def test_a_frame_without_rows_leaves_no_rows(
    spark: SparkSession, tmp_path: Path, write: Any
) -> None:
    write(rows_of(spark, [], 0), uri=str(tmp_path / "staged"))
    files = [file for some in files_of(tmp_path / "staged").values() for file in some]
    assert sum(pq.ParquetFile(file).metadata.num_rows for file in files) == 0


@pytest.mark.s3
def test_days_are_staged_on_s3(sail: SparkSession) -> None:
    store = servers.s3()
    uri = store.prefix("staged")
    write_partitions(rows_of(sail, [FIRST, FIRST + timedelta(1)], 3), uri=uri)
    read = sail.read.schema(spark_schema(SCHEMA)).parquet(uri)
    assert sorted(row["_partition_date"] for row in read.collect()) == [
        *[FIRST] * 3,
        *[FIRST + timedelta(1)] * 3,
    ]
