"""Every kind of bad delivery, one a day, in one run: the good days publish all the same."""

import os
from datetime import timedelta
from decimal import Decimal

import pytest

from headrace.cli.backfill import BackfillResult
from headrace.cli.status import read_errors, read_unclaimed
from tests.e2e.installation import FIRST, HEADER, Installation, good_lines, line

pytestmark = pytest.mark.e2e

CASES = (
    "good",
    "too_few_fields",
    "too_many_fields",
    "no_number",
    "no_date",
    "missing_column",
    "extra_column",
    "empty_file",
    "header_only",
    "wrong_encoding",
    "gzip",
    "truncated_gzip",
    "row_of_another_day",
    "delivered_twice",
    "repeated_key",
    "mostly_bad",
    "a_pipe",
    "no_file",
    "after",
)
DAY = {name: FIRST + timedelta(days=n) for n, name in enumerate(CASES)}
# Quarantined rows and the reason they give.
QUARANTINED = {
    "too_few_fields": "fields",
    "too_many_fields": "fields",
    "no_number": "sales_value: not a decimal(12,2)",
    "no_date": "transaction_timestamp: not a timestamp",
    "row_of_another_day": "transaction_timestamp: not on the partition's day",
}
# Days that fail, and what their error names.
FAILED = {
    "missing_column": ("transactions-", "coupon_disc"),
    "extra_column": ("transactions-", "loyalty"),
    "empty_file": ("transactions-", "header"),
    "wrong_encoding": ("transactions-", "line 3", "encoding"),
    "truncated_gzip": ("transactions-", ".csv.gz"),
    "a_pipe": ("transactions-", "is no file but a pipe"),
    "mostly_bad": (
        "quarantined_share",
        "75.00%",
        "most are quarantined because 'sales_value: not a decimal(12,2)' (3 rows)",
    ),
}
GOOD_ROWS = dict.fromkeys(CASES, 4) | {
    **dict.fromkeys(FAILED, 0),
    "header_only": 0,
    "no_file": 0,
}


@pytest.fixture(scope="module")
def run(long_shop: Installation) -> BackfillResult:
    deliver(long_shop)
    return long_shop.backfill(DAY["good"], DAY["after"])


def deliver(shop: Installation) -> None:
    shop.deliver_catalogue()
    for name in ("good", "after"):
        shop.deliver(DAY[name], good_lines(DAY[name]))

    def with_line(name: str, bad: str) -> None:
        good = good_lines(DAY[name])
        shop.deliver(DAY[name], [good[0], bad, *good[1:]])

    with_line("too_few_fields", "1,7,99,1,1,1.50")
    with_line("too_many_fields", line(DAY["too_many_fields"], 99) + ",surplus")
    with_line("no_number", line(DAY["no_number"], 99, sales="1,50".replace(",", "x")))
    with_line("no_date", line(DAY["no_date"], 99, transaction_timestamp="2017-02-30 10:00:00"))
    with_line(
        "row_of_another_day",
        line(DAY["row_of_another_day"], 99, transaction_timestamp="2017-03-01 10:00:00"),
    )
    day = DAY["missing_column"]
    text = (
        "\n".join([HEADER, *good_lines(day)])
        .replace("coupon_disc,", "")
        .replace("0.00,0.00,0.00", "0.00,0.00")
    )
    shop.deliver_bytes(day, text.encode())
    day = DAY["extra_column"]
    rows = [f"{HEADER},loyalty", *(f"{row},5" for row in good_lines(day))]
    shop.deliver_bytes(day, "\n".join(rows).encode())
    shop.deliver_bytes(DAY["empty_file"], b"")
    shop.deliver(DAY["header_only"], [])
    day = DAY["wrong_encoding"]
    latin = "\n".join([HEADER, good_lines(day)[0], line(day, 99, sales="5 \u20ac"), ""])
    shop.deliver_bytes(day, latin.encode("cp1252"))
    shop.deliver_gzip(DAY["gzip"], good_lines(DAY["gzip"]))
    shop.deliver_gzip(DAY["truncated_gzip"], good_lines(DAY["truncated_gzip"]), cut=12)
    day = DAY["delivered_twice"]
    shop.deliver(day, good_lines(day))
    shop.deliver(day, good_lines(day), name=f"transactions-{day}.csv.gz".removesuffix(".gz"))
    day = DAY["repeated_key"]
    shop.deliver(day, [*good_lines(day), good_lines(day)[0].replace("1.50", "9.99")])
    day = DAY["mostly_bad"]
    shop.deliver(day, [good_lines(day)[0], *(line(day, n, sales="x") for n in range(3))])
    os.mkfifo(shop.landing / f"transactions/transactions-{DAY['a_pipe']}.csv")
    shop.deliver(day, good_lines(day), name=f"Transactions-{day}.CSV")
    rest = f"6 CT,I,{DAY['after']} 08:00:00"
    products = [f"{n},10,GROCERY,National,BREAD,ROLLS,{rest}" for n in range(101, 140)]
    _deliver_products(shop, [f"100,10,GROCERY,National,BREAD,RO\0LLS,{rest}", *products])


def _deliver_products(shop: Installation, lines: list[str]) -> None:
    header = (
        "product_id,manufacturer_id,department,brand,product_category,product_type,package_size,"
        "operation,changed_at"
    )
    path = shop.landing / f"products/products-{DAY['after']}.csv"
    path.write_text("\n".join([header, *lines, ""]))


def test_the_run_ends_red_and_names_the_bad_days(run: BackfillResult) -> None:
    assert run.exit_code == 3
    named = {bad.partition for bad in run.bad}
    assert named == {DAY[name] for name in FAILED}


@pytest.mark.parametrize("case", FAILED)
def test_a_file_that_cannot_be_read_fails_its_day_by_name(run: BackfillResult, case: str) -> None:
    [bad] = [bad for bad in run.bad if bad.partition == DAY[case]]
    for part in FAILED[case]:
        assert part in bad.why, bad.why


@pytest.mark.parametrize("case", CASES)
def test_each_day_publishes_its_good_rows(
    run: BackfillResult, long_shop: Installation, case: str
) -> None:
    key = int(f"{DAY[case]:%Y%m%d}")
    query = "select count(*) from warehouse.fact_sales where date_key = "
    assert long_shop.sql(f"{query}{key}") == [(GOOD_ROWS[case],)]


@pytest.mark.parametrize("case", QUARANTINED)
def test_a_bad_row_is_set_aside_with_its_reason(
    run: BackfillResult, long_shop: Installation, case: str
) -> None:
    rows = [
        row
        for row in long_shop.lake("quarantine.retail_transactions")
        if row["_partition_date"] == DAY[case]
    ]
    assert len(rows) == 1
    assert QUARANTINED[case] in rows[0]["_reasons"]
    assert rows[0]["_source_position"] == 3


def test_text_that_postgres_cannot_store_is_set_aside_and_stops_no_load(
    run: BackfillResult, long_shop: Installation
) -> None:
    found = long_shop.lake("quarantine.retail_products")
    assert [(row["_source_position"], row["_reasons"]) for row in found] == [(2, "a NUL character")]
    query = "select count(*) from warehouse.dim_product where product_id between 100 and 139"
    assert long_shop.sql(query) == [(39,)]


def test_a_file_that_no_entity_claims_is_named_with_the_nearest_pattern(
    run: BackfillResult, long_shop: Installation
) -> None:
    with long_shop.active():
        said = read_unclaimed()
    assert said.startswith(
        "1 file in the landing zone matches no entity: transactions/Transactions-2"
    )
    assert "nearest: retail.transactions, transactions/transactions-{date:%Y-%m-%d}.csv" in said


def test_good_days_reach_the_marts_past_the_bad_ones(
    run: BackfillResult, long_shop: Installation
) -> None:
    found = {
        row[0] for row in long_shop.sql("select distinct date from marts.mart_daily_department")
    }
    assert found == {DAY[name] for name, rows in GOOD_ROWS.items() if rows}


def test_of_repeated_keys_the_later_line_counts(
    run: BackfillResult, long_shop: Installation
) -> None:
    key = int(f"{DAY['repeated_key']:%Y%m%d}")
    [(total,)] = long_shop.sql(
        f"select sum(sales_value) from warehouse.fact_sales where date_key = {key}"
    )
    assert total == Decimal("9.99") + 3 * Decimal("1.50")


def test_a_day_without_rows_is_published_as_empty(
    run: BackfillResult, long_shop: Installation
) -> None:
    states = dict(
        long_shop.sql(
            "select partition, status from platform.partition_ledger "
            "where asset = 'warehouse/fact_sales'"
        )
    )
    assert states[DAY["no_file"]] == states[DAY["header_only"]] == "published"


@pytest.mark.parametrize(
    "table",
    ["dim_product", "dim_date", "mart_daily_department"],
)
def test_status_counts_the_rows_that_readers_see(
    run: BackfillResult, long_shop: Installation, table: str
) -> None:
    layer = "marts" if table.startswith("mart") else "warehouse"
    [(rows,)] = long_shop.sql(f"select count(*) from {layer}.{table}")
    status = long_shop.status()
    assert status[f"{layer}/{table}"].rows == rows
    if table.startswith("dim"):
        assert status[f"curated/{table}"].rows == rows


def test_every_bad_day_can_be_read_in_full(run: BackfillResult, long_shop: Installation) -> None:
    with long_shop.active():
        assert [*run.bad] == read_errors()


def test_a_corrected_file_repairs_its_day_and_no_other(
    long_shop: Installation, run: BackfillResult
) -> None:
    day = DAY["missing_column"]
    long_shop.deliver(day, good_lines(day, 2))
    before = long_shop.sql("select * from warehouse.fact_sales order by basket_id")
    repaired = long_shop.backfill(day, day)
    assert repaired.exit_code == 0
    key = int(f"{day:%Y%m%d}")
    after = long_shop.sql("select * from warehouse.fact_sales order by basket_id")
    rows = f"select * from warehouse.fact_sales where date_key = {key} order by basket_id"
    new = long_shop.sql(rows)
    assert len(new) == 2
    assert [row for row in after if row not in new] == before


def test_a_day_that_breaks_keeps_what_it_published(
    long_shop: Installation, run: BackfillResult
) -> None:
    day = DAY["good"]
    key = int(f"{day:%Y%m%d}")
    rows = f"select * from warehouse.fact_sales where date_key = {key} order by basket_id"
    before = long_shop.sql(rows)
    long_shop.deliver_bytes(day, b"")
    assert long_shop.backfill(day, day).exit_code == 3
    assert long_shop.sql(rows) == before
    long_shop.deliver(day, good_lines(day, 3))
    assert long_shop.backfill(day, day).exit_code == 0
    assert len(long_shop.sql(rows)) == 3
