"""Which days are out of date once a load has changed what their rows point to."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest

from headrace import restatement
from headrace.ledger.ledger import Ledger, PartitionRecord
from headrace.restatement import Restatements
from headrace.schema import Column
from headrace.warehouse.load import Warehouse
from headrace.warehouse.publishing import Publication
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Reference, WarehouseTable
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


@pytest.fixture
def restatements(warehouse: Warehouse) -> Restatements:
    return Restatements(warehouse.connect)


def days_restated_by(warehouse: Warehouse, rows: Sequence[Row], table: WarehouseTable) -> set[date]:
    found: set[date] = set()

    def look(session: Session, publications: Sequence[Publication]) -> None:
        if publications[0].rows_restated:
            found.update(
                restatement.days_of_restated_members(session, POINTING, "date_key", REFERENCE)
            )

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


def test_a_day_is_behind_until_the_snapshot_that_publishes_it_is_loaded(
    ledger: Ledger, restatements: Restatements
) -> None:
    def record(asset: str, snapshot: int, status: str = "published") -> None:
        ledger.record([PartitionRecord(asset, day(0), status, "run", snapshot)])  # type: ignore[arg-type]

    record("curated/f", 1)
    assert restatements.days_behind("warehouse/f", "curated/f") == []  # never loaded
    record("warehouse/f", 1)
    assert restatements.days_behind("warehouse/f", "curated/f") == []
    record("curated/f", 2)
    assert restatements.days_behind("warehouse/f", "curated/f") == [day(0)]
    record("warehouse/f", 2)
    assert restatements.days_behind("warehouse/f", "curated/f") == []


@pytest.mark.parametrize("status", ["held", "failed"])
def test_a_day_whose_audit_fails_is_behind_until_it_passes(
    ledger: Ledger, restatements: Restatements, status: str
) -> None:
    def record(asset: str, number: int, snapshot: int, status: str = "published") -> None:
        ledger.record([PartitionRecord(asset, day(number), status, "run", snapshot)])  # type: ignore[arg-type]

    for number in (0, 1):
        record("curated/f", number, 1)
    record("warehouse/f", 1, 1, status)  # never published: readers see nothing that is out of date
    record("warehouse/f", 0, 1)
    record("curated/f", 0, 2)
    record("warehouse/f", 0, 2, status)
    assert restatements.days_behind("warehouse/f", "curated/f") == [day(0)]
    record("curated/f", 0, 3, status)  # nothing can be read in the lake, either
    assert restatements.days_behind("warehouse/f", "curated/f") == []
    record("curated/f", 0, 3)
    assert restatements.days_behind("warehouse/f", "curated/f") == [day(0)]
    record("warehouse/f", 0, 3)
    assert restatements.days_behind("warehouse/f", "curated/f") == []


def test_a_mart_is_behind_the_loads_that_it_was_not_built_from(
    warehouse: Warehouse, ledger: Ledger, restatements: Restatements
) -> None:
    def change(*days: date) -> None:
        with warehouse.connect() as session:
            restatement.record_changed_in(session, FACT, days)

    def build(*days: date) -> None:
        built = restatements.last_load()
        ledger.record([PartitionRecord("marts/m", each, "published", "r", built) for each in days])

    def behind() -> list[date]:
        return restatements.marts_behind(["marts/m"], [FACT.label])

    change(day(0), day(1))
    assert behind() == []  # days that were never built are nobody's claim
    build(day(0), day(1))
    assert behind() == []
    change(day(1))
    change(day(0))
    assert behind() == [day(0), day(1)]
    build(day(1))
    assert behind() == [day(0)]
