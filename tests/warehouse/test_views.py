"""Views made from files, and materialised ones that refresh the loads while they are read."""

import time
from pathlib import Path

import psycopg
import pytest

from headrace.warehouse.ddl.views import refresh
from headrace.warehouse.sessions import Session
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import day, load, sales

KEPT = """-- Sales by product.
-- materialized: product_key
select product_key, sum(amount) as amount from warehouse.fact_sales group by product_key
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kept.sql").write_text(KEPT)
    (tmp_path / "over_kept.sql").write_text("-- Of those kept.\nselect amount from bi.kept;\n")
    (tmp_path / "of_a_mart.sql").write_text("select * from marts.not_there_yet")
    return tmp_path


def total(session: Session, relation: str = "bi.kept") -> object:
    row = session.execute(f"select sum(amount)::int from {relation}").fetchone()
    return row and row[0]


def test_a_materialised_view_follows_the_loads_without_stopping_readers(
    url: str, warehouse: Warehouse, session: Session, folder: Path
) -> None:
    load(warehouse, {day(0): sales(day(0), 2)})
    refresh(warehouse.connect, folder, ["warehouse"])
    assert (total(session), total(session, "bi.over_kept")) == (2, 2)
    load(warehouse, {day(40): sales(day(40), 5)})
    with psycopg.connect(url) as reader:
        reader.execute("set transaction isolation level repeatable read")
        assert total(reader) == 2
        began = time.monotonic()
        assert refresh(warehouse.connect, folder, ["warehouse"]) == ["bi.kept"]
        assert time.monotonic() - began < 4
        assert total(reader) == 2
    assert total(session, "bi.over_kept") == 7


def test_a_view_over_what_did_not_change_is_not_refreshed(
    warehouse: Warehouse, session: Session, folder: Path
) -> None:
    load(warehouse, {day(0): sales(day(0), 2)})
    refresh(warehouse.connect, folder, ["warehouse"])
    load(warehouse, {day(0): sales(day(0), 3)})
    assert refresh(warehouse.connect, folder, ["marts"]) == []
    assert total(session) == 2


def test_a_view_that_was_edited_is_made_anew_and_one_that_was_not_stays(
    warehouse: Warehouse, session: Session, folder: Path
) -> None:
    load(warehouse, {day(0): sales(day(0), 2)})
    (folder / "over_kept.sql").unlink()
    refresh(warehouse.connect, folder, [])
    made = session.execute("select 'bi.kept'::regclass::oid").fetchone()
    refresh(warehouse.connect, folder, [])
    assert session.execute("select 'bi.kept'::regclass::oid").fetchone() == made
    (folder / "kept.sql").write_text(KEPT.replace("sum(amount)", "sum(amount) * 10"))
    refresh(warehouse.connect, folder, [])
    assert total(session) == 20


def test_a_view_that_cannot_be_made_stops_neither_the_others_nor_the_load(
    warehouse: Warehouse, session: Session, folder: Path
) -> None:
    load(warehouse, {day(0): sales(day(0), 2)})
    (folder / "kept.sql").write_text("select nothing from nowhere")
    (folder / "plain.sql").write_text("-- Sales.\nselect * from warehouse.fact_sales")
    assert refresh(warehouse.connect, folder, ["warehouse"]) == []
    assert total(session, "bi.plain") == 2
    described = "select obj_description('bi.plain'::regclass)"
    assert str(session.execute(described).fetchone()).startswith("('Sales. (version")
