"""Partitions of every grain, from undated and dated files to the marts, by the command line."""

from collections.abc import Iterator
from datetime import date

import pytest

from headrace.cli.audit import audit_star
from headrace.config.loader import load_project
from headrace.grain import WHOLE
from headrace.project.connections import ledger_of
from tests.e2e.grain_shop import deliver, deliver_catalogue, every, grain_shop, sales
from tests.e2e.installation import Installation

pytestmark = pytest.mark.e2e

FIRST, LAST = date(2017, 1, 1), date(2017, 3, 31)
END = date(2017, 4, 1)
DAYS = every(FIRST, LAST, 3)
MARCH = [day for day in DAYS if day.month == 3]
PERIODS = {
    "none": [WHOLE],
    "year": [date(2017, 1, 1)],
    "month": [date(2017, month, 1) for month in (1, 2, 3)],
    "week": every(date(2016, 12, 26), LAST, 7),
}


def totals(shop: Installation) -> dict[int, tuple[int, float]]:
    """By month: lines and money of the fact, which the mart by day has to agree with."""
    fact = {
        month: (lines, float(money))
        for month, lines, money in shop.sql(
            "select date_key / 100 % 100, count(*), sum(sales_value)"
            " from warehouse.fact_sales group by 1"
        )
    }
    mart = shop.sql(
        "select extract(month from date)::int, sum(sales)"
        " from marts.mart_daily_department group by 1"
    )
    assert dict(mart) == {month: pytest.approx(money) for month, (_, money) in fact.items()}
    return fact


def partitions(shop: Installation, asset: str) -> list[date | None]:
    with shop.active():
        states = ledger_of(load_project()).states(asset)
    return sorted((day for day, state in states.items() if state.published_at), key=str)


_NIGHTLY = [pytest.param(grain, marks=pytest.mark.slow) for grain in ("year", "week")]


@pytest.fixture(scope="module", params=["none", "month", *_NIGHTLY])
def shop(request: pytest.FixtureRequest) -> Iterator[tuple[Installation, str]]:
    """Three months of sales in one undated file, loaded by one command."""
    with grain_shop(END, request.param) as made:
        deliver_catalogue(made)
        deliver(made, "sales.csv", sales(DAYS))
        result = made.backfill(FIRST, LAST)
        assert (result.exit_code, result.bad, result.skipped) == (0, (), ())
        yield made, request.param


def test_every_table_has_the_partitions_of_its_grain(shop: tuple[Installation, str]) -> None:
    made, grain = shop
    for asset in ("raw/retail_transactions", "processed/retail_transactions", "curated/fact_sales"):
        assert partitions(made, asset) == PERIODS[grain]
    assert partitions(made, "warehouse/fact_sales") == PERIODS[grain]
    assert partitions(made, "marts/mart_daily_department") == PERIODS[grain]
    # What has one version has one partition, however many days there are.
    assert partitions(made, "processed/retail_products") == [FIRST]
    status = made.status()
    assert {name for name, one in status.items() if one.missing or one.stale or one.held} == set()
    assert totals(made) == {1: (22, 33), 2: (18, 27), 3: (20, 30)}
    with made.active():
        assert all(table.is_equal for table in audit_star(quiet=True))


def test_a_correction_changes_its_periods_and_a_run_of_any_day_brings_it_to_the_marts(
    shop: tuple[Installation, str],
) -> None:
    made, grain = shop
    deliver(made, "sales-march.csv", sales(MARCH, sales_value="2.00"))
    first = MARCH[0] if grain == "week" else LAST
    result = made.backfill(first, LAST)
    assert (result.exit_code, result.bad, result.skipped) == (0, (), ())
    assert totals(made) == {1: (22, 33), 2: (18, 27), 3: (20, 40)}
    # Undone: days that vanish from the source go from every layer.
    (made.landing / "sales-march.csv").unlink()
    deliver(made, "sales.csv", sales([day for day in DAYS if day.month < 3]))
    deliver(made, "sales-march.csv", sales(MARCH[:1]))
    assert made.backfill(first, LAST).exit_code == 0
    assert totals(made) == {1: (22, 33), 2: (18, 27), 3: (2, 3)}
    assert {name for name, one in made.status().items() if one.stale} == set()


def test_a_product_list_that_changes_counts_from_its_day_and_facts_follow(
    shop: tuple[Installation, str],
) -> None:
    made, _ = shop
    deliver(
        made,
        "stores.csv",
        ["store_id,store_name,region", "7,Store 7,South"],
    )
    assert made.backfill(LAST, LAST).exit_code == 0
    versions = made.sql(
        "select region, valid_from::date, is_current from warehouse.dim_location"
        " where store_id = 7 order by valid_from"
    )
    # The file was written after all days that exist: it counts from the last of them.
    assert versions == [("North", date(1900, 1, 1), False), ("South", LAST, True)]
    assert partitions(made, "raw/retail_stores") == [FIRST, LAST]
    assert {name for name, one in made.status().items() if one.stale} == set()


def test_an_unchanged_source_costs_no_rebuild() -> None:
    with grain_shop(END, "none") as made:
        deliver_catalogue(made)
        deliver(made, "sales.csv", sales(DAYS))
        assert made.backfill(FIRST, LAST).exit_code == 0
        again = made.backfill(LAST, LAST)
        # The sources are looked at, and the calendar is computed; nothing else runs.
        assert (again.exit_code, again.published) == (0, 5)


def test_files_that_name_a_month_are_partitions_of_months() -> None:
    with grain_shop(END, "month", dated="%Y-%m") as made:
        deliver_catalogue(made)
        for month in (1, 2, 3):
            lines = sales([day for day in DAYS if day.month == month])
            deliver(made, f"sales-2017-{month:02d}.csv", lines)
        # A row of another month is set aside, with its reason.
        stray = sales([date(2017, 3, 2)])[1:]
        lines = sales([day for day in DAYS if day.month == 2])
        deliver(made, "sales-2017-02.csv", [*lines, *stray])
        assert made.backfill(FIRST, LAST).exit_code == 0
        assert totals(made) == {1: (22, 33), 2: (18, 27), 3: (20, 30)}
        reasons = {row["_reasons"] for row in made.lake("quarantine.retail_transactions")}
        assert reasons == {"transaction_timestamp: not on the partition's month"}


def test_a_bad_month_is_named_by_its_month_and_holds_no_other() -> None:
    with grain_shop(END, "month", dated="%Y-%m") as made:
        deliver_catalogue(made)
        for month in (1, 2, 3):
            lines = sales([day for day in DAYS if day.month == month])
            deliver(made, f"sales-2017-{month:02d}.csv", lines if month != 2 else ["a,b", "1,2"])
        result = made.backfill(FIRST, LAST)
        assert result.exit_code == 3
        assert {bad.label for bad in (*result.bad, *result.skipped)} == {"2017-02"}
        assert totals(made) == {1: (22, 33), 3: (20, 30)}


def test_another_grain_over_captured_data_is_refused_with_its_remedy() -> None:
    with grain_shop(END, "month") as made:
        deliver(made, "sales.csv", sales(DAYS))
        assert made.backfill(FIRST, LAST, select="raw/retail_transactions").exit_code == 0
        path = made.config / "sources" / "retail.yaml"
        path.write_text(path.read_text().replace("partition: month", "partition: none"))
        result = made.backfill(FIRST, LAST, select="raw/retail_transactions")
        (bad,) = result.bad
        assert "captured with partition: month" in bad.why
        assert "headrace reset raw/retail_transactions" in bad.why
