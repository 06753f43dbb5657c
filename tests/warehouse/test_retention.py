"""Old months go without stopping readers or loads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date

import psycopg
import pytest

from headrace.errors import CommitConflictError
from headrace.warehouse.ddl.partitions import drop_months, first_retained_month
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Reference
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, day, load, load_all, published, rows_of, sales

DAYS = {day(0): sales(day(0), 3), day(5): sales(day(5), 2), day(40): sales(day(40), 1)}
KEPT = {day(40): DAYS[day(40)]}
MARCH = date(2017, 3, 1)
POINTING = replace(FACT, references=(Reference("product_key", "dim_product", "product_key"),))


def months(session: Session) -> list[str]:
    found = session.execute(
        "select relname::text from pg_class where relname ~ '^fact_sales__[0-9_]+$'"
        " and relkind = 'r' order by 1"
    )
    return [name for (name,) in found]


@pytest.mark.parametrize(
    ("keep", "today", "first"),
    [
        (1, date(2017, 3, 31), date(2017, 3, 1)),
        (3, date(2017, 2, 1), date(2016, 12, 1)),
        (12, date(2017, 12, 5), date(2017, 1, 1)),
        (13, date(2017, 12, 5), date(2016, 12, 1)),
        (None, date(2017, 12, 5), date.min),
    ],
)
def test_the_current_month_counts_among_those_that_are_kept(
    keep: int | None, today: date, first: date
) -> None:
    assert first_retained_month(keep, today) == first


def test_months_before_the_first_kept_one_are_dropped(
    warehouse: Warehouse, session: Session
) -> None:
    load_all(warehouse, [])
    load(warehouse, DAYS, POINTING)
    dropped = [date(2017, 1, 1), date(2017, 2, 1)]
    assert drop_months(warehouse.connect, FACT, MARCH) == dropped
    assert published(session) == rows_of(KEPT)
    assert months(session) == ["fact_sales__2017_03"]
    assert drop_months(warehouse.connect, FACT, MARCH) == []
    # A day of a dropped month can be loaded again.
    load(warehouse, {day(0): DAYS[day(0)]}, POINTING)
    assert published(session) == rows_of({day(0): DAYS[day(0)], **KEPT})


def test_a_query_in_the_way_is_not_cut_off_and_the_next_call_goes_on(
    url: str, warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, DAYS)
    with psycopg.connect(url) as reader:
        reader.execute("set transaction isolation level repeatable read")
        assert published(reader) == rows_of(DAYS)
        with pytest.raises(CommitConflictError, match="dropping months"):
            drop_months(warehouse.connect, FACT, MARCH)
        assert published(reader) == rows_of(DAYS)
    assert drop_months(warehouse.connect, FACT, MARCH) == [date(2017, 1, 1), date(2017, 2, 1)]
    assert months(session) == ["fact_sales__2017_03"]


def test_a_month_that_was_detached_and_not_dropped_goes_too(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, DAYS)
    session.execute(
        "alter table warehouse.fact_sales detach partition warehouse.fact_sales__2017_01"
    )
    assert date(2017, 1, 1) in drop_months(warehouse.connect, FACT, MARCH)
    assert months(session) == ["fact_sales__2017_03"]


def test_loads_and_drops_at_the_same_time_lose_nothing_that_is_kept(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, DAYS)
    with ThreadPoolExecutor(2) as pool:
        dropped = [pool.submit(drop_months, warehouse.connect, FACT, MARCH) for _ in range(2)]
        for number in range(40, 46):
            load(warehouse, {day(number): sales(day(number), number)})
        for future in dropped:
            future.result()
    expected = {day(n): sales(day(n), n) for n in range(40, 46)}
    assert published(session) == rows_of(expected)
