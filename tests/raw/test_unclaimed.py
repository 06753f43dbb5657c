"""Files that match nothing are named, with the pattern they may have been meant for."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from headrace.config.settings import PartitionSettings
from headrace.errors import NoFilesError
from headrace.sources.files.unclaimed import (
    UnclaimedFile,
    outside_text,
    unclaimed_files,
    unclaimed_text,
)
from headrace.sources.landing.landing_zone import StoredFile
from tests.raw.building import DAY, FILE, GOOD, NEXT, Raw, entity, undated

ORDERS = "orders/orders-{date:%Y-%m-%d}.csv"
ENTITIES = {
    "shop.orders": entity(),
    "shop.stock": entity(extract={"path": "stock/*.csv", "partition_by": "name"}, columns=[
        {"name": "id", "type": "bigint"}, {"name": "name", "type": "date"},
    ]),
}  # fmt: skip


def found(*paths: str, ignore: tuple[str, ...] = ()) -> tuple[UnclaimedFile, ...]:
    written = datetime(2017, 1, 1, tzinfo=UTC)
    return unclaimed_files(ENTITIES, [StoredFile(path, 1, "v", written) for path in paths], ignore)


@pytest.mark.parametrize(
    "path",
    [
        "orders/orders-2017-01-02.CSV",
        "orders/Orders-2017-01-03.csv",
        "orders/orders-2017-1-4.csv",
        "orders/orders-2017-01-05 (1).csv",
        "orders/orders_2017-01-06.csv",
        "orders/orders-20170107.csv",
        "orders/orders-2017-01-08.csv.bak",
        "orders/orders-2017-02-30.csv",
        "order/orders-2017-01-09.csv",
        "orders/2017/orders-2017-01-10.csv",
    ],
)
def test_a_name_that_nearly_matches_is_named_with_the_pattern(path: str) -> None:
    assert found(path) == (UnclaimedFile(path, "shop.orders", ORDERS),)


def test_a_file_that_is_like_no_pattern_is_named_alone() -> None:
    assert found("zebra.parquet") == (UnclaimedFile("zebra.parquet"),)


def test_what_an_entity_claims_or_nobody_has_to_is_not_named() -> None:
    claimed = (FILE, "orders/orders-2017-01-02.csv.gz", "stock/any.csv", "stock/cafe\u0301.csv")
    assert found(*claimed, "a/_SUCCESS", "readme.md", ignore=("*/_SUCCESS", "*.md")) == ()


def test_a_line_names_the_first_of_many() -> None:
    text = unclaimed_text(found(*(f"orders/o{n}.CSV" for n in range(8))))
    assert text.startswith("8 files in the landing zone match no entity: orders/o0.CSV (nearest: ")
    assert text.endswith(" and 3 more")
    assert unclaimed_text(()) == ""


@pytest.mark.parametrize(
    ("end", "named"),
    [
        (date(2017, 1, 11), ["2016-12-31", "2017-01-11", "2071-01-02"]),
        (None, ["2016-12-31", "2071"]),
    ],
)
def test_a_file_of_a_day_that_does_not_exist_is_named(end: date | None, named: list[str]) -> None:
    written = datetime(2017, 1, 1, tzinfo=UTC)
    days = ("2016-12-31", "2017-01-01", "2017-01-10", "2017-01-11", "2071-01-02")
    paths = [f"orders/orders-{day}.csv" for day in days] + ["stock/2071-01-02.csv"]
    listing = [StoredFile(path, 1, "v", written) for path in paths]
    partitions = PartitionSettings(start=date(2017, 1, 1), end=end)
    text = outside_text(ENTITIES, listing, partitions, date(2017, 1, 10))
    assert text.startswith(f"{len(named)} files are of days outside the partitions: orders/")
    assert all(f"orders/orders-{day}" in text for day in named)
    assert outside_text(ENTITIES, listing[1:3], partitions, date(2017, 1, 10)) == ""


def test_a_capture_names_what_lies_beside_its_files(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    raw.deliver("orders/orders-2017-01-02.CSV", GOOD)
    raw.deliver("stock/x.csv", GOOD)
    window = raw.capture(DAY, NEXT, entities=ENTITIES)
    (warning,) = window.remarks
    said = (
        "1 file in the landing zone matches no entity: orders/orders-2017-01-02.CSV (nearest: shop."
    )
    assert warning == f"{said}orders, {ORDERS})"


def test_an_entity_whose_path_matches_nothing_at_all_fails_its_days(raw: Raw) -> None:
    raw.deliver("order/orders-2017-01-01.csv", GOOD)
    window = raw.capture(DAY, NEXT, is_first=True)
    assert list(window.failed) == [DAY, NEXT]
    assert isinstance(window.failed[DAY], NoFilesError)
    assert "order/orders-2017-01-01.csv (nearest: orders" in str(window.failed[DAY])
    # Once there was a file, a day without one is that day's matter.
    assert raw.capture(DAY, NEXT).rows == {DAY: 0, NEXT: 0}


def test_an_entity_with_files_of_other_days_does_not_fail(raw: Raw) -> None:
    raw.deliver(FILE, GOOD)
    assert raw.capture(NEXT, is_first=True).rows == {NEXT: 0}


@pytest.mark.parametrize("dated", [True, False])
def test_an_entity_that_is_optional_may_have_no_file_at_all(tmp_path: Path, *, dated: bool) -> None:
    raw = Raw(tmp_path, entity() if dated else undated())
    assert list(raw.capture(DAY, is_first=True).failed) == [DAY]
    extract = raw.entity.extract.model_copy(update={"optional": True})
    raw.entity = raw.entity.model_copy(update={"extract": extract})
    assert raw.capture(DAY, is_first=True).rows == {DAY: 0}
