"""Writing files to a staging as an engine does, small and by hand."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.lake.commit import Commit
from headrace.lake.table import LakeTable
from headrace.schema import Column, TableSchema
from headrace.staged import StagedPartition, new_token

DAY = "_partition_date"
SALES = TableSchema((Column("sale", "bigint"), Column("shop", "string"), Column(DAY, "date")))


def day(number: int) -> date:
    return date(2017, 1, 1) + timedelta(days=number)


def sales(on: date, numbers: Sequence[int], shop: str | None = "north") -> pa.Table:
    rows = [{"sale": number, "shop": shop, DAY: on} for number in numbers]
    return pa.Table.from_pylist(rows, schema=SALES.arrow())


def write_file(table: LakeTable, path: str, rows: pa.Table, **options: object) -> str:
    """Write one Parquet file below the table's staging folder; returns its URI."""
    uri = f"{table.location}/data/{path}"
    storage = table.storage
    storage.filesystem.create_dir(storage.path(uri.rpartition("/")[0]), recursive=True)
    with storage.filesystem.open_output_stream(storage.path(uri)) as file:
        pq.write_table(rows, file, **options)
    return uri


def stage(table: LakeTable, days: Mapping[date, pa.Table]) -> dict[date, StagedPartition]:
    """One file a day under a new token, read back with its footer."""
    token = new_token()
    for on, rows in days.items():
        if rows.num_rows:
            write_file(table, f"{token}/_pd={on}/part-0.parquet", rows)
    return table.staged(token)


def publish(table: LakeTable, days: Mapping[date, Sequence[int]]) -> Commit:
    """Make each day hold the sales of these numbers."""
    staged = stage(table, {on: sales(on, numbers) for on, numbers in days.items()})
    wanted = {on: staged.get(on, StagedPartition(on)) for on in days}
    return table.replace(wanted, schema=SALES)


def numbers(table: LakeTable, days: Sequence[date] | None = None) -> list[int]:
    found: list[int] = table.scan(days).batches().read_all().column("sale").to_pylist()
    return sorted(found)
