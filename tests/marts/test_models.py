"""What the marts hold, by which builds they get there, and what their readers see meanwhile."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql

from headrace.marts.builder import MartBuilder
from headrace.marts.commands import NodeResult
from headrace.marts.dbt_project import DbtProject, profile_of
from headrace.warehouse.sessions import Session
from tests.marts.star import Rows, Sale, Star, expected, moved, random_sales

pytestmark = pytest.mark.e2e

START, END = date(2023, 1, 20), date(2023, 3, 10)
JANUARY, FEBRUARY = date(2023, 1, 31), date(2023, 2, 3)


@pytest.fixture
def sales(star: Star, builder: MartBuilder) -> list[Sale]:
    """Seven weeks of sales, and marts of them."""
    sales = random_sales(seed=7, start=START, end=END, lines=1500)
    star.fill(sales)
    assert_passed(builder.build())
    return sales


def assert_passed(results: Iterable[NodeResult]) -> None:
    assert "\n".join(f"{r.name}: {r.message}" for r in results if not r.passed) == ""


def test_the_marts_hold_what_a_reader_of_every_row_would_find(
    star: Star, sales: list[Sale]
) -> None:
    assert star.marts() == expected(sales)


def test_columns_have_the_declared_names_and_types(session: Session, sales: list[Sale]) -> None:
    assert sales
    found = session.execute(
        """select relname, attname, format_type(atttypid, atttypmod)
        from pg_attribute join pg_class on pg_class.oid = attrelid
        where relnamespace = 'marts'::regnamespace and relname like 'mart%' and relkind = 'r'
            and attnum > 0
        order by relname, attnum"""
    ).fetchall()
    columns = {name: [" ".join(row[1:]) for row in found if row[0] == name] for name, _, _ in found}
    measures = ["lines bigint", "units bigint", "baskets bigint", "sales numeric(14,2)"]
    assert columns == {
        "mart_daily_department": ["date date", "department text", *measures],
        "mart_product_month": [
            "month date",
            "product_id bigint",
            "department text",
            *measures,
            "sales_rank bigint",
        ],
        "mart_customer_rfm": [
            "customer_id bigint",
            "last_purchase_date date",
            "recency_days integer",
            "frequency bigint",
            "monetary numeric(14,2)",
            "r_score integer",
            "f_score integer",
            "m_score integer",
        ],
    }


def test_new_changed_and_emptied_days_end_where_a_full_refresh_would(
    star: Star, builder: MartBuilder, sales: list[Sale]
) -> None:
    later = [
        sale for sale in moved(sales, JANUARY, Decimal("1.50")) if sale.day != FEBRUARY
    ] + random_sales(seed=8, start=END, end=date(2023, 3, 12), lines=100)
    star.sell(later)
    days = [JANUARY, FEBRUARY, END, date(2023, 3, 11)]
    assert_passed(builder.build(days=days))
    by_days = star.marts()
    assert_passed(builder.build(full_refresh=True))
    assert by_days == star.marts() == expected(later)


def test_days_outside_the_window_keep_what_was_published(
    star: Star, builder: MartBuilder, sales: list[Sale]
) -> None:
    star.sell(moved(moved(sales, JANUARY, Decimal(1)), FEBRUARY, Decimal(1)))
    assert_passed(builder.build(["mart_daily_department"], [JANUARY]))
    changed = moved(sales, JANUARY, Decimal(1))
    assert star.mart("mart_daily_department") == expected(changed)["mart_daily_department"]


def test_a_month_is_ranked_anew_when_one_of_its_days_changes(
    star: Star, builder: MartBuilder, sales: list[Sale]
) -> None:
    sold = next(sale for sale in sales if sale.day == FEBRUARY)
    changed = [replace(s, sales=Decimal(5000)) if s == sold else s for s in sales]
    star.sell(changed)
    assert_passed(builder.build(["mart_product_month"], [FEBRUARY]))
    assert star.mart("mart_product_month") == expected(changed)["mart_product_month"]


def test_no_days_change_nothing(star: Star, builder: MartBuilder, sales: list[Sale]) -> None:
    star.sell(moved(sales, JANUARY, Decimal(1)))
    assert_passed(builder.build(["mart_daily_department", "mart_product_month"], []))
    assert star.marts() == expected(sales)


def test_a_table_that_is_not_there_takes_all_history_whatever_the_days(
    star: Star, builder: MartBuilder, sales: list[Sale], session: Session
) -> None:
    session.execute("drop table marts.mart_daily_department")
    assert_passed(builder.build(days=[JANUARY]))
    assert star.marts() == expected(sales)


def test_a_window_can_be_given_by_its_ends(
    star: Star, builder: MartBuilder, sales: list[Sale], url: str
) -> None:
    star.sell(moved(moved(sales, JANUARY, Decimal(1)), FEBRUARY, Decimal(1)))
    project = DbtProject(builder.project_dir, builder.target_path)
    window = f"{{start: '2023-01-31', end: '{FEBRUARY}'}}"
    project.run(
        ["run", "--select", "mart_daily_department", "--vars", window], profile_of(url, "unused")
    )
    changed = moved(sales, JANUARY, Decimal(1))
    assert star.mart("mart_daily_department") == expected(changed)["mart_daily_department"]


def test_a_star_without_sales_has_empty_marts(star: Star, builder: MartBuilder) -> None:
    star.fill([])
    assert_passed(builder.build())
    assert star.marts() == {name: set() for name in star.marts()}


def test_a_reader_sees_a_mart_before_or_after_a_build_and_nothing_between(
    star: Star, builder: MartBuilder, sales: list[Sale], session: Session, url: str
) -> None:
    # The days are deleted, and then nothing is inserted for a while.
    session.execute(
        """create function marts.wait() returns trigger language plpgsql
        as 'begin perform pg_sleep(0.5); return null; end';
        create trigger wait before insert on marts.mart_daily_department
        execute function marts.wait()"""
    )
    before = star.mart("mart_daily_department")
    star.sell(moved(sales, JANUARY, Decimal(1)))
    seen = watched(url, lambda: builder.build(["mart_daily_department"], [JANUARY]))
    after = star.mart("mart_daily_department")
    assert before != after
    assert {frozenset(rows) for rows in seen} == {frozenset(before), frozenset(after)}


def test_a_reader_finds_the_mart_while_it_is_made_anew(
    star: Star, builder: MartBuilder, sales: list[Sale], url: str
) -> None:
    before = star.mart("mart_daily_department")
    star.sell(moved(sales, JANUARY, Decimal(1)))
    seen = watched(url, lambda: builder.build(["mart_daily_department"], full_refresh=True))
    after = star.mart("mart_daily_department")
    assert {frozenset(rows) for rows in seen} == {frozenset(before), frozenset(after)}


def watched(url: str, build: Callable[[], object]) -> list[Rows]:
    """What a reader saw, from before the build's begin until after its end."""
    ended = threading.Event()
    seen: list[Rows] = []

    def read() -> None:
        with psycopg.connect(url, autocommit=True) as reader:
            while True:
                was_ended = ended.is_set()
                query = "select * from marts.mart_daily_department"
                seen.append(set(reader.execute(query).fetchall()))
                if was_ended:
                    return

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        build()
        ended.set()
        reading.result()
    return seen


def test_a_sale_lost_in_a_join_fails_the_marts_it_is_missing_from(
    star: Star, builder: MartBuilder, sales: list[Sale], session: Session
) -> None:
    assert sales
    session.execute("delete from warehouse.dim_product where product_key = 11")
    failed = {r.name: r for r in builder.build() if not r.passed}
    assert {name: (r.status, r.models) for name, r in failed.items()} == {
        "mart_daily_department_adds_up_to_sales": ("fail", ("mart_daily_department",)),
        "mart_product_month_adds_up_to_sales": ("fail", ("mart_product_month",)),
    }
    assert {r.failures for r in failed.values()} == {1}
    assert star.mart("mart_customer_rfm") == expected(sales)["mart_customer_rfm"]


def test_a_member_given_twice_stops_what_is_made_of_its_dimension(
    star: Star, builder: MartBuilder, sales: list[Sale], session: Session
) -> None:
    session.execute(
        "insert into warehouse.dim_customer (customer_key, customer_id) values (101, 2)"
    )
    results = {r.name: r for r in builder.build()}
    assert (results["dim_customer_key"].status, results["dim_customer_key"].failures) == ("fail", 1)
    assert results["int_customer_basket"].status == results["mart_customer_rfm"].status == "skipped"
    assert results["mart_daily_department"].status == "success"
    assert star.marts() == expected(sales)


def test_values_out_of_range_hold_the_mart_which_keeps_its_rows(
    star: Star, builder: MartBuilder, sales: list[Sale], session: Session
) -> None:
    returned = Sale(JANUARY, 999_999, 201, 30, -5000, Decimal(1))
    star.sell([*sales, returned])
    failed = [r for r in builder.build(days=[JANUARY]) if not r.passed]
    assert {r.name for r in failed} == {
        "mart_daily_department_values_in_range",
        "mart_product_month_values_in_range",
    }
    published = expected(sales)
    for name in ("mart_daily_department", "mart_product_month"):
        assert star.mart(name) == published[name]
        # What was refused can be looked at.
        query = sql.SQL("select units from marts_staged.{} where units < 0")
        assert len(session.execute(query.format(sql.Identifier(name))).fetchall()) == 1
