"""What a publication does to a table beyond the contract of all stores."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest
from pyiceberg.io import InputFile
from pyiceberg.serializers import FromInputFile

from headrace.errors import (
    CatalogUnavailableError,
    IncompatibleSchemaError,
    StagedFileRejectedError,
    UnknownColumnError,
)
from headrace.lake.catalog import LakeCatalog
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.schema import Column, TableSchema
from headrace.staged import StagedPartition
from tests.lake.writing import DAY, SALES, day, numbers, publish, sales, stage, write_file


def snapshots(table: LakeTable) -> int:
    loaded = table.load()
    return len(loaded.snapshots()) if loaded else 0


def test_a_publication_is_one_snapshot_that_says_who_made_it(table: LakeTable) -> None:
    publish(table, {day(0): [1, 2], day(1): [3]})
    staged = stage(table, {day(0): sales(day(0), [7])})
    commit = table.replace(
        {**staged, day(1): StagedPartition(day(1))}, schema=SALES, properties={"our.run": "r1"}
    )
    assert snapshots(table) == 2
    assert commit.snapshot_id == table.current_snapshot_id()
    assert table.snapshot_properties()["our.run"] == "r1"
    assert (commit.days, commit.rows) == ((day(0), day(1)), 1)
    assert (commit.files_added, commit.files_removed) == (1, 2)
    assert commit.size_bytes == staged[day(0)].files[0].size_bytes


def test_publishing_nothing_but_empty_days_is_recorded_too(table: LakeTable) -> None:
    table.replace({day(0): StagedPartition(day(0))}, schema=SALES, properties={"our.run": "r1"})
    assert table.snapshot_properties()["our.run"] == "r1"
    table.replace({day(0): StagedPartition(day(0))}, schema=SALES, properties={"our.run": "r2"})
    assert table.snapshot_properties()["our.run"] == "r2"
    assert numbers(table) == []


def test_publishing_the_same_files_again_changes_nothing(table: LakeTable) -> None:
    staged = stage(table, {day(0): sales(day(0), [1]), day(1): sales(day(1), [2])})
    first = table.replace(staged, schema=SALES)
    second = table.replace(staged, schema=SALES)
    assert second.snapshot_id == first.snapshot_id
    assert (second.files_added, second.files_removed) == (0, 0)
    assert numbers(table) == [1, 2]


def test_appending_keeps_what_is_there_and_adds_a_file_once(table: LakeTable) -> None:
    first, second = (stage(table, {day(0): sales(day(0), [n])}) for n in (1, 2))
    table.append(first, schema=SALES)
    table.append(second, schema=SALES)
    assert numbers(table) == [1, 2]
    again = {day(0): StagedPartition(day(0), first[day(0)].files + second[day(0)].files)}
    assert table.append(again, schema=SALES).files_added == 0
    assert numbers(table) == [1, 2]


def test_overwriting_replaces_the_whole_of_a_table_without_partitions(table: LakeTable) -> None:
    for token, on in (("a", day(0)), ("b", day(5))):
        write_file(table, f"{token}/part.parquet", sales(on, [on.day]))
        table.overwrite(table.staged_files(token), schema=SALES)
    assert numbers(table) == [day(5).day]
    assert table.scan([day(0)]).total_rows == 1  # it has no days to choose from
    table.overwrite((), schema=SALES)
    assert numbers(table) == []


def test_a_table_stays_partitioned_as_it_was_made(table: LakeTable) -> None:
    publish(table, {day(0): [1]})
    with pytest.raises(IncompatibleSchemaError, match=f"is partitioned by {DAY}"):
        table.overwrite((), schema=SALES)
    assert numbers(table) == [1]


def test_a_schema_without_the_partition_column_is_refused(table: LakeTable) -> None:
    with pytest.raises(UnknownColumnError, match=DAY):
        table.replace({day(0): StagedPartition(day(0))}, schema=SALES.without(DAY))
    assert not table.exists()


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (sales(day(1), [1]), str(day(1))),
        (pa.concat_tables([sales(day(0), [1]), sales(day(1), [2])]), str(day(1))),
        (sales(day(0), [1]).drop_columns([DAY]), "no value"),
        (sales(day(0), [1]).set_column(2, DAY, pa.array([None], pa.date32())), "no value"),
    ],
    ids=["another day", "two days", "no column", "null"],
)
@pytest.mark.parametrize("statistics", [True, False])
def test_a_file_with_rows_of_another_day_is_refused(
    table: LakeTable, rows: pa.Table, found: str, *, statistics: bool
) -> None:
    publish(table, {day(0): [9]})
    write_file(table, f"t/_pd={day(0)}/a.parquet", rows, write_statistics=statistics)
    with pytest.raises(StagedFileRejectedError, match=found):
        table.replace(table.staged("t"), schema=SALES)
    assert numbers(table) == [9]


def test_a_file_named_twice_is_refused(table: LakeTable) -> None:
    staged = stage(table, {day(0): sales(day(0), [1])})[day(0)]
    twice = {day(0): StagedPartition(day(0), staged.files * 2)}
    with pytest.raises(StagedFileRejectedError, match="2 times"):
        table.replace(twice, schema=SALES)


@pytest.mark.parametrize(
    ("column", "values", "named"),
    [
        ("sale", pa.array(["1"]), ["'sale'", "bigint", "string"]),
        ("sale", pa.array([1.5]), ["'sale'", "bigint", "double"]),
        ("shop", pa.array([1]), ["'shop'", "string", "bigint"]),
        ("extra", pa.array([1]), ["'extra'", "the schema lacks"]),
        ("shop", pa.array([0], pa.timestamp("ns")), ["'shop'", "timestamp[ns]"]),
        # Iceberg could widen these, but Sail could not read them with the table's other files.
        ("sale", pa.array([1], pa.int32()), ["'sale'", "bigint", "int "]),
        ("sale", pa.array([1], pa.int16()), ["'sale'", "bigint", "int "]),
        ("shop", pa.array(["n"], pa.large_string()), ["'shop'", "string", "large_string"]),
    ],
)
def test_a_file_with_other_columns_is_refused_by_name(
    table: LakeTable, column: str, values: pa.Array, named: list[str]
) -> None:
    rows = sales(day(0), [1])
    if column in rows.column_names:
        rows = rows.drop_columns([column])
    write_file(table, f"t/_pd={day(0)}/a.parquet", rows.append_column(column, values))
    with pytest.raises(IncompatibleSchemaError) as refused:
        table.replace(table.staged("t"), schema=SALES)
    for text in (table.name, *named):
        assert text in str(refused.value)


def test_another_reader_finds_the_rows_and_skips_files_by_their_bounds(table: LakeTable) -> None:
    publish(table, {day(n): [10 * n, 10 * n + 9] for n in range(5)})
    loaded = table.load()
    assert loaded is not None
    found = loaded.scan().to_arrow()
    assert sorted(found.column("sale").to_pylist()) == numbers(table)
    assert set(found.column(DAY).to_pylist()) == {day(n) for n in range(5)}
    for row_filter, files in (
        (f"{DAY} = '{day(3)}'", 1),
        (f"{DAY} >= '{day(3)}'", 2),
        (f"{DAY} > '{day(4)}'", 0),
        ("shop is null", 0),  # by counts; numbers and texts have no bounds
        ("sale > 25", 5),
    ):
        assert len(list(loaded.scan(row_filter=row_filter).plan_files())) == files


def test_a_publication_opens_no_file_that_was_read_when_it_was_staged(table: LakeTable) -> None:
    staged = stage(table, {day(n): sales(day(n), [n]) for n in range(3)})
    table.storage.delete(file.path for some in staged.values() for file in some.files)
    assert table.replace(staged, schema=SALES).files_added == 3


def manifests(table: LakeTable) -> int:
    loaded = table.load()
    snapshot = loaded.current_snapshot() if loaded else None
    assert loaded is not None
    assert snapshot is not None
    return len(snapshot.manifests(loaded.io))


def test_a_hundred_commits_leave_few_manifests(table: LakeTable) -> None:
    for n in range(60):
        publish(table, {day(n): [n]})
    for n in range(0, 60, 2):
        publish(table, {day(n): [n]})
    assert manifests(table) < 60
    assert numbers(table) == list(range(60))


def test_a_manifest_of_deletions_is_not_carried_on(table: LakeTable) -> None:
    for n in range(5):
        publish(table, {day(0): [n]})
    assert manifests(table) == 2  # what the last one wrote: a file in, a file out


def test_columns_keep_their_descriptions(table: LakeTable) -> None:
    described = TableSchema(
        (*SALES.columns, Column("till", "list<string>", description="where it was paid"))
    )
    publish(table, {day(0): [1]})
    table.replace({day(1): StagedPartition(day(1))}, schema=described)
    assert table.schema() == described


def test_nothing_connects_before_it_is_asked_and_a_dead_catalog_is_named() -> None:
    lake = LakeCatalog(LakeSettings("postgresql://nobody:canary@127.0.0.1:1/lake", "/nowhere"))
    table = lake.table("raw", "sales")
    assert "canary" not in repr(lake) + repr(table)
    with pytest.raises(CatalogUnavailableError) as down:
        table.exists()
    assert "canary" not in str(down.value)
    assert down.value.fix


def test_a_table_is_read_again_when_somebody_published_to_it_and_only_then(
    table: LakeTable,
    settings: LakeSettings,
    lake: LakeCatalog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(table, {day(0): [1]})
    assert snapshots(table) == 1
    read: list[str] = []
    parsed = FromInputFile.table_metadata

    def counted(file: InputFile) -> object:
        read.append(file.location)
        return parsed(file)

    monkeypatch.setattr(FromInputFile, "table_metadata", counted)
    assert (snapshots(table), len(read)) == (1, 0)
    namespace, _, name = table.name.partition(".")
    publish(LakeCatalog(settings).table(namespace, name), {day(1): [2]})
    read.clear()
    assert (snapshots(table), numbers(table), len(read)) == (2, [1, 2], 1)
    # What somebody still holds stays as it was, whatever is published through the table.
    held = table.load()
    assert held is not None
    publish(table, {day(2): [3]})
    assert (len(held.snapshots()), snapshots(table)) == (2, 3)
    lake.close()
    publish(table, {day(3): [4]})
    assert numbers(table) == [1, 2, 3, 4]


def test_a_lake_lists_its_tables(lake: LakeCatalog) -> None:
    names = [("list_b", "x"), ("list_a", "y"), ("list_a", "x")]
    for namespace, name in names:
        table = lake.table(namespace, name)
        table.replace({day(0): StagedPartition(day(0))}, schema=SALES)
    assert [name for name in lake.tables() if name in names] == sorted(names)


# As SALES, but for the type of the number, and a column fewer.
RETYPED = TableSchema((Column("sale", "decimal(12,4)"), Column(DAY, "date")))


def retyped(table: LakeTable, days: Sequence[date]) -> dict[date, StagedPartition]:
    rows = {on: [{"sale": Decimal("1.2345"), DAY: on}] for on in days}
    return stage(
        table, {d: pa.Table.from_pylist(r, schema=RETYPED.arrow()) for d, r in rows.items()}
    )


def test_a_rebuild_gives_columns_other_types_and_readers_old_or_new(table: LakeTable) -> None:
    publish(table, {day(0): [1], day(1): [2]})
    before = table.scan()
    staged = retyped(table, [day(0), day(1)])
    with pytest.raises(IncompatibleSchemaError, match="published as bigint") as refused:
        table.replace(staged, schema=RETYPED)
    assert "headrace backfill --rebuild --select 'key:" in refused.value.fix
    table.replace(staged, schema=RETYPED, rebuild=True)
    assert {*table.schema().names} == {"sale", DAY}
    assert table.schema().column("sale").type == "decimal(12,4)"
    found = table.scan().batches().read_all().column("sale").to_pylist()
    assert found == [Decimal("1.2345")] * 2
    # Who follows the table cannot read the old files as the table is now, and compares all.
    assert before.snapshot_id is not None
    assert table.changes_since(before.snapshot_id) is None
    # Whoever planned before reads what was there, and the next day is published as ever.
    assert sorted(before.batches().read_all().column("sale").to_pylist()) == [1, 2]
    table.replace(retyped(table, [day(2)]), schema=RETYPED)
    loaded = table.load()
    assert loaded is not None
    assert loaded.scan().to_arrow().column("sale").to_pylist() == [Decimal("1.2345")] * 3


def test_a_rebuild_that_lacks_a_published_day_changes_nothing(table: LakeTable) -> None:
    publish(table, {day(0): [1], day(1): [2]})
    with pytest.raises(IncompatibleSchemaError, match="1 published days are not in the rebuild"):
        table.replace(retyped(table, [day(0)]), schema=RETYPED, rebuild=True)
    assert numbers(table) == [1, 2]
    assert table.schema().column("sale").type == "bigint"
