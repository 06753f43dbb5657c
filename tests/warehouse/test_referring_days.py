"""Which days are out of date once a load has changed what their rows point to."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest

from headrace.ledger.ledger import Ledger
from headrace.schema import Column
from headrace.warehouse.loading.load_transaction import LoadResult
from headrace.warehouse.loading.merge import days_of_restated_members
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Reference, WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, PRODUCT, Row, arrow, day, load, load_all, sale

REFERENCE = Reference("product_key", "dim_product", "product_key")
POINTING = replace(FACT, references=(REFERENCE,))
MEMBERS = replace(
    PRODUCT,
    schema=PRODUCT.schema.plus((Column("is_current", "boolean"),)),
    attributes=("brand",),
)


def member(key: int, brand: str, *, is_current: bool = True) -> Row:
    return {"product_key": key, "brand": brand, "is_current": is_current}


@pytest.fixture
def ledger(warehouse: Warehouse) -> Ledger:
    return Ledger(warehouse.connect)


def days_restated_by(warehouse: Warehouse, rows: Sequence[Row], table: WarehouseTable) -> set[date]:
    found: set[date] = set()

    def look(session: Session, publications: Sequence[LoadResult]) -> None:
        if publications[0].rows_restated:
            found.update(days_of_restated_members(session, POINTING, "date_key", REFERENCE))

    staged = warehouse.stage(table, (), [((), arrow(table, rows).to_reader())])
    warehouse.publish([staged], before_commit=look)
    return found


@pytest.mark.parametrize("mode", ["upsert", "truncate_and_load"])
def test_days_follow_the_attributes_of_their_members_and_not_the_end_of_their_versions(
    warehouse: Warehouse, mode: str
) -> None:
    table = replace(MEMBERS, mode=mode)  # type: ignore[arg-type]
    load_all(warehouse, [member(1, "a"), member(2, "a"), member(3, "a")], table)
    days = {day(0): [sale(day(0), 1)], day(3): [sale(day(3), 2)], day(40): [sale(day(40), 3)]}
    load(warehouse, days, POINTING)
    ended = [member(1, "a", is_current=False), member(2, "a"), member(3, "a")]
    assert days_restated_by(warehouse, ended, table) == set()
    filled_in = [member(1, "b"), member(2, "a"), member(3, "b")]
    assert days_restated_by(warehouse, filled_in, table) == {day(0), day(40)}
