"""Days of a table with a key: of a load's days, the rows that differ are written."""

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.warehouse.sessions import RowsRefusedError, Session
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, Row, arrow, day, load, published, rows_of, sale, sales

KEYED = replace(
    FACT,
    mode="upsert",
    primary_key=("date_key", "product_key"),
    partition_column=None,
    day_column="date_key",
)
DAYS = {day(0): sales(day(0), 3), day(1): sales(day(1), 2), day(40): sales(day(40), 1)}
_DAY = st.dictionaries(st.integers(1, 3), st.sampled_from(["1.00", "2.00", None]))


def test_of_the_days_of_a_load_only_rows_that_differ_are_written(
    warehouse: Warehouse, session: Session
) -> None:
    places = "select ctid, xmin from warehouse.fact_sales where date_key <> 20170131 order by 1"
    assert load(warehouse, DAYS, KEYED).changed_days == {day(0): 3, day(1): 2, day(40): 1}
    before = session.execute(places).fetchall()
    after = {
        day(1): [sale(day(1), 0), sale(day(1), 1, "2.00"), sale(day(1), 7)],
        day(0): DAYS[day(0)],
    }
    publication = load(warehouse, after, KEYED)
    assert (publication.rows_inserted, publication.rows_updated, publication.rows_deleted) == (
        1,
        1,
        0,
    )
    assert publication.changed_days == {day(1): 2}
    assert published(session) == rows_of(DAYS | after)
    assert session.execute(places).fetchall() == before
    emptied: dict[date, list[Row]] = {day(1): []}
    publication = load(warehouse, emptied, KEYED)
    assert (publication.rows_deleted, publication.changed_days) == (3, {day(1): 3})
    assert published(session) == rows_of(DAYS | emptied)


def test_rows_of_other_days_and_repeated_keys_are_refused(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, DAYS, KEYED)
    rows = arrow(KEYED, [sale(day(2), 1)])
    with pytest.raises(RowsRefusedError, match="20170201"):
        warehouse.stage(KEYED, [day(0)], [([day(0)], rows.to_reader())])
    with pytest.raises(RowsRefusedError):
        load(warehouse, {day(0): [sale(day(0), 1), sale(day(0), 1)]}, KEYED)
    assert published(session) == rows_of(DAYS)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.fixed_dictionaries({}, optional={0: _DAY, 1: _DAY, 2: _DAY}), max_size=4))
def test_any_loads_leave_each_day_as_it_was_loaded_last(
    warehouse: Warehouse, session: Session, loads: list[dict[int, dict[int, str | None]]]
) -> None:
    expected: dict[date, list[Row]] = {day(n): [] for n in range(3)}
    load(warehouse, expected, KEYED)
    for some in loads:
        days = {day(n): [sale(day(n), *row) for row in rows.items()] for n, rows in some.items()}
        load(warehouse, days, KEYED)
        expected |= days
    assert published(session) == rows_of(expected)
