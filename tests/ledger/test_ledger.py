"""The ledger says of every partition what was tried last and what readers see."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionRecord, Status

ASSET = "processed/shop_orders"
MONDAY, TUESDAY, WEDNESDAY = (date(2017, 1, 2) + timedelta(days=n) for n in range(3))


def record(
    partition: date | None = MONDAY, status: Status = "published", run_id: str = "run-1"
) -> PartitionRecord:
    return PartitionRecord(
        ASSET,
        partition,
        status,
        run_id,
        snapshot_id=2**62 if status == "published" else None,
        code_version="abc",
        rows_in=10,
        rows_out=8,
        rows_quarantined=2,
        quality_score=0.8,
        error=None if status == "published" else "too few rows",
    )


def test_an_empty_ledger_knows_nothing(ledger: Ledger) -> None:
    assert ledger.states(ASSET) == {}
    assert ledger.readable(ASSET, [MONDAY]) == frozenset()
    assert ledger.summary() == []
    assert ledger.watermarks.loaded_snapshot("warehouse/dim_product") is None
    ledger.record([])
    assert ledger.summary() == []


def test_what_is_recorded_is_read(ledger: Ledger) -> None:
    ledger.record([record()])
    state = ledger.states(ASSET, [MONDAY, TUESDAY])[MONDAY]
    assert (state.status, state.run_id, state.code_version) == ("published", "run-1", "abc")
    assert (state.rows_in, state.rows_out, state.rows_quarantined) == (10, 8, 2)
    assert state.quality_score == Decimal("0.8")
    assert (state.published_rows, state.published_run_id) == (8, "run-1")
    assert state.snapshot_id == 2**62
    assert state.published_at == state.attempted_at
    assert state.attempted_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("status", ["held", "failed"])
def test_a_bad_attempt_closes_the_gate_and_keeps_what_was_published(
    ledger: Ledger, status: Status
) -> None:
    ledger.record([record(run_id="good")])
    published = ledger.states(ASSET)[MONDAY]
    ledger.record([replace(record(status=status, run_id="bad"), rows_out=3)])
    state = ledger.states(ASSET)[MONDAY]
    assert (state.status, state.run_id, state.error) == (status, "bad", "too few rows")
    assert (state.rows_out, state.published_rows) == (3, 8)
    assert state.published_run_id == "good"
    assert (state.snapshot_id, state.published_at) == (2**62, published.published_at)
    assert state.attempted_at > published.attempted_at
    assert ledger.readable(ASSET, [MONDAY]) == frozenset()


def test_a_repair_opens_the_gate_again(ledger: Ledger) -> None:
    for status in ("published", "failed", "published"):
        ledger.record([record(status=status)])
    state = ledger.states(ASSET)[MONDAY]
    assert state.error is None
    assert ledger.readable(ASSET, [MONDAY]) == {MONDAY}


def test_readable_are_the_days_whose_last_attempt_was_published(ledger: Ledger) -> None:
    ledger.record([record(MONDAY), record(TUESDAY, "held"), replace(record(WEDNESDAY), rows_out=0)])
    ledger.record([replace(record(TUESDAY), asset="processed/other")])
    days = [MONDAY, TUESDAY, WEDNESDAY, date(2020, 1, 1)]
    assert ledger.readable(ASSET, days) == {MONDAY, WEDNESDAY}
    assert ledger.readable(ASSET, [WEDNESDAY]) == {WEDNESDAY}
    assert ledger.readable(ASSET, []) == frozenset()


def test_an_asset_without_partitions_has_one_row(ledger: Ledger) -> None:
    for run_id in ("first", "second"):
        ledger.record([record(None, run_id=run_id)])
    states = ledger.states(ASSET)
    assert list(states) == [None]
    assert states[None].run_id == "second"
    assert not ledger.summary()[0].is_partitioned


def test_of_two_attempts_recorded_together_the_later_counts(ledger: Ledger) -> None:
    ledger.record([record(), record(status="failed")])
    assert ledger.states(ASSET)[MONDAY].status == "failed"


def test_the_summary_counts_partitions_by_state(ledger: Ledger) -> None:
    ledger.record([record(MONDAY), record(TUESDAY), replace(record(WEDNESDAY), rows_out=0)])
    ledger.record([record(TUESDAY, "held", "run-2"), record(date(2017, 1, 5), "failed", "run-2")])
    ledger.record([replace(record(None), asset="a")])
    first, second = ledger.summary()
    assert first.asset == "a"
    assert (second.published, second.empty, second.held, second.failed) == (1, 1, 1, 1)
    assert second.rows == 16, "readers still see the held day's earlier rows"
    assert second.last_run_id == "run-2"
    assert second.last_run_at == max(s.attempted_at for s in ledger.states(ASSET).values())
    assert second.is_partitioned


def test_a_run_is_asked_for_what_it_published_and_what_not(ledger: Ledger) -> None:
    ledger.record([record(MONDAY), record(TUESDAY, "held"), record(WEDNESDAY, "failed")])
    ledger.record([record(date(2017, 1, 9), "failed", "other")])
    assert ledger.published_count_of_run("run-1") == 1
    bad = ledger.held_or_failed_of_run("run-1")
    assert [(s.asset, s.partition, s.status, s.error) for s in bad] == [
        (ASSET, TUESDAY, "held", "too few rows"),
        (ASSET, WEDNESDAY, "failed", "too few rows"),
    ]


def test_rows_are_written_with_the_transaction_they_belong_to(ledger: Ledger) -> None:
    ledger.record([record(MONDAY, "failed")])
    with ledger.connect() as session:
        with session.transaction(force_rollback=True):
            ledger.record_in(session, [record(MONDAY)])
            ledger.watermarks.record_loaded_in(session, "warehouse/dim_product", 7, "run-1")
        assert ledger.states(ASSET)[MONDAY].status == "failed"
        with session.transaction():
            ledger.record_in(session, [record(MONDAY)])
    assert ledger.states(ASSET)[MONDAY].status == "published"


def test_a_loaded_snapshot_counts_as_long_as_its_table_is_there(ledger: Ledger) -> None:
    with ledger.connect() as session:
        for snapshot in (2**62, 7):
            ledger.watermarks.record_loaded_in(session, "warehouse/dim_product", snapshot, "run-1")
        assert ledger.watermarks.loaded_snapshot("warehouse/dim_product") is None
        session.execute("create schema warehouse; create table warehouse.dim_product ()")
        assert ledger.watermarks.loaded_snapshot("warehouse/dim_product") == 7
        assert ledger.watermarks.loaded_snapshot("warehouse.dim_product") == 7
        session.execute("drop table warehouse.dim_product")
    assert ledger.watermarks.loaded_snapshot("warehouse/dim_product") is None


def test_writers_that_come_first_at_once_make_one_ledger(ledger: Ledger) -> None:
    days = [MONDAY + timedelta(days=n) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        # All write the same rows, in different orders.
        list(
            pool.map(
                lambda n: ledger.record([record(d, run_id=str(n)) for d in days[n:] + days[:n]]),
                range(8),
            )
        )
    assert len(ledger.states(ASSET)) == 40
    assert len({state.run_id for state in ledger.states(ASSET).values()}) == 1


def test_a_year_of_twenty_assets_is_recorded_at_once(ledger: Ledger) -> None:
    days = [date(2017, 1, 1) + timedelta(days=n) for n in range(366)]
    records = [replace(record(day), asset=f"layer/{n}") for n in range(20) for day in days]
    ledger.record(records)
    began = time.monotonic()
    ledger.record(records)
    # 0.2 s on an idle machine; row by row it is 4 s.
    assert time.monotonic() - began < 2
    assert ledger.readable("layer/7", days) == {*days}


def test_a_failure_after_a_publication_leaves_what_was_published(ledger: Ledger) -> None:
    ledger.record([record()])
    published = replace(record(run_id="run-2"), snapshot_id=7)
    ledger.record([published, record(TUESDAY)], [record(status="failed", run_id="run-2")])
    state = ledger.states(ASSET)[MONDAY]
    assert (state.status, state.snapshot_id, state.published_run_id) == ("failed", 7, "run-2")
    assert ledger.recorded_snapshots(ASSET, [7, 8]) == {7}
    assert ledger.recorded_snapshots("processed/other", [7]) == frozenset()


def test_the_history_has_every_attempt_until_it_is_old(ledger: Ledger) -> None:
    ledger.record([replace(record(status="failed"), seconds=1.5)])
    ledger.record([record(run_id="run-2")])
    assert [(a.run_id, a.status, a.seconds) for a in ledger.attempts(asset=ASSET)] == [
        ("run-1", "failed", 1.5),
        ("run-2", "published", None),
    ]
    newest = ledger.attempts(run_id="run-2")[0].ended_at
    assert ledger.delete_attempts_before(newest) == 1
    assert [a.run_id for a in ledger.attempts(partition=MONDAY)] == ["run-2"]
    assert ledger.states(ASSET)[MONDAY].status == "published"
