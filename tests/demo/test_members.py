"""What changes about made-up products and households, and who leaves: on small tables."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pytest

from demo.members import households_of_the_year, products_of_the_year

FIRST, END = date(2017, 1, 1), date(2018, 1, 1)
NIGHT = time(3)
SIZES = ("12 OZ", "1 CT", "40 LB", "83718713", None, "BULK")
HOUSEHOLD = {
    "income": "50-74K",
    "home_ownership": "Renter",
    "marital_status": None,
    "household_size": "2",
}
Row = dict[str, Any]
Files = list[tuple[date, list[Row]]]
# Members who buy on day 9 and then after so many days; but those of the second on day 60, so that
# from one member's last sale to the next one's first there are days, too.
PAUSES = (5, 27, 28, 90, 91, 200)
BEGINS = (9, 60, 9, 9, 9, 9)


def lines(key: str, count: int) -> pa.Table:
    """Sales of all members on two days; a pause of each length is some member's."""
    ids = range(1, count + 1)
    sold = [
        FIRST + timedelta(days=BEGINS[n % len(PAUSES)] + days)
        for n in ids
        for days in (0, PAUSES[n % len(PAUSES)])
    ]
    return pa.table(
        {
            key: [n for n in ids for _ in range(2)],
            "transaction_timestamp": pa.array(
                [datetime.combine(day, time(12)) for day in sold], pa.timestamp("s")
            ),
        }
    )


def rows(files: Iterator[tuple[date, pa.Table]]) -> Files:
    return [(day, table.to_pylist()) for day, table in files]


@pytest.fixture(scope="module")
def products() -> Files:
    count = 12_000
    table = pa.table(
        {
            "product_id": range(1, count + 1),
            "department": ["GROCERY"] * count,
            "brand": ["National", "Private"] * (count // 2),
            "package_size": [SIZES[n // 2 % len(SIZES)] for n in range(count)],
        }
    )
    return rows(products_of_the_year(table, lines("product_id", count), FIRST, END))


@pytest.fixture(scope="module")
def households() -> Files:
    count = 6_000
    table = pa.table(
        {
            "household_id": [*range(1, count + 1)],
            **{k: pa.array([v] * count, pa.string()) for k, v in HOUSEHOLD.items()},
        }
    )
    return rows(households_of_the_year(table, lines("household_id", count), FIRST, END))


def steps(files: Files, key: str) -> Iterator[tuple[Row, Row]]:
    """What is told of each change in opening hours: the state before and, as last told, after."""
    (_, first), *later = files
    states = {row[key]: row for row in first}
    told: dict[int, dict[datetime, Row]] = defaultdict(dict)
    for row in (row for _, some in later for row in some):
        if row["changed_at"].time() != NIGHT:
            told[row[key]][row["changed_at"]] = row
    for member, changes in told.items():
        before = states[member]
        for _, after in sorted(changes.items()):
            yield before, after
            before = after


def changed(before: Row, after: Row) -> set[str]:
    return {name for name in before if before[name] != after[name]} - {"operation", "changed_at"}


def test_a_product_changes_its_brand_or_its_size(products: Files) -> None:
    found = Counter(
        (*changed(before, after), *((after["brand"],) if before["brand"] != after["brand"] else ()))
        for before, after in steps(products, "product_id")
    )
    assert {*found} == {("package_size",), ("brand", "Private"), ("brand", "National")}
    assert found["package_size",] / found.total() == pytest.approx(0.8, abs=0.06)


def test_a_package_stays_about_as_large_and_in_its_unit(products: Files) -> None:
    found = defaultdict(set)
    for before, after in steps(products, "product_id"):
        if before["operation"] == "I" and changed(before, after) == {"package_size"}:
            found[before["package_size"]].add(after["package_size"])
    assert found["12 OZ"] == {f"{n} OZ" for n in (9, 10, 11, 13, 14, 15, 16)}
    assert found["1 CT"] == {"2 CT"}
    assert {size.split()[1] for size in found["40 LB"]} == {"LB"}
    assert {30 <= int(size.split()[0]) <= 51 for size in found["40 LB"]} == {True}
    for without_unit in (None, "BULK"):
        assert {size.split()[1] for size in found[without_unit]} == {"OZ", "LB", "CT", "ML"}
        assert {int(size.split()[0]) for size in found[without_unit]} == {*range(9, 17)}


def test_any_of_four_things_changes_about_a_household(households: Files) -> None:
    found = defaultdict(set)
    for before, after in steps(households, "household_id"):
        (name,) = changed(before, after)
        found[name].add(after[name])
    assert found.keys() == HOUSEHOLD.keys()
    assert found["home_ownership"] == {"Homeowner", "Renter"}
    assert found["marital_status"] == {"Married", "Unmarried"}
    assert found["household_size"] >= {"1", "3", "4", "5+"}
    assert len(found["income"]) > 8


@pytest.mark.parametrize(("kind", "count"), [("product", 24), ("household", 8)])
def test_who_leaves_is_one_whose_sales_pause_for_one_to_three_months(
    kind: str, count: int, request: pytest.FixtureRequest
) -> None:
    files, key = request.getfixturevalue(f"{kind}s"), f"{kind}_id"
    later = [row for _, some in files[1:] for row in some]
    left = {row[key]: row["changed_at"] for row in later if row["operation"] == "D"}
    assert len(left) == count
    assert {PAUSES[member % len(PAUSES)] for member in left} == {28, 90}
    assert max(left) > 100, "not only the first"
    back = {row[key]: row["changed_at"] for row in later if row["operation"] == "I"}
    for member, gone in left.items():
        sold = datetime.combine(FIRST, NIGHT) + timedelta(days=9)
        again = sold + timedelta(days=PAUSES[member % len(PAUSES)])
        assert (gone, back[member]) == (sold + timedelta(days=1), again - timedelta(days=1))


@pytest.mark.parametrize(
    ("kind", "members", "share"), [("product", 12_000, 0.0005), ("household", 6_000, 0.01)]
)
def test_the_first_file_has_all_but_the_new_ones(
    kind: str, members: int, share: float, request: pytest.FixtureRequest
) -> None:
    (day, first), *later = request.getfixturevalue(f"{kind}s")
    assert day == FIRST
    assert {(row["operation"], row["changed_at"]) for row in first} == {
        ("I", datetime.combine(FIRST, time()))
    }
    known = {row[f"{kind}_id"] for row in first}
    told = {row[f"{kind}_id"] for _, some in later for row in some}
    assert len(first) == len(known)
    assert known | told == {*range(1, members + 1)}
    assert len(told - known) / members == pytest.approx(share, rel=0.6)
    assert [day for day, _ in later] == sorted({day for day, _ in later})
    assert FIRST < later[0][0] <= later[-1][0] < END
