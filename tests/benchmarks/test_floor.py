import csv
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

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


def test_the_floor_has_every_sale_with_the_members_it_names(
    floor_session: psycopg.Connection, sold: list[Line], landing: Path
) -> None:
    known = {line["product_id"] for line in read(landing / "products/products-2017-01-01.csv")}
    found = floor_session.execute(
        """
        select basket_id, customer_id, product_id, store_id, date, transaction_timestamp::text,
               quantity, sales_value, retail_disc, coupon_disc, coupon_match_disc
        from warehouse.fact_sales
        join warehouse.dim_customer using (customer_key)
        join warehouse.dim_product using (product_key)
        join warehouse.dim_location using (location_key)
        join warehouse.dim_date using (date_key)
        """,
    )
    expected = (
        (
            line["basket_id"],
            line["household_id"],
            line["product_id"] if line["product_id"] in known else "-1",
            line["store_id"],
            line["transaction_timestamp"][:10],
            line["transaction_timestamp"],
            *(line[name] for name in ("quantity", "sales_value", "retail_disc")),
            *(line[name] for name in ("coupon_disc", "coupon_match_disc")),
        )
        for line in sold
    )
    assert Counter(tuple(map(str, row)) for row in found) == Counter(expected)


def test_the_floors_customers_are_scored_by_what_they_bought(
    floor_session: psycopg.Connection, sold: list[Line]
) -> None:
    baskets: defaultdict[str, set[str]] = defaultdict(set)
    money: defaultdict[str, Decimal] = defaultdict(Decimal)
    last: defaultdict[str, str] = defaultdict(str)
    for line in sold:
        customer = line["household_id"]
        baskets[customer].add(line["basket_id"])
        money[customer] += Decimal(line["sales_value"])
        last[customer] = max(last[customer], line["transaction_timestamp"][:10])
    found = floor_session.execute(
        "select customer_id, last_purchase_date, frequency, monetary from marts.mart_customer_rfm",
    )
    assert {tuple(map(str, row)) for row in found} == {
        (customer, last[customer], str(len(baskets[customer])), str(money[customer]))
        for customer in baskets
    }


def test_the_floors_marts_add_up_to_its_sales(
    floor_session: psycopg.Connection, sold: list[Line]
) -> None:
    days, months = Totals(), Totals()
    for line in sold:
        day = line["transaction_timestamp"][:10]
        for totals, period in ((days, day), (months, f"{day[:7]}-01")):
            lines, units, money = totals.get(period, (0, 0, Decimal(0)))
            sales = money + Decimal(line["sales_value"])
            totals[period] = (lines + 1, units + int(line["quantity"]), sales)
    by_day = floor_session.execute(
        "select date::text, sum(lines), sum(units), sum(sales)"
        " from marts.mart_daily_department group by date"
    )
    by_month = floor_session.execute(
        "select month::text, sum(lines), sum(units), sum(sales)"
        " from marts.mart_product_month group by month"
    )
    assert [{row[0]: row[1:] for row in rows} for rows in (by_day, by_month)] == [days, months]
