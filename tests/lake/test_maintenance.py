"""What maintenance deletes, and what it must not."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

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


def test_a_snapshot_that_was_current_lately_stays_however_old(table: LakeTable) -> None:
    publish(table, {day(0): [1]})
    made = datetime.now(UTC)
    reader = table.scan()
    publish(table, {day(0): [2]})
    assert expire_snapshots(table, made) == 0
    remove_orphans(table, made)
    reader.verify()
    assert expire_snapshots(table, later()) == 1


def test_a_follower_finds_what_changed_since_a_snapshot_that_was_kept_for_it(
    table: LakeTable,
) -> None:
    publish(table, {day(0): [1], day(1): [2]})
    followed = table.current_snapshot_id()
    assert followed is not None
    for number in range(3, 6):
        publish(table, {day(number): [number]})
    publish(table, {day(0): [9]})
    assert expire_snapshots(table, later(), needed=[followed]) == 3
    remove_orphans(table, later())
    changes = table.changes_since(followed)
    assert changes is not None
    assert (changes.added.days, changes.removed.days) == (
        (day(0), day(3), day(4), day(5)),
        (day(0),),
    )
    assert changes.removed.batches().read_all().column("sale").to_pylist() == [1]


def test_deleting_is_bounded_and_goes_on_the_next_time(table: LakeTable) -> None:
    publish(table, {day(0): [1]})
    for number in range(3):
        stage(table, {day(0): sales(day(0), [number])})
    assert [len(remove_orphans(table, later(), limit=2)) for _ in range(3)] == [2, 1, 0]
    assert numbers(table) == [1]


@pytest.mark.parametrize("days", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_files_and_metadata_are_bounded_over_many_days(table: LakeTable, days: int) -> None:
    kinds = Counter[str]()
    for number in range(days):
        # A new day, and one of before anew: its old file is left over.
        publish(table, {day(number): [number], day(number // 2): [number]})
        if number % 8 == 7:
            expire_snapshots(table, later())
            remove_orphans(table, later())
            found = table.storage.list_files(table.location)
            kinds = Counter(_kind(file.uri) for file in found)
            assert kinds["data"] == len(table.scan().files)
            assert kinds["snapshot"] == 1
            assert kinds["manifest"] <= 50
            assert kinds["metadata"] <= 51
    loaded = table.load()
    assert loaded is not None
    assert (len(loaded.snapshots()), len(loaded.history())) == (1, 1)
    sizes = {f.uri: f.size_bytes for f in table.storage.list_files(table.location)}
    assert sizes[loaded.metadata_location] < 16_000


def _kind(uri: str) -> str:
    name = uri.rpartition("/")[2]
    if name.endswith(".avro"):
        return "snapshot" if name.startswith("snap-") else "manifest"
    return "metadata" if name.endswith(".json") else "data"


def test_maintenance_of_a_table_that_does_not_exist_does_nothing(table: LakeTable) -> None:
    assert expire_snapshots(table, later()) == 0
    assert remove_orphans(table, later()) == ()
