"""The Iceberg metadata of data files: which counts and bounds it has."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.expressions import GreaterThan
from pyiceberg.manifest import DataFile

from headrace.lake.table import LakeTable
from headrace.schema import Column, TableSchema
from headrace.staged import new_token
from tests.lake.writing import DAY, day, write_file

SCHEMA = TableSchema(
    (
        Column("name", "string"),
        Column("price", "decimal(12,2)"),
        Column("valid_to", "timestamp"),
        Column("at", "timestamptz"),
        Column("reasons", "list<string>"),
        Column(DAY, "date"),
    )
)
NOON = datetime(2017, 1, 1, 12, tzinfo=UTC)
ROWS: list[dict[str, object]] = [
    {"name": "a", "price": Decimal("1.00"), "valid_to": None, "at": NOON, "reasons": ["x"]},
    {"name": None, "price": None, "valid_to": None, "at": None, "reasons": None},
]


def published(table: LakeTable, valid_to: datetime, **options: object) -> list[DataFile]:
    token = new_token()
    rows = [{**row, DAY: day(0), "valid_to": valid_to} for row in ROWS]
    data = pa.Table.from_pylist(rows, schema=SCHEMA.arrow())
    write_file(table, f"{token}/_pd={day(0)}/part-0.parquet", data, **options)
    table.replace(table.staged(token), schema=SCHEMA)
    loaded = table.load()
    assert loaded is not None
    return [task.file for task in loaded.scan().plan_files()]


@pytest.mark.parametrize("row_group_size", [1, 10])
def test_dates_and_timestamps_have_bounds_and_all_columns_counts(
    table: LakeTable, row_group_size: int
) -> None:
    (file,) = published(table, datetime(2017, 1, 5), row_group_size=row_group_size)
    names = dict(enumerate(SCHEMA.names, 1))
    nulls = {names[number]: n for number, n in file.null_value_counts.items() if number in names}
    assert nulls == {"name": 1, "price": 1, "valid_to": 0, "at": 1, DAY: 0}
    bounded = {names[number] for number in file.lower_bounds}
    assert bounded == {names[number] for number in file.upper_bounds} == {"valid_to", "at", DAY}
    assert file.record_count == 2


def test_a_file_without_statistics_has_no_bounds_and_is_no_cause_of_warnings(
    table: LakeTable, caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = published(table, datetime(2017, 1, 5), write_statistics=False)
    assert caplog.messages == []
    assert (file.lower_bounds, file.upper_bounds, file.null_value_counts) == ({}, {}, {})


@pytest.mark.parametrize("year", [10000, -1])
def test_a_time_beyond_the_years_of_python_has_no_bounds_and_is_published(
    table: LakeTable, year: int
) -> None:
    at = np.datetime64(f"{year:05d}-01-01T04:30:00", "us")
    name, token = "at", new_token()
    micros = pa.array([at.astype(int)]).cast(pa.timestamp("us", tz="UTC"))
    rows = pa.table({name: micros, DAY: [day(0)]})
    schema = TableSchema((Column(name, "timestamptz"), Column(DAY, "date")))
    write_file(table, f"{token}/_pd={day(0)}/part-0.parquet", rows)
    table.replace(table.staged(token), schema=schema)
    loaded = table.load()
    assert loaded is not None
    (file,) = (task.file for task in loaded.scan().plan_files())
    assert {*file.lower_bounds} == {*file.upper_bounds} == {2}
    assert dict(file.null_value_counts) == {1: 0, 2: 0}


def test_a_scan_skips_files_by_the_bounds_of_a_timestamp(table: LakeTable) -> None:
    published(table, datetime(2017, 1, 5))
    assert table.scan(where=GreaterThan(term="valid_to", value="2017-01-06T00:00:00")).files == ()
    assert (
        len(table.scan(where=GreaterThan(term="valid_to", value="2017-01-04T00:00:00")).files) == 1
    )
