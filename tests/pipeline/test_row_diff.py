"""Which rows two sets of files do not share."""

from collections.abc import Iterable
from random import Random

import pyarrow as pa
from pyspark.sql import SparkSession

from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.pipeline.warehouse import keys_of_differences, with_keys
from tests.lake.writing import DAY, SALES, day, write_file

Row = tuple[int, str | None]


def scan_of(table: LakeTable, side: int, rows: Iterable[Row], files: int = 1) -> LakeScan:
    """The rows as files of a day of their own, which is not compared."""
    token, on = table.new_token(), day(side)
    every = [{"sale": sale, "shop": shop, DAY: on} for sale, shop in rows]
    for number in range(files):
        some = pa.Table.from_pylist(every[number::files], schema=SALES.arrow())
        write_file(table, f"{token}/_pd={on}/part-{number}.parquet", some)
    table.replace(table.staged(token), schema=SALES)
    return table.scan([on])


def test_keys_of_rows_that_only_one_side_has(table: LakeTable, spark: SparkSession) -> None:
    random = Random(4)  # noqa: S311  # reproducible
    for _ in range(5):
        before = {n: random.choice(["a", "b", None]) for n in range(200)}
        after = {n: random.choice(["a", "b", None]) for n in range(100, 250)}
        come, gone = scan_of(table, 0, after.items(), 3), scan_of(table, 1, before.items(), 2)
        found = keys_of_differences(spark, come, gone, ("sale", "shop"), "sale")
        expected = {
            n
            for n in {*before, *after}
            if (n in before, before.get(n)) != (n in after, after.get(n))
        }
        assert sorted(found.to_pylist()) == sorted(expected)


def test_files_with_the_same_rows_do_not_differ(table: LakeTable, spark: SparkSession) -> None:
    rows: list[Row] = [(1, "a"), (2, None)]
    come, gone = scan_of(table, 0, rows), scan_of(table, 1, rows[::-1])
    found = keys_of_differences(spark, come, gone, ("sale", "shop"), "sale")
    assert found.to_pylist() == []
    assert with_keys(come.batches(), "sale", found).read_all().num_rows == 0


def test_only_rows_with_a_key_pass(table: LakeTable) -> None:
    rows = scan_of(table, 0, [(1, "a"), (2, "b"), (3, None)]).batches(columns=("sale", "shop"))
    passed = with_keys(rows, "sale", pa.array([3, 1, 9], pa.int64())).read_all()
    assert passed.to_pylist() == [{"sale": 1, "shop": "a"}, {"sale": 3, "shop": None}]
