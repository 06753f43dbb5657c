"""What was written to a staging, as its footers tell it."""

from datetime import date

import pyarrow as pa
import pytest

from headrace.errors import StagedFileRejectedError
from headrace.lake.table import LakeTable
from headrace.staged import new_token
from tests.lake.writing import DAY, day, sales, write_file


def test_a_staging_lies_in_the_folder_of_its_table(table: LakeTable) -> None:
    token = new_token()
    assert table.staging_uri(token) == f"{table.location}/data/{token}"
    assert table.location.startswith("file:///")
    assert token != new_token()


@pytest.mark.parametrize("token", ["", "../other", "_hidden", ".hidden", "a/b", "a b"])
def test_a_token_that_is_no_plain_name_is_refused(table: LakeTable, token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        table.staging_uri(token)


def test_staged_files_are_counted_by_day(table: LakeTable) -> None:
    write_file(table, f"t/_pd={day(1)}/a.parquet", sales(day(1), [1, 2], shop=None))
    write_file(table, f"t/_pd={day(1)}/b.parquet", sales(day(1), [3]))
    write_file(table, f"t/_pd={day(0)}/a.parquet", sales(day(0), [4]))
    staged = table.staged("t")
    assert list(staged) == [day(0), day(1)]
    assert staged[day(1)].rows == 3
    assert len(staged[day(1)].files) == 2
    assert staged[day(1)].nulls("shop") == 2
    assert staged[day(1)].nulls("sale") == 0
    size = sum(file.size_bytes for file in staged[day(1)].files)
    assert size == sum(table.storage.sizes([f.path for f in staged[day(1)].files]).values())


def test_what_an_engine_leaves_beside_its_rows_is_ignored(table: LakeTable) -> None:
    write_file(table, f"t/_pd={day(0)}/a.parquet", sales(day(0), [1]))
    write_file(table, f"t/_pd={day(1)}/none.parquet", sales(day(1), []))
    write_file(table, f"t/_temporary/0/_pd={day(2)}/a.parquet", sales(day(2), [2]))
    filesystem, folder = table.storage.filesystem, table.storage.path(table.staging_uri("t"))
    for name in ("_SUCCESS", f"_pd={day(0)}/.part-0.crc"):
        filesystem.open_output_stream(f"{folder}/{name}").close()
    assert list(table.staged("t")) == [day(0)]


def test_a_staging_to_which_nothing_was_written_is_empty(table: LakeTable) -> None:
    assert table.staged("never") == {}
    assert table.staged_files("never") == ()


def test_a_truncated_file_is_refused_by_name(table: LakeTable) -> None:
    uri = write_file(table, f"t/_pd={day(0)}/a.parquet", sales(day(0), range(50)))
    path = table.storage.path(uri)
    with table.storage.filesystem.open_input_stream(path) as file:
        half = file.read()[:-20]
    with table.storage.filesystem.open_output_stream(path) as file:
        file.write(half)
    with pytest.raises(StagedFileRejectedError, match=r"a\.parquet"):
        table.staged("t")


def test_rows_without_a_day_are_refused(table: LakeTable) -> None:
    folder = "_pd=__HIVE_DEFAULT_PARTITION__"
    write_file(table, f"t/{folder}/a.parquet", pa.table({"sale": [1, 2]}))
    with pytest.raises(StagedFileRejectedError, match=f"2 staged rows have no {DAY}"):
        table.staged("t")


def test_nulls_are_counted_in_files_that_carry_no_statistics(table: LakeTable) -> None:
    rows = pa.concat_tables([sales(day(0), [1, 2], shop=None), sales(day(0), [3])])
    write_file(table, f"t/_pd={day(0)}/a.parquet", rows, write_statistics=False)
    assert table.staged("t")[day(0)].nulls("shop") == 2


def test_files_of_a_table_without_partitions_are_listed(table: LakeTable) -> None:
    write_file(table, "t/b.parquet", sales(date(2017, 1, 1), [1]))
    write_file(table, "t/a.parquet", sales(date(2018, 1, 1), [2, 3]))
    assert [file.rows for file in table.staged_files("t")] == [2, 1]
