"""One code path for 1, N, an empty day, a gap and a rerun: the tables are equal."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e import installation
from tests.e2e.contents import contents
from tests.e2e.installation import FIRST, Installation, good_lines, line

pytestmark = pytest.mark.e2e

EMPTY = FIRST + timedelta(days=2)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]


def deliver(shop: Installation) -> None:
    shop.deliver_catalogue()
    for day in DAYS:
        if day != EMPTY:
            bad = line(day, 5, quantity=0, sales="2.00")
            shop.deliver(day, [*good_lines(day), line(day, 77, product=404), bad])


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    with _shop() as made:
        assert made.backfill(DAYS[0], DAYS[-1]).exit_code == 0
        yield made


@pytest.fixture(scope="module")
def in_one_run(shop: Installation) -> dict[str, list[str]]:
    return contents(shop)


@contextmanager
def _shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-e2e-"))
    root.chmod(0o755)
    made = installation.make(root, end=DAYS[-1] + timedelta(days=1))
    deliver(made)
    try:
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


def test_the_range_holds_what_the_files_hold(in_one_run: dict[str, list[str]]) -> None:
    assert len(in_one_run["raw.retail_transactions"]) == 6 * 3
    assert len(in_one_run["select * from warehouse.fact_sales"]) == 5 * 3
    assert len(in_one_run["quarantine.retail_transactions"]) == 3


@pytest.mark.parametrize(
    ("entity", "has_dictionaries"), [("transactions", False), ("products", True)]
)
def test_small_days_are_written_without_zstd_and_numbers_without_dictionaries(
    shop: Installation, entity: str, *, has_dictionaries: bool
) -> None:
    folder = shop.home / f"lake/processed/retail_{entity}"
    chunks = [
        group.column(n)
        for footer in map(pq.read_metadata, folder.rglob("*.parquet"))
        for group in [footer.row_group(0)]
        for n in range(group.num_columns)
    ]
    assert {chunk.compression for chunk in chunks} == {"SNAPPY"}
    assert any("RLE_DICTIONARY" in chunk.encodings for chunk in chunks) == has_dictionaries


@pytest.mark.parametrize(
    "windows",
    [
        pytest.param([(day, day) for day in DAYS], id="day by day", marks=pytest.mark.slow),
        # Dimensions come with the first day, and have to be there.
        pytest.param(
            [(DAYS[0], DAYS[0]), (DAYS[2], DAYS[3]), (DAYS[0], DAYS[1])],
            id="a gap filled later and a rerun",
        ),
    ],
)
def test_other_windows_give_the_same_tables(
    in_one_run: dict[str, list[str]], windows: list[tuple[date, date]]
) -> None:
    with _shop() as shop:
        for start, end in windows:
            assert shop.backfill(start, end).exit_code == 0
        found = contents(shop)
    for table, rows in in_one_run.items():
        assert found[table] == rows, table
