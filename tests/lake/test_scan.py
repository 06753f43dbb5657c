"""Reading published states."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import uuid4

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from headrace.errors import PublishedFileMissingError, UnpublishedTableError
from headrace.lake.catalog import LakeCatalog
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.schema import Column, TableSchema
from tests.lake.writing import DAY, SALES, day, numbers, publish, sales, stage, write_file


def test_a_table_without_any_publication_is_named(table: LakeTable) -> None:
    assert not table.exists()
    assert table.current_snapshot_id() is None
    assert table.snapshot_properties() == {}
    with pytest.raises(UnpublishedTableError, match=table.name):
        table.scan()


def test_a_scan_shows_the_state_it_was_planned_on(table: LakeTable) -> None:
    publish(table, {day(0): [1], day(1): [2]})
    scan = table.scan()
    publish(table, {day(0): [7, 8], day(1): []})
    assert sorted(scan.batches().read_all().column("sale").to_pylist()) == [1, 2]
    assert scan.snapshot_id != table.current_snapshot_id()
    assert numbers(table) == [7, 8]


def test_a_scan_knows_its_days_without_reading_them(table: LakeTable) -> None:
    publish(table, {day(0): [1, 2], day(2): [3]})
    scan = table.scan([day(2), day(1), day(0)])
    assert scan.days == (day(0), day(1), day(2))
    assert [scan.rows(on) for on in scan.days] == [2, 0, 1]
    assert scan.files_by_day[day(1)] == ()
    assert scan.size_bytes(day(1)) == 0
    assert scan.total_rows == 3
    assert scan.total_bytes == scan.size_bytes(day(0)) + scan.size_bytes(day(2))
    assert scan.paths([day(2)]) == [scan.files_by_day[day(2)][0].path]
    assert table.scan().days == (day(0), day(2))
    assert table.scan([]).files == ()


def test_a_day_that_was_not_asked_for_is_no_empty_day(table: LakeTable) -> None:
    publish(table, {day(0): [1], day(1): [2]})
    with pytest.raises(KeyError):
        table.scan([day(0)]).paths([day(1)])


def test_batches_come_by_day_in_the_columns_asked_for(table: LakeTable) -> None:
    publish(table, {day(n): [n] for n in reversed(range(5))})
    read = table.scan().batches([day(3), day(1)], columns=[DAY, "sale"]).read_all()
    assert read.column_names == [DAY, "sale"]
    assert read.column("sale").to_pylist() == [1, 3]
    with pytest.raises(KeyError):
        table.scan().batches(columns=["nope"])


def test_batches_do_not_hold_the_whole_table_in_memory(table: LakeTable) -> None:
    wide = [f"{n:0100d}" for n in range(20_000)]
    tables = {
        day(n): sales(day(n), range(20_000)).set_column(1, "shop", pa.array(wide))
        for n in range(30)
    }
    table.replace(stage(table, tables), schema=SALES)
    whole = 30 * tables[day(0)].nbytes
    del tables
    before, peak, rows = pa.total_allocated_bytes(), 0, 0
    for batch in table.scan().batches():
        rows += batch.num_rows
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert rows == 600_000
    assert peak < whole / 3


@pytest.mark.parametrize("store", ["table", pytest.param("s3_table", marks=pytest.mark.s3)])
@pytest.mark.parametrize("count", [1, 12])
def test_a_lost_file_is_named_and_its_rows_are_not_missed_silently(
    store: str, count: int, request: pytest.FixtureRequest
) -> None:
    table: LakeTable = request.getfixturevalue(store)
    publish(table, {day(n): [n] for n in range(count)})
    scan = table.scan()
    lost = scan.files_by_day[day(count - 1)][0]
    table.storage.delete([lost.path])
    for read in (scan.batches, scan.verify, lambda: scan.frame(request.getfixturevalue("spark"))):
        with pytest.raises(PublishedFileMissingError) as missing:
            read()
        assert lost.path in str(missing.value)
        assert str(day(count - 1)) in missing.value.fix
    scan.verify([day(n) for n in range(count - 1)])


def test_a_file_that_was_written_over_is_found_out(table: LakeTable) -> None:
    publish(table, {day(0): [1]})
    path = table.scan().files[0].path.removeprefix(f"{table.location}/data/")
    write_file(table, path, sales(day(0), range(1000)))
    with pytest.raises(PublishedFileMissingError, match="bytes"):
        table.scan().batches()


WIDE = TableSchema(
    (
        Column("sale", "bigint"),
        Column("money", "decimal(18,2)"),
        Column("at", "timestamp"),
        Column("instant", "timestamptz"),
        Column("tags", "list<string>"),
        Column(DAY, "date"),
    )
)


def publish_in_two_ages(table: LakeTable) -> list[dict[str, object]]:
    """A day from before columns were added and widened, and a day from after."""
    old = TableSchema((Column("sale", "int"), Column("money", "decimal(9,2)"), Column(DAY, "date")))
    before: dict[str, object] = {"sale": 1, "money": Decimal("1.25"), DAY: day(0)}
    after: dict[str, object] = {
        "sale": 2**40,
        "money": Decimal("9999999999999999.99"),
        "at": datetime(2017, 3, 26, 2, 30),  # wall-clock time
        "instant": datetime(2017, 3, 26, 2, 30, tzinfo=UTC),
        "tags": ["a", "b"],
        DAY: day(1),
    }
    for row, schema in ((before, old), (after, WIDE)):
        on = row[DAY]
        assert isinstance(on, date)
        rows = pa.Table.from_pylist([row], schema=schema.arrow())
        table.replace(stage(table, {on: rows}), schema=schema)
    return [{**dict.fromkeys(WIDE.names), **before}, after]


@pytest.mark.parametrize("store", ["table", pytest.param("s3_table", marks=pytest.mark.s3)])
def test_old_files_are_read_in_the_columns_of_today(
    store: str, request: pytest.FixtureRequest
) -> None:
    table: LakeTable = request.getfixturevalue(store)
    spark: SparkSession = request.getfixturevalue("spark")
    expected = publish_in_two_ages(table)
    columns = list(table.schema().names)
    assert set(columns) == set(WIDE.names)
    ordered = [{name: row[name] for name in columns} for row in expected]
    scan = table.scan()
    assert scan.batches().read_all().to_pylist() == ordered
    frame = scan.frame(spark).orderBy("sale")
    assert frame.toArrow().to_pylist() == ordered
    assert frame.toArrow().schema.types == scan.schema.arrow().types
    assert scan.frame(spark, [day(1)]).toArrow().to_pylist() == ordered[1:]
    assert frame.filter("sale > 5").count() == 1
    loaded = table.load()
    assert loaded is not None
    assert sorted(loaded.scan().to_arrow().to_pylist(), key=lambda row: row["sale"]) == ordered


def test_an_empty_day_is_an_empty_frame_of_the_same_columns(
    table: LakeTable, spark: SparkSession
) -> None:
    publish(table, {day(0): [1], day(1): []})
    frame = table.scan([day(1)]).frame(spark)
    assert frame.columns == list(SALES.names)
    assert frame.count() == 0
    assert frame.schema == table.scan([day(0)]).frame(spark).schema


def test_sail_reads_the_table_as_iceberg(settings: LakeSettings, spark: SparkSession) -> None:
    # Sail 0.7 finds no Iceberg table in a folder with a space in its name.
    root = settings.location.replace(" ", "-")
    table = LakeCatalog(replace(settings, location=root)).table("sail", uuid4().hex)
    publish(table, {day(n): [n] for n in range(4)})
    publish(table, {day(1): [11], day(2): []})
    frame = spark.read.format("iceberg").load(table.location)
    assert sorted(row["sale"] for row in frame.collect()) == [0, 3, 11]
    assert {row[DAY] for row in frame.collect()} == {day(0), day(1), day(3)}
