"""Loads move no more rows than differ, and never leave a fact without its member."""

from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import CommitConflictError
from headrace.warehouse.loading.load_transaction import LoadResult
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Reference
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
)

WATCHED = replace(PRODUCT, attributes=("brand",))
POINTING = replace(FACT, references=(Reference("product_key", "dim_product", "product_key"),))
PLACES = "select tableoid, ctid, xmin, product_key from warehouse.fact_sales order by 1, 2"


def product(key: int, brand: str | None = "a") -> Row:
    return {"product_key": key, "brand": brand}


def load_changes(warehouse: Warehouse, come: Sequence[Row], gone: Sequence[int]) -> LoadResult:
    keys = pa.table({"product_key": pa.array(gone, pa.int64())}).to_reader()
    slices = [((), arrow(WATCHED, come).to_reader())]
    return warehouse.publish([warehouse.stage(WATCHED, (), slices, deletes=keys)])[0]


def test_of_a_day_only_the_rows_that_differ_are_written(
    warehouse: Warehouse, session: Session
) -> None:
    before = {day(0): [*sales(day(0), 5), sale(day(0), 1), sale(day(0), 9, None)]}
    load(warehouse, before)
    places = session.execute(PLACES).fetchall()
    after = {day(0): [*sales(day(0), 5), sale(day(0), 9, "2.00"), sale(day(0), 9, "2.00")]}
    publication = load(warehouse, after)
    assert published(session) == rows_of(after)
    assert (publication.rows_updated, publication.rows_inserted, publication.rows_deleted) == (
        2,
        0,
        0,
    )
    assert len({*places} & {*session.execute(PLACES).fetchall()}) == 5


_DAY = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["1.00", "2.00", None])), max_size=6)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.fixed_dictionaries({0: _DAY, 1: _DAY, 2: _DAY}), min_size=2, max_size=3))
def test_a_day_becomes_the_bag_of_rows_that_was_loaded(
    warehouse: Warehouse, session: Session, states: list[dict[int, list[tuple[int, str | None]]]]
) -> None:
    for state in states:
        days = {day(n): [sale(day(n), *row) for row in rows] for n, rows in state.items()}
        load(warehouse, days)
        assert published(session) == rows_of(days)


def test_changes_of_a_table_are_applied_without_the_rest_of_it(
    warehouse: Warehouse, session: Session
) -> None:
    load_all(warehouse, [product(n) for n in range(6)], WATCHED)
    untouched = "select ctid, xmin from warehouse.dim_product where product_key in (0, 3)"
    before = session.execute(untouched).fetchall()
    # 2 goes; 3 moved to another file; 4 changes; 9 is new; 8 went, and was never there.
    come = [product(3), product(4, "b"), product(9)]
    publication = load_changes(warehouse, come, [2, 3, 4, 8])
    counts = (publication.rows_inserted, publication.rows_updated, publication.rows_deleted)
    assert counts == (1, 1, 1)
    assert publication.rows_restated == 1
    assert published(session, "warehouse.dim_product") == [
        (0, "a"), (1, "a"), (3, "a"), (4, "b"), (5, "a"), (9, "a"),
    ]  # fmt: skip
    assert session.execute(untouched).fetchall() == before


def test_changes_are_refused_where_the_table_is_no_more(
    warehouse: Warehouse, session: Session
) -> None:
    load_all(warehouse, [product(1)], WATCHED)
    keys = pa.table({"product_key": pa.array([1], pa.int64())}).to_reader()
    staged = warehouse.stage(WATCHED, (), [], deletes=keys)
    session.execute("drop table warehouse.dim_product")
    with pytest.raises(CommitConflictError, match="was dropped after"):
        warehouse.publish([staged])


@pytest.mark.parametrize("mode", ["upsert", "truncate_and_load"])
def test_a_member_stays_for_as_long_as_facts_point_to_it(
    warehouse: Warehouse, session: Session, mode: str
) -> None:
    members = replace(WATCHED, mode=mode)  # type: ignore[arg-type]
    load_all(warehouse, [product(n) for n in range(3)], members)
    load(warehouse, {day(0): [sale(day(0), 1)], day(1): [sale(day(1), 2)]}, POINTING)
    kept = load_all(warehouse, [product(0)], members)
    assert (kept.rows_deleted - kept.rows_inserted, kept.rows_referenced) == (0, 2)
    assert [key for key, _ in published(session, "warehouse.dim_product")] == [0, 1, 2]
    loads = [
        warehouse.stage(members, (), [((), arrow(members, [product(0)]).to_reader())]),
        stage(warehouse, {day(1): [sale(day(1), 0)]}, POINTING),
    ]
    assert warehouse.publish(loads)[0].rows_referenced == 1
    assert [key for key, _ in published(session, "warehouse.dim_product")] == [0, 1]


def test_foreign_keys_are_declared_on_months_too_and_cost_no_check(
    warehouse: Warehouse, session: Session
) -> None:
    facts = "select conrelid::regclass::text, convalidated from pg_constraint where contype = 'f'"
    load(warehouse, {day(0): [sale(day(0), 1)]}, POINTING)
    assert session.execute(facts).fetchall() == []  # the dimension is not there yet
    load_all(warehouse, [product(1)], WATCHED)
    load(warehouse, {day(0): [sale(day(0), 1)], day(40): [sale(day(40), 1)]}, POINTING)
    assert sorted(session.execute(facts).fetchall()) == [
        ("warehouse.fact_sales", False),
        ("warehouse.fact_sales__2017_01", False),
        ("warehouse.fact_sales__2017_03", False),
    ]
    # What information_schema says is what BI tools read.
    joined = "select unique_constraint_name from information_schema.referential_constraints"
    assert session.execute(joined).fetchall()[0] == ("dim_product__pk",)


def test_a_long_query_neither_stops_a_new_month_nor_its_members(
    url: str, warehouse: Warehouse, session: Session
) -> None:
    load_all(warehouse, [product(1)], WATCHED)
    load(warehouse, {day(0): [sale(day(0), 1)]}, POINTING)
    with psycopg.connect(url) as reader:
        reader.execute("select count(*) from warehouse.fact_sales, warehouse.dim_product")
        slices = [((), arrow(WATCHED, [product(1, "b"), product(2)]).to_reader())]
        staged = stage(warehouse, {day(40): [sale(day(40), 2)]}, POINTING)
        warehouse.publish([warehouse.stage(WATCHED, (), slices), staged])
    assert len(published(session)) == 2
