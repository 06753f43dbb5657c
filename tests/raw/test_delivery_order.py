"""Which delivery is the latest: it depends on the files, never on the runs that captured them."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.sources.landing.landing_zone import StoredFile
from tests.raw.building import DAY, Raw, csv_text, entity

NAMES = ("orders-2017-01-01-9.csv", "orders-2017-01-01-10.csv", "orders-2017-01-01-b.csv")


@dataclass(frozen=True)
class Delivered:
    """A file as it is put into the landing zone, and whether a run captures the day then."""

    name: str
    amounts: tuple[int, ...]
    minute: int
    is_captured: bool


deliveries = st.lists(
    st.builds(
        Delivered,
        st.sampled_from(NAMES),
        st.lists(st.integers(1, 3), max_size=2).map(tuple),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def run(delivered: Sequence[Delivered], *, by_row: bool) -> tuple[list[Any], dict[str, str]]:
    """What raw holds after them all: its rows, and of each id the value that was delivered last."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {"path": "orders-{date:%Y-%m-%d}-*.csv"}
        raw = Raw(Path(folder), undated_orders() if by_row else entity(extract=paths))
        for one in delivered:
            lines = [f"{n},1/1/2017 8:00,{value}" for n, value in enumerate(one.amounts)]
            path = raw.deliver(one.name, csv_text(lines, "id,name,amount"))
            os.utime(path, (one.minute * 60, one.minute * 60))
            if one.is_captured:
                raw.capture()
        raw.capture()
        rows = sorted(
            raw.rows(),
            key=lambda r: (r["_delivery_order"], r["_source_object"], r["_source_position"]),
        )
        held = sorted(
            (r["_source_object"], r["_source_position"], r["id"], r["amount"]) for r in rows
        )
        return held, {row["id"]: row["amount"] for row in rows}


def undated_orders() -> Any:
    columns = [
        {"name": "id", "type": "bigint"},
        {"name": "name", "type": "timestamp", "formats": ["M/d/yyyy H:mm"]},
        {"name": "amount", "type": "decimal(12,2)"},
    ]
    extract = {"path": "orders-*.csv", "partition_by": "name"}
    return entity(columns=columns, extract=extract)


def naive(delivered: Sequence[Delivered]) -> tuple[list[Any], dict[str, str]]:
    """The same from the files that lie there at the end, ordered by time and then by number."""
    current = {one.name: one for one in delivered}
    rows = [
        (one.name, line, str(line - 2), str(value))
        for one in sorted(current.values(), key=lambda one: (one.minute, NAMES.index(one.name)))
        for line, value in enumerate(one.amounts, start=2)
    ]
    return sorted(rows), {id_: amount for _, _, id_, amount in rows}


@pytest.mark.property
@pytest.mark.parametrize("by_row", [False, True])
@settings(max_examples=40, deadline=None)
@given(delivered=deliveries)
def test_rows_and_their_order_follow_from_the_files_and_not_from_the_runs(
    delivered: Sequence[Delivered], *, by_row: bool
) -> None:
    assert run(delivered, by_row=by_row) == naive(delivered)


def test_deliveries_come_by_time_then_by_path_with_numbers_as_numbers() -> None:
    def file(path: str, minute: int = 0) -> StoredFile:
        return StoredFile(path, 1, "v", datetime(2017, 1, 1, 0, minute, tzinfo=UTC))

    stored = [file("part-1.csv", 1), file("part-a.csv"), file("part-10.csv"), file("part-9.csv")]
    in_order = [one.path for one in sorted(stored, key=lambda one: one.delivery)]
    assert in_order == ["part-9.csv", "part-10.csv", "part-a.csv", "part-1.csv"]


def test_a_part_that_was_written_later_is_later_though_its_number_reads_as_less() -> None:
    nine = Delivered(NAMES[0], (9,), 0, is_captured=True)
    ten = Delivered(NAMES[1], (10,), 0, is_captured=True)
    assert run([nine, ten], by_row=False)[1] == run([ten, nine], by_row=False)[1] == {"0": "10"}


def test_a_file_that_is_moved_in_late_is_as_old_as_its_content(tmp_path: Path) -> None:
    raw = Raw(tmp_path, entity(extract={"path": "orders-{date:%Y-%m-%d}-*.csv"}))
    raw.deliver(NAMES[1], csv_text(["1,a,10"]))
    raw.capture()
    os.utime(raw.deliver(NAMES[0], csv_text(["1,a,9"])), (0, 0))
    raw.capture(DAY)
    latest = max(raw.rows(), key=lambda row: str(row["_delivery_order"]))
    assert latest["amount"] == "10"
