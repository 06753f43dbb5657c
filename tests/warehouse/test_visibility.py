"""What readers see while loads are published: the state before or the state after."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from headrace.errors import CommitConflictError, PermanentError
from headrace.warehouse.sessions import Session
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import (
    FACT,
    PRODUCT,
    Row,
    arrow,
    day,
    load,
    load_all,
    published,
    rows_of,
    sale,
    sales,
    stage,
    staging_tables,
)

COUNTS = """
select
    (select count(*) from warehouse.fact_sales where date_key < 20170201),
    (select count(*) from warehouse.fact_sales where date_key >= 20170201),
    (select count(*) from warehouse.dim_product)
"""


@contextmanager
def polling(url: str, query: str) -> Iterator[set[tuple[object, ...]]]:
    """Collects every answer to `query` that two readers get meanwhile."""
    seen: set[tuple[object, ...]] = set()
    stop = threading.Event()

    def poll() -> None:
        with psycopg.connect(url, autocommit=True) as session:
            while not stop.is_set():
                seen.update(session.execute(query).fetchall())

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(poll) for _ in range(2)]
        try:
            yield seen
        finally:
            stop.set()
            for reader in readers:
                reader.result()


def products(count: int) -> list[Row]:
    return [{"product_key": n, "brand": "a"} for n in range(count)]


def test_readers_see_two_tables_change_together(url: str, warehouse: Warehouse) -> None:
    load(warehouse, {day(0): sales(day(0), 10)})
    load_all(warehouse, products(1))
    expected = {(10, 0, 1)}
    with polling(url, COUNTS) as seen:
        for number in range(1, 8):
            fact = stage(
                warehouse,
                # One month that exists, one that is attached the first time.
                {day(0): sales(day(0), 10 + number), day(4): sales(day(4), number)},
            )
            slices = [((), arrow(PRODUCT, products(1 + number)).to_reader())]
            warehouse.publish([fact, warehouse.stage(PRODUCT, (), slices)])
            expected.add((10 + number, number, 1 + number))
    assert seen <= expected
    assert len(seen) > 1, "the readers never saw a change"


def test_a_new_month_is_not_missed_by_a_query_that_is_being_planned(
    url: str, warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    load_all(warehouse, products(1))
    # Postgres asks a stable function for its value when it estimates, after it chose the months.
    session.execute(
        """
        create function slow() returns bigint stable language plpgsql as $$
        begin
            if current_setting('t.at', true) is distinct from statement_timestamp()::text then
                perform pg_sleep(0.05), set_config('t.at', statement_timestamp()::text, false);
            end if;
            return 0;
        end $$
        """
    )
    query = """
        select
            (select count(*) from warehouse.fact_sales where product_key > slow()),
            (select count(*) from warehouse.dim_product)
    """
    with polling(url, query) as seen:
        for number in range(2, 8):
            on = day(31 * number)
            slices = [((), arrow(PRODUCT, products(number)).to_reader())]
            loads = [stage(warehouse, {on: [sale(on, 1)]}), warehouse.stage(PRODUCT, (), slices)]
            warehouse.publish(loads)
    assert seen <= {(number, number) for number in range(1, 8)}
    assert len(seen) > 1, "the readers never saw a change"


def test_a_query_that_is_still_open_neither_waits_nor_is_waited_for(
    url: str, warehouse: Warehouse, session: Session
) -> None:
    before = {day(0): sales(day(0), 4)}
    load(warehouse, before)
    new = {day(0): sales(day(0), 2), day(40): sales(day(40), 3), day(70): sales(day(70), 1)}
    with psycopg.connect(url) as reader:
        reader.execute("set transaction isolation level repeatable read")
        assert published(reader) == rows_of(before)
        began = time.monotonic()
        load(warehouse, new)
        assert time.monotonic() - began < 5
        assert published(reader) == rows_of(before)
    assert published(session) == rows_of(new)
    names = "select indexrelid::regclass::text from pg_index where indrelid = %s::regclass"
    assert len(session.execute(names, ("warehouse.fact_sales__2017_03",)).fetchall()) == 2


def test_what_is_written_before_the_commit_comes_and_goes_with_the_load(
    warehouse: Warehouse, session: Session
) -> None:
    session.execute("create table note (text text)")

    def write(inner: Session, _: object) -> None:
        inner.execute("insert into note values ('kept')")

    def fail(inner: Session, _: object) -> None:
        inner.execute("insert into note values ('lost')")
        raise LookupError

    days = {day(0): sales(day(0), 2)}
    warehouse.publish([stage(warehouse, days)], before_commit=write)
    for wanted in (day(0), day(40)):
        for rows in ([], [sale(wanted, 9)]):
            staged = stage(warehouse, {wanted: rows})
            with pytest.raises(LookupError):
                warehouse.publish([staged], before_commit=fail)
    assert session.execute("select * from note").fetchall() == [("kept",)]
    assert published(session) == rows_of(days)
    assert staging_tables(session) == []


def test_loads_of_different_days_of_a_new_table_lose_none(
    warehouse: Warehouse, session: Session
) -> None:
    # Nobody has made the table or its months yet: the loads also race for that.
    days = {day(n): sales(day(n), 3) for n in range(8)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda on: load(warehouse, {on: days[on]}), days))
    assert published(session) == rows_of(days)


def test_of_two_loads_of_the_same_days_one_wins_whole(
    warehouse: Warehouse, session: Session
) -> None:
    loads = [
        stage(warehouse, {day(n): sales(day(n), 5, amount) for n in range(4)})
        for amount in ("1.00", "2.00")
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda staged: warehouse.publish([staged]), loads))
    assert len({amount for _, _, amount in published(session)}) == 1
    assert len(published(session)) == 20


def test_loads_of_two_tables_in_opposite_order_do_not_wait_for_each_other(
    warehouse: Warehouse, session: Session
) -> None:
    def publish(number: int) -> None:
        slices = [((), arrow(PRODUCT, products(number + 1)).to_reader())]
        loads = [
            stage(warehouse, {day(number): sales(day(number), 1)}),
            warehouse.stage(PRODUCT, (), slices),
        ]
        warehouse.publish(loads if number % 2 else loads[::-1])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, range(8)))
    assert len(published(session)) == 8


def test_a_discarded_load_leaves_nothing(warehouse: Warehouse, session: Session) -> None:
    staged = stage(warehouse, {day(0): sales(day(0), 2)})
    assert len(staging_tables(session)) == 1
    staged.discard()
    staged.discard()
    assert staging_tables(session) == []


def test_a_table_locked_by_somebody_else_gives_a_conflict_that_can_be_retried(
    url: str, warehouse: Warehouse, session: Session
) -> None:
    days = {day(0): sales(day(0), 2)}
    load(warehouse, days)

    def give_up_soon(inner: Session, _: object) -> None:
        inner.execute("set local lock_timeout = '100ms'; lock table warehouse.fact_sales__2017_01")

    with psycopg.connect(url) as other:
        other.execute("select count(*) from warehouse.fact_sales__2017_01")
        with pytest.raises(CommitConflictError, match=r"warehouse\.fact_sales"):
            warehouse.publish([stage(warehouse, {day(0): []})], before_commit=give_up_soon)
    assert published(session) == rows_of(days)


def test_a_full_disk_is_permanent_and_says_what_to_do(warehouse: Warehouse) -> None:
    def full(inner: Session, _: object) -> None:
        inner.execute("do $$ begin raise 'no space left' using errcode = '53100'; end $$")

    with pytest.raises(PermanentError, match="no space left") as failed:
        warehouse.publish([stage(warehouse, {day(0): sales(day(0), 1)})], before_commit=full)
    assert "free disk space" in failed.value.fix


def test_the_planner_knows_what_was_loaded(warehouse: Warehouse, session: Session) -> None:
    load(warehouse, {day(n): sales(day(n), 50) for n in range(4)})
    load_all(warehouse, products(30))
    query = (
        "select relname::text, reltuples from pg_class where relname ~ '^(fact|dim)'"
        " and relkind in ('r', 'p')"
    )
    rows: dict[str, float] = dict(session.execute(query).fetchall())
    assert rows == {
        "fact_sales": 200,
        "fact_sales__2017_01": 100,
        "fact_sales__2017_02": 100,
        "dim_product": 30,
    }
    known = session.execute(
        "select tablename::text from pg_stats where attname = 'product_key' order by 1"
    ).fetchall()
    assert [name for (name,) in known] == sorted(rows)


def test_an_audit_sees_staged_rows_of_several_tables(
    warehouse: Warehouse, session: Session
) -> None:
    fact = stage(warehouse, {day(0): sales(day(0), 3), day(40): sales(day(40), 2)})
    empty = stage(warehouse, {day(1): []})
    dimension = warehouse.stage(PRODUCT, (), [((), arrow(PRODUCT, products(2)).to_reader())])
    orphans = sql.SQL(
        "select f.date_key, count(*) from {} as f left join {} as d"
        " using (product_key) where d.product_key is null group by 1"
    ).format(fact.relation(), dimension.relation())
    assert session.execute(orphans).fetchall() == [(20170130, 1)]
    count = sql.SQL("select count(*) from {} as f").format(empty.relation())
    assert session.execute(count).fetchall() == [(0,)]
    for staged in (fact, empty, dimension):
        staged.discard()


def test_a_fact_keeps_only_the_columns_of_its_declaration(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {day(0): sales(day(0), 1)})
    columns = session.execute(
        "select attname::text from pg_attribute where attnum > 0"
        " and attrelid = 'warehouse.fact_sales__2017_01'::regclass order by attnum"
    ).fetchall()
    assert tuple(name for (name,) in columns) == FACT.schema.names
    checks = session.execute("select conname from pg_constraint where contype = 'c'").fetchall()
    assert ("month",) not in checks
