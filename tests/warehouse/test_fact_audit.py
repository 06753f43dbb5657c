"""What the audit counts of staged facts, against a count row by row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from headrace.date_keys import date_key
from headrace.pipeline.curated.fact_audit import DayTotals, LakeTotals, audit_staged_facts
from headrace.quality.partition_checks import ROWS
from headrace.schema import Column, TableSchema
from headrace.warehouse.loading.staged_loads import StagedLoad
from headrace.warehouse.tables import Reference
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, PRODUCT, Row, arrow, day, load_all, sale, sales, stage

TO_PRODUCT = Reference("product_key", "dim_product", "product_key")
# One month, and so many that two sessions have several each.
DAYS = [date(2017, 1, 20) + timedelta(days=9 * n) for n in range(15)]


def product(key: int) -> Row:
    return {"product_key": key, "brand": "National"}


def expected(days: Mapping[date, Sequence[Row]], members: set[int]) -> dict[int, DayTotals]:
    totals: dict[int, Counter[str]] = {}
    for on, rows in days.items():
        for row in rows:
            of_day = totals.setdefault(date_key(on), Counter())
            of_day[ROWS] += 1
            of_day["amount"] += Decimal(str(row["amount"]))  # type: ignore[assignment]
            of_day["orphans"] += row["product_key"] not in members
    return {
        key: DayTotals(
            {ROWS: Decimal(found[ROWS]), "amount": Decimal(found["amount"])},
            {"product_key": found["orphans"]},
        )
        for key, found in totals.items()
    }


def judged(
    warehouse: Warehouse, facts: StagedLoad, members: Mapping[str, StagedLoad]
) -> dict[int, DayTotals]:
    try:
        found = audit_staged_facts(warehouse.connect, facts, ["amount"], [TO_PRODUCT], members)
        # It publishes next: what it commits must be on the disk.
        assert facts.owner.execute("show synchronous_commit").fetchone() == ("on",)
        return found
    finally:
        for each in (facts, *members.values()):
            each.discard()


@pytest.mark.parametrize("days", [DAYS[:1], DAYS], ids=["a day", "months"])
def test_every_day_has_its_rows_sums_and_keys_without_member(
    warehouse: Warehouse, days: list[date]
) -> None:
    rows = {on: sales(on, number % 4, f"{number}.25") for number, on in enumerate(days, start=1)}
    rows[days[0]].append(sale(days[0], 77, "0.10"))
    rows[days[-1]].append(sale(days[-1], 78, "-3.00"))
    members = {0, 1}
    products = warehouse.stage(
        PRODUCT, (), [((), arrow(PRODUCT, map(product, members)).to_reader())]
    )
    found = judged(warehouse, stage(warehouse, rows), {"dim_product": products})
    assert found == expected(rows, members)


def test_a_day_that_came_in_several_pieces_is_one_day(warehouse: Warehouse) -> None:
    whole = replace(FACT, partition_column=None, mode="truncate_and_load")
    pieces = [sales(day(0), 3, "1.25"), sales(day(0), 2, "-0.50"), [sale(day(1), 9)]]
    load_all(warehouse, map(product, range(2)))
    slices = (((), arrow(whole, piece).to_reader()) for piece in pieces)
    found = judged(warehouse, warehouse.stage(whole, (), slices), {})
    assert found == expected({day(0): pieces[0] + pieces[1], day(1): pieces[2]}, {0, 1})


def test_members_are_those_that_stay_and_those_that_come(warehouse: Warehouse) -> None:
    load_all(warehouse, map(product, range(4)))
    rows = {day(0): sales(day(0), 6), day(5): sales(day(5), 6)}
    gone = pa.table({"product_key": pa.array([2, 3], pa.int64())})
    products = warehouse.stage(
        PRODUCT,
        (),
        [((), arrow(PRODUCT, map(product, (3, 4))).to_reader())],
        deletes=gone.to_reader(),
    )
    found = judged(warehouse, stage(warehouse, rows), {"dim_product": products})
    assert found == expected(rows, {0, 1, 3, 4})


def test_nothing_staged_is_no_day(warehouse: Warehouse) -> None:
    load_all(warehouse, [product(1)])
    assert judged(warehouse, stage(warehouse, {day(0): []}), {}) == {}


def test_sums_that_fit_no_measure_agree_on_both_sides(warehouse: Warehouse) -> None:
    columns = (
        Column("date_key", "int", nullable=False),
        Column("rows", "bigint"),
        Column("wide", "decimal(38,2)"),
    )
    table = replace(FACT, schema=TableSchema(columns), indexes=())
    largest, wide = 2**63 - 1, f"{'9' * 36}.99"
    row = {"date_key": date_key(day(0)), "rows": largest, "wide": wide}
    rows = [*[row] * 3, {**row, "rows": None, "wide": "-0.01"}]
    passed_by = LakeTotals(("rows", "wide"))
    slices = [([day(0)], passed_by.counted(arrow(table, rows).to_reader()))]
    load = warehouse.stage(table, [day(0)], slices)
    try:
        staged = audit_staged_facts(warehouse.connect, load, ("rows", "wide"), (), {})[
            date_key(day(0))
        ]
    finally:
        load.discard()
    assert staged.totals == passed_by.by_day()[date_key(day(0))]
    assert staged.totals == {
        ROWS: Decimal(4),
        "rows": Decimal(3 * largest),
        "wide": Decimal(f"2{'9' * 36}.96"),
    }
