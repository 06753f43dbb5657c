"""Names and values that are longer than Postgres takes stop no load."""

import random
import string
from dataclasses import replace
from datetime import date

import pytest

from headrace.date_keys import date_key
from headrace.errors import ConfigError
from headrace.schema import Column, TableSchema
from headrace.warehouse import identifiers
from headrace.warehouse.ddl.grants import RoleAccess, RowPolicy, grant
from headrace.warehouse.sessions import RowsRefusedError, Session
from headrace.warehouse.tables import Reference, WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, PRODUCT, day, load, load_all, sale

LONG = "fact_a_very_long_name_of_a_thing_that_people_do_"
ROLES = [f"{LONG[5:]}_{letter}"[1:48] + f"{letter}_key" for letter in "ab"]
MEMBER = replace(PRODUCT, name="dim_a_very_long_name_of_a_thing_that_people_do_l")
# Postgres compresses before it measures, so that a long text of one letter would fit.
NOISE = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=9_000))  # noqa: S311


def wide_fact() -> WarehouseTable:
    keys = tuple(Column(role, "bigint", nullable=False) for role in ROLES)
    return replace(
        FACT,
        name=LONG,
        schema=TableSchema((Column("date_key", "int", nullable=False), *keys)),
        indexes=tuple((role,) for role in ROLES),
        references=tuple(Reference(role, MEMBER.name, "product_key") for role in ROLES),
    )


@pytest.mark.parametrize("first", [day(0), day(1)])
def test_long_names_that_begin_alike_are_two(
    warehouse: Warehouse, session: Session, first: date
) -> None:
    load_all(warehouse, [{"product_key": 1, "brand": "x"}], MEMBER)
    table = wide_fact()
    for on in (first, day(40), day(2)):
        row = {"date_key": date_key(on), **dict.fromkeys(ROLES, 1)}
        load(warehouse, {on: [row]}, table)
    keys = "select count(*) from pg_constraint where conrelid = %s::regclass and contype = 'f'"
    assert session.execute(keys, (table.label,)).fetchone() == (2,)
    indexed = session.execute(
        "select count(*) from pg_indexes where tablename like %s", (f"{LONG}%",)
    ).fetchone()
    months = len({first.month, day(40).month, day(2).month})
    assert indexed == (2 * (1 + months),)


def test_names_are_cut_in_bytes_and_stay_different() -> None:
    names = [f"{'ü' * 40}{letter}" for letter in "abc"]
    cut = [identifiers.shortened(name) for name in names]
    assert len({*cut}) == 3
    assert all(len(name.encode()) <= 63 for name in cut)
    assert identifiers.shortened("a" * 63) == "a" * 63


def test_roles_that_begin_alike_have_policies_of_their_own(
    warehouse: Warehouse, session: Session
) -> None:
    load_all(warehouse, [{"product_key": 1, "brand": "x"}])
    roles = [f"{'r' * 60}{letter}" for letter in "ab"]
    rule = RowPolicy(("warehouse", "dim_product"), "product_key", "brand", ("x",), {})
    for role in roles:
        grant(warehouse.connect, role, RoleAccess((rule,), (("warehouse", "dim_product"),)))
    found = session.execute(
        "select count(distinct policyname) from pg_policies where roles && %s::name[]", (roles,)
    ).fetchone()
    for role in roles:
        session.execute(f'drop owned by "{role}"')
        session.execute(f'drop role "{role}"')
    assert found == (2,)


def test_a_key_too_long_for_its_index_is_loaded_and_the_index_comes_back(
    warehouse: Warehouse, session: Session
) -> None:
    table = replace(PRODUCT, indexes=(("brand",),))
    count = "select count(*) from pg_indexes where indexname = 'dim_product__brand'"
    rows = [{"product_key": 1, "brand": "short"}, {"product_key": 2, "brand": NOISE}]
    for some, indexes in ((rows[:1], 1), (rows, 0), (rows[:1], 0), (rows[:1], 1)):
        load_all(warehouse, some, table)
        loaded = session.execute("select brand from warehouse.dim_product order by 1").fetchall()
        assert sorted(loaded) == sorted((row["brand"],) for row in some)
        assert session.execute(count).fetchone() == (indexes,)


def test_a_text_too_long_for_an_index_does_not_keep_its_month_out(
    warehouse: Warehouse, session: Session
) -> None:
    shop = Column("shop", "string")
    table = replace(FACT, schema=FACT.schema.plus([shop]), indexes=(("product_key",), ("shop",)))
    for on, text in ((day(0), "a"), (day(40), NOISE), (day(1), "b"), (day(2), NOISE)):
        load(warehouse, {on: [{**sale(on, 1), "shop": text}]}, table)
    rows = session.execute("select length(shop) from warehouse.fact_sales order by 1").fetchall()
    assert rows == [(1,), (1,), (9_000,), (9_000,)]


def test_a_primary_key_too_long_is_refused_by_name_and_not_by_value(warehouse: Warehouse) -> None:
    table = replace(PRODUCT, primary_key=("brand",))
    with pytest.raises(RowsRefusedError, match="index row requires 9016 bytes") as refused:
        load_all(warehouse, [{"product_key": 1, "brand": NOISE}], table)
    assert NOISE[:20] not in str(refused.value)


@pytest.mark.parametrize(
    ("columns", "key", "expected"),
    [
        (("xmin", "n"), ("n",), "column xmin: the name is taken"),
        (("ü" * 32,), (), "ü: the name is too long"),
        (tuple(f"c{n}" for n in range(1_601)), (), "1601 columns"),
        (tuple(f"c{n}" for n in range(33)), tuple(f"c{n}" for n in range(33)), "of 33 columns"),
    ],
)
def test_a_table_that_postgres_cannot_have_is_no_table(
    columns: tuple[str, ...], key: tuple[str, ...], expected: str
) -> None:
    schema = TableSchema(tuple(Column(name, "int") for name in columns))
    with pytest.raises(ConfigError, match=expected):
        WarehouseTable("warehouse", "t", schema, primary_key=key, mode="truncate_and_load")
