"""What changed between two snapshots of a table."""

from datetime import UTC, datetime
from random import Random

import pytest

from headrace.lake import changes
from headrace.lake.maintenance import expire_snapshots
from headrace.lake.table import LakeTable
from headrace.staged import StagedPartition
from tests.lake.writing import SALES, day, publish


def paths(table: LakeTable) -> set[str]:
    return set(table.scan().paths())


def snapshot_of(table: LakeTable) -> int:
    found = table.current_snapshot_id()
    assert found is not None
    return found


def test_a_replaced_day_shows_the_rows_that_came_and_went(table: LakeTable) -> None:
    publish(table, {day(0): [1], day(1): [2]})
    before = snapshot_of(table)
    publish(table, {day(1): [7, 8], day(2): [9]})
    found = table.changes_since(before)
    assert found
    assert found.added.days == (day(1), day(2))
    assert sorted(found.added.batches().read_all()["sale"].to_pylist()) == [7, 8, 9]
    assert found.removed.batches().read_all()["sale"].to_pylist() == [2]


def test_nothing_changed_since_the_current_snapshot(table: LakeTable) -> None:
    publish(table, {day(0): [1]})
    found = table.changes_since(snapshot_of(table))
    assert found is not None
    assert not found


@pytest.mark.parametrize("followed", [50, 1])
def test_any_two_snapshots_differ_by_their_files(
    table: LakeTable, monkeypatch: pytest.MonkeyPatch, followed: int
) -> None:
    # Enough commits that manifests are merged on the way; with few followed, the lists of all
    # files are compared.
    monkeypatch.setattr(changes, "_MAX_SNAPSHOTS", followed)
    monkeypatch.setattr("headrace.lake.commit._MERGE_FROM", 3)
    random = Random(4)  # noqa: S311
    states: dict[int, set[str]] = {}
    for number in range(12):
        days = random.sample(range(5), random.choice([1, 2]))
        publish(table, {day(n): random.choice([[], [number], [number, n]]) for n in days})
        states[snapshot_of(table)] = paths(table)
    for snapshot, before in states.items():
        found = table.changes_since(snapshot)
        assert found is not None
        assert set(found.added.paths()) == paths(table) - before
        assert set(found.removed.paths()) == before - paths(table)


def test_a_file_that_came_back_did_not_change(table: LakeTable) -> None:
    publish(table, {day(0): [1], day(1): [5]})
    before, staged = snapshot_of(table), table.scan().files_by_day[day(0)]
    publish(table, {day(0): []})
    table.append({day(0): StagedPartition(day(0), staged)}, schema=SALES)
    found = table.changes_since(before)
    assert found is not None
    assert not found


def test_an_expired_snapshot_is_not_known_any_more(table: LakeTable) -> None:
    publish(table, {day(0): [1]})
    before = snapshot_of(table)
    publish(table, {day(1): [2]})
    assert expire_snapshots(table, datetime.now(UTC)) == 1
    assert table.changes_since(before) is None
    assert table.changes_since(4711) is None
