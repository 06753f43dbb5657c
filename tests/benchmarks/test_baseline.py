import csv
from collections import Counter, defaultdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from demo.truth import Version, read_versions

Line = dict[str, str]
Totals = dict[str, tuple[int, int, Decimal]]


@pytest.fixture(scope="module")
def sold(landing: Path) -> list[Line]:
    """Every line of the four days that took no money for no units."""
    lines = [line for path in landing.glob("transactions/*.csv") for line in read(path)]
    return [line for line in lines if int(line["quantity"]) > 0 or not Decimal(line["sales_value"])]


def read(path: Path) -> list[Line]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def as_of(versions: dict[int, list[Version]], member: str, at: str) -> str:
    """Start of the version that a sale must have; an inferred one's where nobody tells of it."""
    then = datetime.fromisoformat(at)
    known = versions.get(int(member), [])
    starts = [
        v.valid_from
        for v in known
        if v.valid_from <= then and (not v.valid_to or then < v.valid_to)
    ]
    return str(starts[0]) if starts else "1900-01-01 00:00:00"


def test_the_baseline_has_every_sale_with_the_versions_of_its_time(
    baseline_session: psycopg.Connection, sold: list[Line], landing: Path
) -> None:
    products = read_versions(landing, "products", "product_id")
    households = read_versions(landing, "households", "household_id")
    found = baseline_session.execute(
        """
        select basket_id, customer_id, dim_customer.valid_from, product_id, dim_product.valid_from,
               store_id, date, transaction_timestamp::text,
               quantity, sales_value, retail_disc, coupon_disc, coupon_match_disc
        from warehouse.fact_sales
        join warehouse.dim_customer using (customer_key)
        join warehouse.dim_product using (product_key)
        join warehouse.dim_location using (location_key)
        join warehouse.dim_date using (date_key)
        """,
    )
    expected = [
        (
            line["basket_id"],
            line["household_id"],
            as_of(households, line["household_id"], line["transaction_timestamp"]),
            line["product_id"],
            as_of(products, line["product_id"], line["transaction_timestamp"]),
            line["store_id"],
            line["transaction_timestamp"][:10],
            line["transaction_timestamp"],
            *(line[name] for name in ("quantity", "sales_value", "retail_disc")),
            *(line[name] for name in ("coupon_disc", "coupon_match_disc")),
        )
        for line in sold
    ]
    assert Counter(tuple(map(str, row)) for row in found) == Counter(expected)
    later = {row[4] for row in expected} - {"1900-01-01 00:00:00"}
    assert later, "no sale has a product that changed before: the files say nothing of history"


def test_the_baselines_dimension_has_the_versions_of_the_files(
    baseline_session: psycopg.Connection, landing: Path
) -> None:
    expected = {
        (str(product), *map(str, (v.valid_from, v.valid_to)), v.attributes["package_size"])
        for product, versions in read_versions(landing, "products", "product_id").items()
        for v in versions
    }
    found = baseline_session.execute(
        """
        select product_id::text, valid_from::text, coalesce(valid_to::text, 'None'),
               coalesce(package_size, '')
        from warehouse.dim_product where manufacturer_id is not null
        """
    ).fetchall()
    assert len(found) == len(expected)
    assert set(found) == expected


def test_the_baselines_customers_are_scored_by_what_they_bought(
    baseline_session: psycopg.Connection, sold: list[Line]
) -> None:
    baskets: defaultdict[str, set[str]] = defaultdict(set)
    money: defaultdict[str, Decimal] = defaultdict(Decimal)
    last: defaultdict[str, str] = defaultdict(str)
    for line in sold:
        customer = line["household_id"]
        baskets[customer].add(line["basket_id"])
        money[customer] += Decimal(line["sales_value"])
        last[customer] = max(last[customer], line["transaction_timestamp"][:10])
    found = baseline_session.execute(
        "select customer_id, last_purchase_date, frequency, monetary from marts.mart_customer_rfm",
    )
    assert {tuple(map(str, row)) for row in found} == {
        (customer, last[customer], str(len(baskets[customer])), str(money[customer]))
        for customer in baskets
    }


def test_the_baselines_marts_add_up_to_its_sales(
    baseline_session: psycopg.Connection, sold: list[Line]
) -> None:
    days, months = Totals(), Totals()
    for line in sold:
        day = line["transaction_timestamp"][:10]
        for totals, period in ((days, day), (months, f"{day[:7]}-01")):
            lines, units, money = totals.get(period, (0, 0, Decimal(0)))
            sales = money + Decimal(line["sales_value"])
            totals[period] = (lines + 1, units + int(line["quantity"]), sales)
    by_day = baseline_session.execute(
        "select date::text, sum(lines), sum(units), sum(sales)"
        " from marts.mart_daily_department group by date"
    )
    by_month = baseline_session.execute(
        "select month::text, sum(lines), sum(units), sum(sales)"
        " from marts.mart_product_month group by month"
    )
    assert [{row[0]: row[1:] for row in rows} for rows in (by_day, by_month)] == [days, months]
