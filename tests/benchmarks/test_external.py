"""The configuration for the external benchmark's files, on a few lines of the same kind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks.external.comparison import configure
from benchmarks.scratch import PROJECT, Scratch, headrace, scratch_folder, start_server

SALE = (
    "household_id,store_id,basket_id,product_id,quantity,sales_value,retail_disc,coupon_disc,"
    "coupon_match_disc,transaction_timestamp"
)
PRODUCT = (
    "product_id,manufacturer_id,department,brand,product_category,product_type,package_size,"
    "updated_at"
)
CUSTOMER = (
    "customer_id,email,phone,street,city,postcode,age,income,home_ownership,marital_status,"
    "household_size,household_comp,kids_count,updated_at"
)
BEGIN = "2017-01-01 00:00:00"


def sale(basket: int, product: int, at: str, *, store: int = 7) -> str:
    return f"1,{store},{basket},{product},1,1.50,0.00,0.00,0.00,{at}"


def product(number: int, size: str, at: str) -> str:
    return f"{number},10,GROCERY,National,BREAD,ROLLS,{size},{at}"


def customer(city: str, at: str) -> str:
    return f"1,a@example.com,+1,1 Oak St,{city},12345,,,,,,,,{at}"


def write(path: Path, header: str, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines, ""]))


@pytest.fixture(scope="module")
def shop() -> Iterator[psycopg.Connection]:
    """Two days, then the one after, in two runs."""
    with scratch_folder() as scratch:
        twice = sale(11, 100, "2017-01-01 12:00:00")
        day = scratch.landing / "transactions/date=2017-01-01/part.csv"
        write(day, SALE, twice, sale(11, 404, "2017-01-01 12:00:00"), twice)
        day = scratch.landing / "transactions/date=2017-01-02/part.csv"
        write(day, SALE, sale(12, 100, "2017-01-02 12:00:00"), sale(12, 200, "2017-01-02 12:00:00"))
        later = product(100, "8 CT", "2017-01-02 09:00:00")
        rows = (product(100, "6 CT", BEGIN), product(200, "1 LB", BEGIN), later)
        write(scratch.landing / "products.csv", PRODUCT, *rows)
        write(scratch.landing / "customers.csv", CUSTOMER, customer("Denby", BEGIN))
        configure(scratch)
        backfill(scratch, "2017-01-01", "2017-01-02")
        day = scratch.landing / "transactions/date=2017-01-03/part.csv"
        write(day, SALE, sale(13, 100, "2017-01-03 12:00:00", store=8))
        moved = customer("Kenton", "2017-01-03 08:00:00")
        write(scratch.landing / "customers_2017-01-03.csv", CUSTOMER, moved)
        backfill(scratch, "2017-01-03", "2017-01-03")
        url = start_server(scratch.home("home")).url
        with psycopg.connect(f"{url}&options=-csearch_path%3Dwarehouse,marts") as session:
            yield session


def backfill(scratch: Scratch, first: str, last: str) -> None:
    environment = scratch.environment(scratch.home("home"))
    command = headrace("backfill", "--from", first, "--to", last, "--json")
    done = subprocess.run(
        command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def rows_of(session: psycopg.Connection, query: Any) -> list[tuple[Any, ...]]:
    return session.execute(query).fetchall()


@pytest.mark.e2e
@pytest.mark.slow
def test_a_sale_has_the_versions_of_its_time_and_counts_once(shop: psycopg.Connection) -> None:
    found = rows_of(
        shop,
        """
        select basket_id, product_id, package_size, city, store_id from fact_sales
        join dim_product using (product_key) join dim_customer using (customer_key)
        join dim_location using (location_key) order by basket_id, product_id
        """,
    )
    assert found == [
        (11, -1, None, "Denby", 7),
        (11, 100, "6 CT", "Denby", 7),
        (12, 100, "8 CT", "Denby", 7),
        (12, 200, "1 LB", "Denby", 7),
        (13, 100, "8 CT", "Kenton", 8),
    ]


@pytest.mark.e2e
@pytest.mark.slow
def test_only_products_have_an_unknown_member(shop: psycopg.Connection) -> None:
    counts = [
        rows_of(shop, f"select count(*), count(*) filter (where {key} = -1) from {table}")[0]
        for table, key in (
            ("dim_customer", "customer_key"),
            ("dim_location", "location_key"),
            ("dim_product", "product_key"),
        )
    ]
    assert counts == [(2, 0), (2, 0), (4, 1)]
    [unknown] = rows_of(
        shop,
        "select product_id, department, valid_from::date from dim_product where product_key = -1",
    )
    assert unknown == (-1, "Unknown", date(1900, 1, 1))


def test_without_a_folder_the_error_names_the_option_and_the_variable() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "HEADRACE_EXTERNAL_BENCHMARK"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.external"],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--bench DIR, or HEADRACE_EXTERNAL_BENCHMARK=DIR" in done.stderr
