"""What readers see, connected as themselves."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from headrace.schema import Column
from headrace.warehouse.ddl.grants import RoleAccess, RowPolicy, grant, grant_new_tables
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Reference
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import FACT, PRODUCT, day, load, load_all, sale

MEMBERS = replace(PRODUCT, schema=PRODUCT.schema.plus((Column("shop", "bigint"),)))
POINTING = replace(FACT, references=(Reference("product_key", "dim_product", "product_key"),))
DIMENSION = ("warehouse", "dim_product")
SALES = ("warehouse", "fact_sales")
As = Callable[[str], AbstractContextManager[Session]]


def limited_to(*values: str, column: str = "brand") -> RoleAccess:
    rule = RowPolicy(DIMENSION, "product_key", column, values, {SALES: ("product_key",)})
    return RoleAccess((rule,), (DIMENSION, SALES))


@pytest.fixture
def star(warehouse: Warehouse) -> Warehouse:
    members = [("a", 1), ("a", 2), ("b", 2)]
    load_all(
        warehouse,
        [{"product_key": n, "brand": b, "shop": s} for n, (b, s) in enumerate(members)],
        MEMBERS,
    )
    load(
        warehouse,
        {day(0): [sale(day(0), n) for n in range(3)], day(40): [sale(day(40), 2)]},
        POINTING,
    )
    return warehouse


@pytest.fixture
def role(session: Session) -> Iterator[str]:
    """A name of its own: roles belong to the server, not to the database."""
    name = f"reader_{uuid4().hex[:8]}"
    yield name
    identifier = sql.Identifier(name)
    if session.execute("select true from pg_roles where rolname = %s", (name,)).fetchone():
        session.execute(sql.SQL("drop owned by {}").format(identifier))
        session.execute(sql.SQL("drop role {}").format(identifier))


@pytest.fixture
def logged_in(url: str) -> As:
    @contextmanager
    def connect(role: str) -> Iterator[Session]:
        with psycopg.connect(url.replace("postgres@", f"{role}@", 1), autocommit=True) as session:
            yield session

    assert urlsplit(url).username == "postgres"
    return connect


def keys(
    session: Session, query: str = "select product_key from warehouse.fact_sales"
) -> list[int]:
    return sorted(key for (key,) in session.execute(query).fetchall())


def test_a_reader_sees_all_and_may_change_nothing(
    star: Warehouse, role: str, logged_in: As
) -> None:
    grant(star.connect, role)
    with logged_in(role) as reader:
        assert keys(reader) == [0, 1, 2, 2]
        for statement in (
            "delete from warehouse.fact_sales",
            "update warehouse.dim_product set brand = 'x'",
            "create table warehouse.mine (n int)",
            "select * from platform.partition_ledger",
        ):
            with pytest.raises(
                (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable)
            ):
                reader.execute(statement)


def test_a_reader_sees_tables_and_months_that_are_made_later(
    star: Warehouse, role: str, logged_in: As
) -> None:
    grant(star.connect, role)
    load(star, {day(70): [sale(day(70), 1)]}, POINTING)
    load_all(star, [{"product_key": 7, "brand": "z"}], replace(PRODUCT, name="dim_later"))
    with logged_in(role) as reader:
        assert keys(reader) == [0, 1, 1, 2, 2]
        assert keys(reader, "select product_key from warehouse.dim_later") == [7]


def test_a_reader_who_is_granted_before_the_first_load_sees_it(
    warehouse: Warehouse, role: str, logged_in: As
) -> None:
    grant(warehouse.connect, role)
    load_all(warehouse, [{"product_key": 7, "brand": "z"}])
    with logged_in(role) as reader:
        assert keys(reader, "select product_key from warehouse.dim_product") == [7]


def test_a_role_with_rules_sees_its_members_and_their_facts(
    star: Warehouse, role: str, logged_in: As
) -> None:
    grant(star.connect, role, limited_to("a"))
    with logged_in(role) as reader:
        assert keys(reader) == [0, 1]
        assert keys(reader, "select product_key from warehouse.dim_product") == [0, 1]
    # Facts and months that come later, too.
    load(star, {day(70): [sale(day(70), n) for n in (1, 2)]}, POINTING)
    with logged_in(role) as reader:
        assert keys(reader) == [0, 1, 1]


def test_a_role_with_rules_gets_tables_that_are_made_later_and_no_row_more(
    warehouse: Warehouse, session: Session, role: str, logged_in: As
) -> None:
    limits = {role: limited_to("a"), f"{role}_other": limited_to("b")}
    assert grant_new_tables(warehouse.connect, limits) == []  # nobody granted them anything yet
    grant(warehouse.connect, role, limits[role])
    members = [{"product_key": n, "brand": "ab"[n], "shop": 1} for n in range(2)]
    load_all(warehouse, members, MEMBERS)
    assert grant_new_tables(warehouse.connect, limits) == [role]
    load(warehouse, {day(0): [sale(day(0), n) for n in range(2)]}, POINTING)
    with logged_in(role) as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        keys(reader)
    assert grant_new_tables(warehouse.connect, limits) == [role]
    assert grant_new_tables(warehouse.connect, limits) == []
    with logged_in(role) as reader:
        assert keys(reader) == [0]
        assert keys(reader, "select product_key from warehouse.dim_product") == [0]
    session.execute(
        "create schema if not exists bi; create view bi.later with (security_invoker = true) as"
        " select * from warehouse.fact_sales"
    )
    assert grant_new_tables(warehouse.connect, limits) == [role]
    with logged_in(role) as reader:
        assert keys(reader, "select product_key from bi.later") == [0]


def test_rules_narrow_each_other_and_numbers_are_values_too(
    star: Warehouse, role: str, logged_in: As
) -> None:
    both = limited_to("a").policies + limited_to("2", column="shop").policies
    grant(star.connect, role, RoleAccess(both, (DIMENSION, SALES)))
    with logged_in(role) as reader:
        assert keys(reader) == [1]


def test_no_way_leads_around_the_rules(
    star: Warehouse, session: Session, role: str, logged_in: As
) -> None:
    session.execute(
        "create schema if not exists bi; create schema if not exists marts;"
        "create table marts.m as select * from warehouse.fact_sales;"
        "create materialized view bi.kept as select * from warehouse.fact_sales;"
        "create view bi.of_its_owner as select * from warehouse.fact_sales;"
        "create view bi.of_the_reader with (security_invoker = true) as"
        " select * from warehouse.fact_sales"
    )
    grant(star.connect, role)  # it saw everything before
    grant(star.connect, role, limited_to("b"))
    with logged_in(role) as reader:
        for relation in ("warehouse.fact_sales__2017_01", "marts.m", "bi.kept", "bi.of_its_owner"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(
                    sql.SQL("select * from {}").format(sql.Identifier(*relation.split(".")))
                )
        assert keys(reader, "select product_key from bi.of_the_reader") == [2, 2]


def test_granting_again_changes_nothing_and_without_rules_lifts_them(
    star: Warehouse, session: Session, role: str, logged_in: As
) -> None:
    state = "select tablename, policyname, qual from pg_policies order by 1, 2"
    grant(star.connect, role, limited_to("a"))
    before = session.execute(state).fetchall()
    grant(star.connect, role, limited_to("a"))
    assert session.execute(state).fetchall() == before
    grant(star.connect, role)
    with logged_in(role) as reader:
        assert keys(reader) == [0, 1, 2, 2]


def test_rules_of_one_role_leave_other_readers_and_loads_alone(
    star: Warehouse, role: str, logged_in: As, session: Session
) -> None:
    other = f"{role}_other"
    try:
        grant(star.connect, other)
        grant(star.connect, role, limited_to("a"))
        load(star, {day(0): [sale(day(0), 2)]}, POINTING)
        with logged_in(other) as reader:
            assert keys(reader) == [2, 2]
        with logged_in(role) as reader:
            assert keys(reader) == []
    finally:
        session.execute(sql.SQL("drop owned by {}").format(sql.Identifier(other)))
        session.execute(sql.SQL("drop role {}").format(sql.Identifier(other)))


def test_a_limited_query_looks_facts_up_by_the_index(
    star: Warehouse, session: Session, role: str, logged_in: As
) -> None:
    load(star, {day(3): [sale(day(3), 100 + n) for n in range(30_000)]}, POINTING)
    grant(star.connect, role, limited_to("a"))
    with logged_in(role) as reader:
        plan = reader.execute("explain select sum(amount) from warehouse.fact_sales").fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "fact_sales__2017_02__product_key" in text
    assert text.count("on dim_product") == 1, "members are looked up once, not once a row"


def test_a_rebuild_shows_a_role_with_rules_no_other_rows_at_any_time(
    star: Warehouse, role: str, logged_in: As
) -> None:
    grant(star.connect, role, limited_to("b"))
    members = [{"product_key": n, "brand": b, "shop": 1} for n, b in enumerate("aab")]
    load_all(star, members, replace(MEMBERS, rebuild=True))
    with logged_in(role) as reader:
        assert keys(reader, "select product_key from warehouse.dim_product") == [2]
        assert keys(reader) == [2, 2]


def test_where_a_policy_cannot_be_made_again_its_role_loses_the_table(
    star: Warehouse, role: str, logged_in: As
) -> None:
    grant(star.connect, role, limited_to("b"))
    without = MEMBERS.schema.without("brand")
    members = [{"product_key": n, "shop": 1} for n in range(3)]
    load_all(star, members, replace(MEMBERS, schema=without, rebuild=True))
    for table in ("dim_product", "fact_sales"):
        with logged_in(role) as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"select * from warehouse.{table}")
