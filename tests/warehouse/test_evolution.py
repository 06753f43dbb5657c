"""Published tables take new columns and wider types, and refuse what would lose values."""

import threading
from dataclasses import replace
from datetime import date

import psycopg
import pyarrow as pa
import pytest

from headrace.errors import IncompatibleSchemaError, PermanentError
from headrace.schema import Column, TableSchema
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, PRODUCT, arrow, day, load, load_all, published, sale, sales

SHOP = Column("shop", "string")


def changed(table: WarehouseTable, name: str, kind: str) -> WarehouseTable:
    columns = tuple(replace(c, type=kind) if c.name == name else c for c in table.schema)
    return replace(table, schema=TableSchema(columns))


@pytest.mark.parametrize("wanted", [day(0), day(1), day(40)])
def test_a_new_column_is_null_in_rows_published_before(
    warehouse: Warehouse, session: Session, wanted: date
) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    wider = replace(FACT, schema=FACT.schema.plus([SHOP]))
    file = "select pg_relation_filepath('warehouse.fact_sales__2017_01'::regclass)"
    before = session.execute(file).fetchone()
    load(warehouse, {wanted: [{**sale(wanted, 2), "shop": "north"}]}, wider)
    query = "select product_key, shop from warehouse.fact_sales"
    kept = {} if wanted == day(0) else {1: None}
    assert dict(session.execute(query).fetchall()) == {**kept, 2: "north"}
    assert session.execute(file).fetchone() == before, "the table was rewritten"


def test_a_new_column_that_must_not_be_null_is_added_as_nullable(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    column = Column("shop", "string", nullable=False)
    wider = replace(FACT, schema=FACT.schema.plus([column]))
    load(warehouse, {day(1): [{**sale(day(1), 2), "shop": "north"}]}, wider)
    rows = session.execute("select shop from warehouse.fact_sales order by 1").fetchall()
    assert rows == [("north",), (None,)]


def test_a_column_that_is_loaded_no_more_stays(warehouse: Warehouse, session: Session) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    narrower = replace(FACT, schema=FACT.schema.without("amount"))
    for wanted in (day(1), day(40)):
        load(warehouse, {wanted: [sale(wanted, 2)]}, narrower)
    assert [amount for _, _, amount in published(session)] == ["1.00", None, None]


@pytest.mark.parametrize("wanted", [day(1), day(40)])
def test_a_column_that_was_required_and_is_loaded_no_more_keeps_what_it_has(
    warehouse: Warehouse, session: Session, wanted: date
) -> None:
    required = replace(FACT.schema.column("amount"), nullable=False)
    strict = replace(FACT, schema=FACT.schema.without("amount").plus([required]))
    load(warehouse, {day(0): [sale(day(0), 1)]}, strict)
    narrower = replace(FACT, schema=FACT.schema.without("amount"))
    load(warehouse, {wanted: [sale(wanted, 2)]}, narrower)
    assert [amount for _, _, amount in published(session)] == ["1.00", None]


def test_a_column_of_the_primary_key_cannot_be_left_out(warehouse: Warehouse) -> None:
    keyed = replace(FACT, primary_key=("date_key", "product_key"))
    load(warehouse, {day(0): [sale(day(0), 1)]}, keyed)
    narrower = replace(FACT, schema=FACT.schema.without("product_key"), indexes=())
    with pytest.raises(IncompatibleSchemaError, match=r"'product_key' .* primary key and missing"):
        load(warehouse, {day(1): [sale(day(1), 2)]}, narrower)


@pytest.mark.parametrize("wanted", [day(0), day(40)])
def test_wider_types_take_the_place_of_narrower_ones_and_hold_them(
    warehouse: Warehouse, session: Session, wanted: date
) -> None:
    narrow = changed(FACT, "product_key", "int")
    load(warehouse, {day(1): [sale(day(1), 1)]}, narrow)
    wide = changed(FACT, "amount", "decimal(18,2)")
    large = sale(wanted, 2**40, "1234567890123456.78")
    load(warehouse, {wanted: [large]}, wide)
    load(warehouse, {day(2): [sale(day(2), 3)]}, narrow)  # fits what is wide by now
    found = {(key, amount) for _, key, amount in published(session)}
    assert found == {(1, "1.00"), (2**40, "1234567890123456.78"), (3, "1.00")}


@pytest.mark.parametrize(
    ("column", "before", "after"),
    [
        ("product_key", "bigint", "string"),
        ("amount", "decimal(12,2)", "decimal(12,3)"),
        ("amount", "decimal(12,2)", "double"),
        ("date_key", "int", "bigint"),  # Postgres cannot alter what it partitions by
    ],
)
def test_an_incompatible_type_is_refused_by_table_column_and_both_types(
    warehouse: Warehouse, session: Session, column: str, before: str, after: str
) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    with pytest.raises(IncompatibleSchemaError) as refused:
        warehouse.stage(changed(FACT, column, after), [day(0)], [])
    for named in ("warehouse.fact_sales", f"'{column}'", before, after):
        assert named in str(refused.value)
    assert refused.value.fix
    assert len(published(session)) == 1


def test_another_partition_column_is_refused(warehouse: Warehouse) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    other = replace(FACT, partition_column="product_key")
    whole = replace(FACT, partition_column=None, mode="truncate_and_load")
    for table in (other, whole):
        with pytest.raises(IncompatibleSchemaError, match=r"RANGE \(date_key\)"):
            warehouse.stage(table, [], [])


def test_a_load_staged_before_another_changed_the_table_is_still_published(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    slices = [([day(40)], one_row(day(40)))]
    staged = warehouse.stage(FACT, [day(40)], slices)
    wider = replace(FACT, schema=FACT.schema.plus([SHOP]))
    load(warehouse, {day(1): [{**sale(day(1), 2), "shop": "north"}]}, wider)
    warehouse.publish([staged])
    assert len(published(session)) == 3


def test_an_index_that_is_declared_later_is_made(warehouse: Warehouse, session: Session) -> None:
    load(warehouse, {day(0): sales(day(0), 2)})
    more = replace(FACT, indexes=(*FACT.indexes, ("amount", "product_key")))
    for wanted in (day(0), day(40)):
        load(warehouse, {wanted: sales(wanted, 3)}, more)
    names = session.execute(
        "select indexname::text from pg_indexes where indexdef like '%(amount, product_key)'"
    ).fetchall()
    assert len(names) == 3  # the table, and both of its months


def test_a_new_column_waits_for_readers_no_longer_than_it_may(
    url: str, warehouse: Warehouse, session: Session
) -> None:
    load_all(warehouse, [{"product_key": 1, "brand": "a"}])
    wider = replace(PRODUCT, schema=PRODUCT.schema.plus([SHOP]))
    with psycopg.connect(url) as reader:
        reader.execute("select * from warehouse.dim_product")
        threading.Timer(0.5, reader.cancel).start()
        threading.Timer(0.5, reader.rollback).start()
        load_all(warehouse, [{"product_key": 1, "brand": "a", "shop": "s"}], wider)
    assert session.execute("select shop from warehouse.dim_product").fetchall() == [("s",)]


def one_row(on: date) -> pa.RecordBatchReader:
    return arrow(FACT, [sale(on, 5)]).to_reader()


def test_a_type_grows_under_views_and_policies_that_stay_as_they_are(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {day(0): [sale(day(0), 1, "2.00")]})
    reader = f"reader_{session.info.dbname}"
    for statement in (
        "create schema bi",
        f"create role {reader}",
        (
            "create view bi.sold with (security_invoker = true, security_barrier = true)"
            " as select product_key, amount from warehouse.fact_sales"
        ),
        "comment on view bi.sold is 'Sold (version 0123456789ab)'",
        "comment on column bi.sold.amount is 'What it''s worth'",
        f"grant select on bi.sold to {reader}, public",
        (
            'create materialized view bi."Of a product" as'
            " select product_key, sum(amount) as amount from bi.sold group by 1"
        ),
        'create unique index "its key" on bi."Of a product" (product_key)',
        (
            "create view bi.over_both as"
            ' select o.amount as total, s.amount from bi."Of a product" as o join bi.sold as s'
            " using (product_key)"
        ),
        "create view bi.of_a_month as select amount from warehouse.fact_sales__2017_01",
        "create view bi.of_another_column as select product_key from warehouse.fact_sales",
        (
            "create policy cheap on warehouse.fact_sales as restrictive for select"
            f" to {reader} using (amount < 100.00)"
        ),
    ):
        session.execute(statement)
    described = """
        select c.relname::text, c.relkind::text, c.reloptions, c.relacl::text,
            obj_description(c.oid), col_description(c.oid, 2),
            array(select pg_get_indexdef(i.indexrelid) from pg_index as i where indrelid = c.oid)
        from pg_class as c
        where c.relnamespace = 'bi'::regnamespace and c.relkind in ('v', 'm') order by 1
    """
    policies = "select policyname, permissive, roles, cmd, qual from pg_policies"
    before = [session.execute(query).fetchall() for query in (described, policies)]
    wider = changed(FACT, "amount", "decimal(20,2)")
    load(warehouse, {day(1): [sale(day(1), 1, "123456789012345.00")]}, wider)
    after = [session.execute(query).fetchall() for query in (described, policies)]
    assert after == before
    assert session.execute("select max(amount)::text from bi.sold").fetchone() == (
        "123456789012345.00",
    )
    session.execute('refresh materialized view concurrently bi."Of a product"')
    assert session.execute("select count(*) from bi.over_both").fetchone() == (2,)
    session.execute(f"drop owned by {reader}")
    session.execute(f"drop role {reader}")


def test_what_keeps_a_type_from_growing_is_named(warehouse: Warehouse, session: Session) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    session.execute(
        "create function largest() returns numeric language sql"
        " begin atomic select max(amount) from warehouse.fact_sales; end"
    )
    with pytest.raises(PermanentError, match="function largest") as refused:
        load(warehouse, {day(1): [sale(day(1), 1)]}, changed(FACT, "amount", "decimal(20,2)"))
    assert "drop the objects that depend on the column" in refused.value.fix


def test_a_rebuild_gives_a_column_another_type_and_readers_old_or_new(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)], day(40): [sale(day(40), 2)]})
    finer = changed(FACT, "amount", "decimal(12,4)")
    with pytest.raises(IncompatibleSchemaError) as refused:
        load(warehouse, {day(0): [sale(day(0), 1, "1.2345")]}, finer)
    command = "headrace backfill --rebuild --select 'key:\"warehouse/fact_sales\"+'"
    assert command in refused.value.fix
    again = replace(finer, rebuild=True)
    with pytest.raises(IncompatibleSchemaError, match="20170311, which is not in the rebuild"):
        load(warehouse, {day(0): [sale(day(0), 1, "1.2345")]}, again)
    assert [amount for _, _, amount in published(session)] == ["1.00", "1.00"]
    days = {day(0): [sale(day(0), 1, "1.2345")], day(40): [sale(day(40), 2, "2.3456")]}
    load(warehouse, days, again)
    assert [amount for _, _, amount in published(session)] == ["1.2345", "2.3456"]
    load(warehouse, {day(1): [sale(day(1), 3, "3.4567")]}, finer)
    assert len(published(session)) == 3


def test_a_rebuilt_dimension_has_the_declared_columns_and_no_others(
    warehouse: Warehouse, session: Session
) -> None:
    load_all(warehouse, [{"product_key": 1, "brand": "old"}], PRODUCT)
    columns = (Column("product_key", "bigint", nullable=False), Column("size", "int"))
    again = replace(PRODUCT, schema=TableSchema(columns), rebuild=True)
    load_all(warehouse, [{"product_key": 2, "size": 7}], again)
    assert session.execute("select * from warehouse.dim_product").fetchall() == [(2, 7)]


def test_a_rebuilt_table_keeps_its_views_and_privileges(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {day(0): [sale(day(0), 1)]})
    reader = f"reader_{session.info.dbname}"
    for statement in (
        "create schema bi",
        f"create role {reader}",
        f"grant select on warehouse.fact_sales to {reader}",
        "create view bi.sold as select product_key, amount from warehouse.fact_sales",
        "create view bi.counted as select count(*) from warehouse.fact_sales",
        "create materialized view bi.total as select sum(amount) from bi.sold",
        f"grant select on bi.sold to {reader}",
    ):
        session.execute(statement)
    privileges = "select relname::text, relacl::text from pg_class where relname = any(%s)"
    names = ["fact_sales", "sold", "counted", "total"]
    before = sorted(session.execute(privileges, (names,)).fetchall())
    finer = replace(changed(FACT, "amount", "decimal(12,4)"), rebuild=True)
    load(warehouse, {day(0): [sale(day(0), 1, "1.2345")]}, finer)
    assert sorted(session.execute(privileges, (names,)).fetchall()) == before
    query = "select (select sum(amount)::text from bi.sold), (select sum::text from bi.total)"
    assert session.execute(query).fetchone() == ("1.2345", "1.2345")
    assert session.execute("select * from bi.counted").fetchone() == (1,)
    narrower = replace(FACT, schema=FACT.schema.without("amount"), rebuild=True)
    load(warehouse, {day(0): [sale(day(0), 1)]}, narrower)
    views = "select relname::text from pg_class where relnamespace = 'bi'::regnamespace"
    assert session.execute(views).fetchall() == [("counted",)]
    session.execute(f"drop owned by {reader}")
    session.execute(f"drop role {reader}")
