"""What maintenance deletes, and what it must not."""

from datetime import UTC, datetime, timedelta

from headrace.lake.maintenance import expire_snapshots, remove_orphans
from headrace.lake.table import LakeTable
from tests.lake.writing import SALES, day, numbers, publish, sales, stage


def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def earlier() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=1)


def test_files_that_were_never_published_go_when_they_are_old(table: LakeTable) -> None:
    publish(table, {day(0): [1], day(1): [2]})
    staged = stage(table, {day(0): sales(day(0), [3])})
    assert remove_orphans(table, earlier()) == ()
    removed = remove_orphans(table, later())
    assert [file.uri for file in removed] == [staged[day(0)].files[0].path]
    assert numbers(table) == [1, 2]


def test_replaced_files_stay_as_long_as_their_snapshot(table: LakeTable) -> None:
    publish(table, {day(n): [n] for n in range(3)})
    before = table.scan()
    publish(table, {day(0): [7], day(1): []})
    assert remove_orphans(table, later()) == ()
    before.verify()
    assert expire_snapshots(table, earlier()) == 0
    assert expire_snapshots(table, later()) == 1
    assert expire_snapshots(table, later()) == 0
    gone = {file.uri for file in remove_orphans(table, later())}
    assert {path for path in gone if "/data/" in path} == {*before.paths([day(0), day(1)])}
    assert numbers(table) == [2, 7]


def test_a_table_can_be_published_and_read_after_maintenance(table: LakeTable) -> None:
    for n in range(4):
        publish(table, {day(n): [n]})
    expire_snapshots(table, later())
    remove_orphans(table, later())
    publish(table, {day(0): [9]})
    assert numbers(table) == [1, 2, 3, 9]
    loaded = table.load()
    assert loaded is not None
    assert sorted(loaded.scan().to_arrow().column("sale").to_pylist()) == [1, 2, 3, 9]
    assert set(table.schema().names) == set(SALES.names)


def test_maintenance_of_a_table_that_does_not_exist_does_nothing(table: LakeTable) -> None:
    assert expire_snapshots(table, later()) == 0
    assert remove_orphans(table, later()) == ()
