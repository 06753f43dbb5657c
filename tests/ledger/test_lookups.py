"""The rule of staleness for lookups: inputs that are read as of the end of a partition."""

from collections.abc import Mapping
from datetime import date, timedelta

from headrace.grain import Grain
from headrace.ledger.build_plan import AssetLineage
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionRecord
from headrace.ledger.staleness import gate, read_stale, read_states

DAYS = [date(2017, 1, day) for day in range(1, 6)]
RAW = AssetLineage("raw/a", "raw-1")
STORES = AssetLineage("processed/s", "stores-1", grain=Grain.SPARSE)
ROWS = AssetLineage(
    "processed/a",
    "rows-1",
    inputs=("raw/a",),
    lookups=("processed/s",),
    grains={"processed/s": Grain.SPARSE},
)


def record(
    ledger: Ledger,
    lineage: AssetLineage,
    versions: Mapping[date, str],
    inputs: Mapping[date, Mapping[str, str]] | None = None,
    **other: object,
) -> None:
    ledger.record(
        PartitionRecord(
            lineage.name,
            day,
            **{  # type: ignore[arg-type]
                "status": "published",
                "run_id": "run",
                "code_version": lineage.code_version,
                "data_version": version,
                "inputs": (inputs or {}).get(day, {}),
                "content": "new",
                "rows_out": 1,
                **other,
            },
        )
        for day, version in versions.items()
    )


def build(ledger: Ledger) -> None:
    """Publish every day of the rows that can be built, from the inputs of now."""
    opened = gate(ROWS, read_states(ledger, ROWS, DAYS), DAYS).open
    record(ledger, ROWS, {day: f"w{day}" for day in opened}, opened)


def stale_days(ledger: Ledger) -> list[int]:
    return [one.partition.day for one in read_stale(ledger, ROWS) if one.partition]


def shut(ledger: Ledger) -> dict[int, str]:
    found = gate(ROWS, read_states(ledger, ROWS, DAYS), DAYS).shut
    return {day.day: why for day, why in found.items()}


def test_a_new_version_concerns_the_days_whose_end_lies_after_it(ledger: Ledger) -> None:
    record(ledger, RAW, dict.fromkeys(DAYS, "v1"))
    assert shut(ledger) == dict.fromkeys(range(1, 6), "processed/s was never built")
    record(ledger, STORES, {DAYS[1]: "s2"})
    build(ledger)
    assert (shut(ledger), stale_days(ledger)) == ({}, [])
    record(ledger, STORES, {DAYS[3]: "s4"})
    assert stale_days(ledger) == [4, 5]
    build(ledger)
    # The first version with rows is read by the days before it, too.
    record(ledger, STORES, {DAYS[1]: "s2b"})
    assert stale_days(ledger) == [1, 2, 3, 4, 5]
    build(ledger)
    record(ledger, STORES, {DAYS[0]: "s1"})
    assert stale_days(ledger) == [1, 2, 3, 4, 5]


def test_a_first_version_without_rows_leaves_the_days_before_to_the_next(ledger: Ledger) -> None:
    record(ledger, RAW, dict.fromkeys(DAYS, "v1"))
    record(ledger, STORES, {DAYS[0]: "s1"}, rows_out=0)
    build(ledger)
    record(ledger, STORES, {DAYS[2]: "s3"})
    assert stale_days(ledger) == [1, 2, 3, 4, 5]


def test_days_wait_for_the_version_that_they_would_read(ledger: Ledger) -> None:
    record(ledger, RAW, dict.fromkeys(DAYS, "v1"))
    record(ledger, STORES, {DAYS[0]: "s1"})
    build(ledger)
    record(ledger, STORES, {DAYS[3]: "s4"}, status="held")
    assert shut(ledger) == dict.fromkeys((4, 5), "processed/s 2017-01-04 is held")
    assert stale_days(ledger) == []


def test_a_day_that_another_run_built_from_a_newer_reference_is_stale_for_no_run(
    ledger: Ledger,
) -> None:
    record(ledger, RAW, {DAYS[0]: "v1"})
    record(ledger, STORES, {DAYS[0]: "s1"})
    build(ledger)
    record(ledger, STORES, {DAYS[0] + timedelta(days=1): "s2"})
    assert stale_days(ledger) == []
