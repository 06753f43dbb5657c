"""Reference files: neither name nor rows say a day; a version belongs to when it was written."""

import os
from pathlib import Path

import pytest

from headrace.sources.files.plan import OTHER_DAYS
from tests.raw.building import DAY, FIRST, GOOD, NEXT, Raw, csv_text, entity

DAYS = (FIRST, DAY, NEXT)
WRITTEN = 1_483_347_600  # 2017-01-02 09:00 UTC


@pytest.fixture
def products(tmp_path: Path) -> Raw:
    """A product list that is replaced by a newer one now and then."""
    return Raw(tmp_path, entity(extract={"path": "products.csv"}))


def deliver(raw: Raw, text: str, written: int = WRITTEN) -> None:
    os.utime(raw.deliver("products.csv", text), (written, written))


def test_the_first_version_belongs_to_the_first_day_and_later_ones_to_their_own(
    products: Raw,
) -> None:
    deliver(products, GOOD, WRITTEN - 86_400)
    assert products.capture(*DAYS).rows == {FIRST: 2, DAY: 0, NEXT: 0}
    deliver(products, csv_text(["1,a,11"]))
    assert products.capture(*DAYS).rows == {FIRST: 2, DAY: 0, NEXT: 1}
    assert (products.values("amount", FIRST), products.values("amount", NEXT)) == (
        ["10", "20"],
        ["11"],
    )


def test_a_version_that_is_older_than_the_one_before_takes_its_place(products: Raw) -> None:
    deliver(products, GOOD, WRITTEN - 2 * 86_400)
    products.capture(*DAYS)
    deliver(products, csv_text(["1,a,11"]))
    products.capture(*DAYS)
    # As from a backup: it is what the source has now, so it counts from the last version's day on.
    # On the day on which it says that it was written, the list was another one.
    deliver(products, csv_text(["1,a,12"]), WRITTEN - 86_400)
    window = products.capture(*DAYS)
    assert {day: len(some.files) for day, some in window.staged.items()} == {
        FIRST: 0,
        DAY: 0,
        NEXT: 1,
    }
    held = {day: products.values("amount", day) for day in DAYS}
    assert held == {FIRST: ["10", "20"], DAY: [], NEXT: ["12"]}


def test_a_list_that_was_only_touched_is_no_version(products: Raw) -> None:
    deliver(products, GOOD)
    products.capture(*DAYS)
    deliver(products, GOOD, WRITTEN + 60)
    assert products.capture(*DAYS).rows == {FIRST: 2, DAY: 0, NEXT: 0}
    assert sum(len(files) for files in products.files.values()) == 1


def test_a_run_of_other_days_says_to_which_day_the_file_belongs(products: Raw) -> None:
    deliver(products, GOOD)
    window = products.capture(NEXT)
    assert (window.rows, window.notices) == (
        {NEXT: 0},
        {OTHER_DAYS: (f"products.csv to {FIRST}",)},
    )
    assert window.warnings() == [
        "files belong to days that this run does not capture: products.csv to 2016-12-31"
    ]


def test_each_day_alone_captures_the_same_as_all_at_once(tmp_path: Path) -> None:
    held = []
    for name, windows in (("once", [DAYS]), ("each", [[day] for day in DAYS])):
        (tmp_path / name).mkdir()
        raw = Raw(tmp_path / name, entity(extract={"path": "products.csv"}))
        for text, written in ((GOOD, WRITTEN), (csv_text(["1,a,11"]), WRITTEN + 5)):
            deliver(raw, text, written)
            for window in windows:
                raw.capture(*window)
        held.append({day: raw.values("amount", day) for day in DAYS})
    assert held[0] == held[1] == {FIRST: ["10", "20"], DAY: [], NEXT: ["11"]}
