from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from benchmarks.contents import compare, compare_with_year

# Statement, and the table whose difference must be found.
CHANGES: dict[str, tuple[LiteralString, str]] = {
    "a fact leads to another product": (
        """
        update warehouse.fact_sales set product_key = product_key + 1
        where date_key < 20170401 and ctid = '(0,1)'
        """,
        "warehouse.fact_sales",
    ),
    "a fact leads to no product": (
        """
        update warehouse.fact_sales set product_key = 987654321
        where date_key < 20170401 and ctid = '(0,1)'
        """,
        "warehouse.fact_sales",
    ),
    "a fact is there twice": (
        """
        insert into warehouse.fact_sales
        select * from warehouse.fact_sales where date_key = 20170330 limit 1
        """,
        "warehouse.fact_sales",
    ),
    "a day is missing": (
        "delete from warehouse.fact_sales where date_key = 20170401",
        "warehouse.fact_sales",
    ),
    "money moved from one line to another": (
        """
        update warehouse.fact_sales as sales set sales_value = sales_value + moved.money
        from (values ('(0,1)'::tid, 1), ('(0,2)'::tid, -1)) as moved (line, money)
        where sales.ctid = moved.line and sales.date_key < 20170401
        """,
        "warehouse.fact_sales",
    ),
    "an index is missing": (
        "drop index warehouse.fact_sales_customer_key_idx",
        "warehouse.fact_sales",
    ),
    "money is no decimal": (
        "alter table warehouse.fact_sales alter column sales_value type double precision",
        "warehouse.fact_sales",
    ),
    "a member changed": (
        "update warehouse.dim_product set brand = 'None' where product_id = 25671",
        "warehouse.dim_product",
    ),
    "a member is there twice": (
        "insert into warehouse.dim_location select * from warehouse.dim_location limit 1",
        "warehouse.dim_location",
    ),
    "a customer is missing": (
        """
        delete from marts.mart_customer_rfm
        where customer_id = (select max(customer_id) from marts.mart_customer_rfm)
        """,
        "marts.mart_customer_rfm",
    ),
    "a mart is a cent off": (
        "update marts.mart_product_month set sales = sales + 0.01 where sales_rank = 1",
        "marts.mart_product_month",
    ),
    "a table is missing": ("drop table marts.mart_daily_department", "marts.mart_daily_department"),
}


def test_keys_may_differ_where_they_lead_to_the_same(
    baseline_session: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    for table, key in (
        ("dim_product", "product_key"),
        ("fact_sales", "product_key"),
        ("dim_customer", "customer_key"),
        ("fact_sales", "customer_key"),
    ):
        renumber = sql.SQL("update {} set {key} = -7 - 3 * {key}")
        warehouse.execute(
            renumber.format(sql.Identifier("warehouse", table), key=sql.Identifier(key))
        )
    warehouse.execute("alter table warehouse.dim_product add column _more text")
    assert compare(baseline_session, warehouse) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_difference_is_found(
    baseline_session: psycopg.Connection, warehouse: psycopg.Connection, change: str
) -> None:
    statement, table = CHANGES[change]
    warehouse.execute(statement)
    assert {found.table for found in compare(baseline_session, warehouse)} == {table}


def test_what_both_got_wrong_is_found_by_the_years_totals(warehouse: psycopg.Connection) -> None:
    warehouse.execute(
        """
        create schema platform;
        create table platform.partition_ledger (
            asset text, published_rows bigint, rows_quarantined bigint
        );
        insert into platform.partition_ledger values
        ('raw/retail_transactions', 1469307, 0), ('processed/retail_transactions', 1469278, 29)
        """
    )
    wrong = [found.what.split(" ")[0] for found in compare_with_year(warehouse)]
    assert wrong == ["facts", "net_sales"]
