"""Which rows two frames do not share."""

from collections.abc import Iterable
from random import Random

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from headrace.engine.row_diff import differing_keys, rows_with_keys

COLUMNS = ("sale", "shop")
Row = tuple[int, str | None]


def frame(spark: SparkSession, rows: Iterable[Row]) -> DataFrame:
    return spark.createDataFrame([*rows], "sale bigint, shop string")


def reader(*rows: Row) -> pa.RecordBatchReader:
    sales, shops = zip(*rows, strict=True)
    return pa.table({"sale": pa.array(sales, pa.int64()), "shop": [*shops]}).to_reader()


def test_keys_of_rows_that_only_one_side_has(spark: SparkSession) -> None:
    random = Random(4)  # noqa: S311  # reproducible
    for _ in range(5):
        before = {n: random.choice(["a", "b", None]) for n in range(200)}
        after = {n: random.choice(["a", "b", None]) for n in range(100, 250)}
        added, removed = frame(spark, after.items()), frame(spark, before.items())
        found = differing_keys(added, removed, COLUMNS, "sale")
        expected = {
            n
            for n in {*before, *after}
            if (n in before, before.get(n)) != (n in after, after.get(n))
        }
        assert sorted(found.to_pylist()) == sorted(expected)


def test_frames_with_the_same_rows_do_not_differ(spark: SparkSession) -> None:
    rows: list[Row] = [(1, "a"), (2, None)]
    found = differing_keys(frame(spark, rows), frame(spark, rows[::-1]), COLUMNS, "sale")
    assert found.to_pylist() == []
    assert rows_with_keys(reader(*rows), "sale", found).read_all().num_rows == 0


def test_only_rows_with_a_key_pass() -> None:
    rows = reader((1, "a"), (2, "b"), (3, None))
    passed = rows_with_keys(rows, "sale", pa.array([3, 1, 9], pa.int64())).read_all()
    assert passed.to_pylist() == [{"sale": 1, "shop": "a"}, {"sale": 3, "shop": None}]
