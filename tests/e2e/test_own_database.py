"""A shop's own PostgreSQL as source: its tables reach the warehouse without a file."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any
from unittest import mock

import dagster as dg
import psycopg
import pytest
import yaml

from headrace.cli.audit import audit_star
from headrace.cli.backfill import BackfillResult, run_backfill
from headrace.cli.sources.reconcile import exit_code, run_reconcile
from headrace.cli.sources.triggers import install_triggers
from headrace.config.loader import load_project
from headrace.embedded_postgres import server
from headrace.project.home import Home
from headrace.project.home_setup import environment_of
from jobs.reconcile import RECONCILE_JOB
from platform_assets.definitions import build_definitions
from tests import mariadb_server, servers
from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import REPOSITORY, Installation

pytestmark = pytest.mark.e2e

FIRST, LAST = date(2017, 1, 1), date(2017, 1, 3)
_TABLES = """
create table customers (
    customer_id int primary key, name text, town text, changed_at timestamptz default now()
);
create table orders (
    order_id bigint primary key, customer_id int, ordered_at timestamptz, amount numeric(12, 2),
    tags text[], updated_at timestamptz default now()
);
insert into customers (customer_id, name, town) values (1, 'Ada', 'Ulm'), (2, 'Ben', 'Kiel'),
    (3, 'Cid', 'Bonn');
insert into orders (order_id, customer_id, ordered_at, amount, tags)
select n, 1 + n % 2, timestamptz '2017-01-01 10:00+00' + n % 3 * interval '1 day', n * 1.5, '{a,b}'
from generate_series(1, 9) as n;
create table sellers (seller_id int primary key, name text);
create table payments (payment_id bigint primary key, seller_id int, paid_on date, amount int);
insert into sellers values (1, 'Dee'), (2, 'Eve');
insert into payments
select n, 1 + n % 2, date '2017-01-01' + n % 3, n from generate_series(1, 6) as n;
"""
_SOURCE = {
    "name": "shop",
    "connector": "postgres",
    "connection": "shop",
    "entities": [
        {
            "name": "customers",
            "extract": {"mode": "full_snapshot", "table": "public.customers"},
            "key": ["customer_id"],
            "columns": [
                {"name": "customer_id", "type": "int"},
                {"name": "name", "type": "string"},
                {"name": "town", "type": "string"},
            ],
        },
        {
            "name": "orders",
            "extract": {
                "mode": "watermark",
                "table": "public.orders",
                "cursor": "updated_at",
                "partition_by": "ordered_at",
            },
            "key": ["order_id"],
            "columns": [
                {"name": "order_id", "type": "bigint"},
                {"name": "customer_id", "type": "int"},
                {"name": "ordered_at", "type": "timestamptz"},
                {"name": "amount", "type": "decimal(12,2)"},
                {"name": "tags", "type": "string"},
                {"name": "updated_at", "type": "timestamptz"},
            ],
        },
        {
            "name": "sellers",
            "extract": {"mode": "change_table", "table": "public.sellers"},
            "key": ["seller_id", "_source_position"],
            "columns": [
                {"name": "seller_id", "type": "int"},
                {"name": "name", "type": "string"},
                {"name": "changed_at", "type": "timestamptz", "from": "_changed_at"},
            ],
        },
        {
            "name": "payments",
            "extract": {
                "mode": "change_table",
                "table": "public.payments",
                "partition_by": "paid_on",
            },
            "key": ["payment_id"],
            "columns": [
                {"name": "payment_id", "type": "bigint"},
                {"name": "seller_id", "type": "int"},
                {"name": "paid_on", "type": "date"},
                {"name": "amount", "type": "int"},
            ],
        },
    ],
}
_TILL = {
    "name": "till",
    "connector": "mysql",
    "connection": "till",
    "entities": [
        {
            "name": "clerks",
            "extract": {"mode": "full_snapshot", "table": "clerks"},
            "key": ["clerk_id"],
            "columns": [
                {"name": "clerk_id", "type": "int"},
                {"name": "name", "type": "string"},
            ],
        }
    ],
}
_DIM_CLERK = {
    "name": "dim_clerk",
    "entity": "till.clerks",
    "natural_key": {"clerk": "clerk_id"},
    "attributes": {"name": "name"},
}
STAR: dict[str, Any] = {
    "calendar": {"name": "dim_date", "start": FIRST, "end": date(2026, 12, 31)},
    "dimensions": [
        {
            "name": "dim_customer",
            "entity": "shop.customers",
            "natural_key": {"customer": "customer_id"},
            "attributes": {"name": "name", "town": "town"},
        },
        {
            "name": "dim_seller",
            "entity": "shop.sellers",
            "natural_key": {"seller": "seller_id"},
            "attributes": {"name": "name"},
            "effective_time": "changed_at",
            "deleted_when": "_operation = 'delete'",
        },
    ],
    "facts": [
        {
            "name": "fact_orders",
            "entity": "shop.orders",
            "grain": ["order_id"],
            "event_time": "ordered_at",
            "dimensions": [
                {"dimension": "dim_customer", "natural_key": {"customer": "customer_id"}}
            ],
            "columns": ["order_id"],
            "measures": ["amount"],
        },
        {
            "name": "fact_payments",
            "entity": "shop.payments",
            "grain": ["payment_id"],
            "event_time": "paid_on",
            "dimensions": [{"dimension": "dim_seller", "natural_key": {"seller": "seller_id"}}],
            "columns": ["payment_id"],
            "measures": ["amount"],
        },
    ],
}
_CONNECTIONS = {"shop": {"url": {"env": "SHOP_URL"}}, "till": {"url": {"env": "TILL_URL"}}}
_MART = """
{{ config(meta={'window': {'column': 'date'}}, contract={'enforced': false}) }}
select to_date(date_key::text, 'YYYYMMDD') as date, sum(amount) as amount
from {{ source('warehouse', 'fact_orders') }}
where {{ in_build('date_key', is_key=true) }}
group by date_key
"""


class Shop:
    """An installation, and the database that it reads from."""

    def __init__(self, made: Installation) -> None:
        self.made = made
        url = server.start(Home(made.home).postgres).uri("warehouse")
        with psycopg.connect(url, autocommit=True) as session:
            session.execute("create database shop")
        self.url = url.replace("/warehouse?", "/shop?")
        self.till = servers.mariadb() if mariadb_server.missing() is None else None
        self.write(_TABLES)
        if self.till is not None:
            self.ring("create or replace table clerks (clerk_id int primary key, name text)")
            self.ring("insert into clerks values (1, 'Flo'), (2, 'Gus')")

    def write(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute(statement)

    def ring(self, statement: str) -> None:
        """Write to the MariaDB."""
        assert self.till is not None
        with self.till.connect() as session, session.cursor() as cursor:
            cursor.execute(statement)

    @contextmanager
    def active(self) -> Iterator[None]:
        urls = {"SHOP_URL": self.url, "TILL_URL": self.till.url() if self.till else ""}
        with self.made.active(), mock.patch.dict(os.environ, urls):
            yield

    def backfill(self, start: date | None = FIRST, end: date | None = LAST) -> BackfillResult:
        with self.active():
            return run_backfill(start, end, select="*", only_stale=start is None, quiet=True)

    def orders(self) -> dict[int, tuple[object, ...]]:
        rows = self.made.sql(
            "select f.order_id, f.amount, c.town from warehouse.fact_orders as f"
            " inner join warehouse.dim_customer as c using (customer_key)"
        )
        return {int(row[0]): row[1:] for row in rows}


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with scratch_root() as root:
        made = installation.make(root, end=LAST + timedelta(days=1))
        sources, star = [_SOURCE], STAR
        if mariadb_server.missing() is None:
            sources.append(_TILL)
            star = {**STAR, "dimensions": [*STAR["dimensions"], _DIM_CLERK]}
        configure(made, sources, star)
        try:
            yield Shop(made)
        finally:
            installation.end(made)


def configure(
    made: Installation, sources: Sequence[Mapping[str, Any]], star: Mapping[str, Any]
) -> None:
    """Let an installation have some sources, a star with `fact_orders`, and a mart of it."""
    for folder in ("sources", "views"):
        shutil.rmtree(made.config / folder, ignore_errors=True)
    (made.config / "sources").mkdir()
    for source in sources:
        path = made.config / "sources" / f"{source['name']}.yaml"
        path.write_text(yaml.safe_dump(dict(source)))
    (made.config / "star.yaml").write_text(yaml.safe_dump(dict(star)))
    dbt = made.root / "dbt"
    shutil.copytree(REPOSITORY / "dbt", dbt)
    shutil.rmtree(dbt / "models")
    (dbt / "models" / "marts").mkdir(parents=True)
    declared = {"name": "warehouse", "schema": "warehouse", "tables": [{"name": "fact_orders"}]}
    of_dbt = {"version": 2, "sources": [declared]}
    (dbt / "models" / "sources.yml").write_text(yaml.safe_dump(of_dbt))
    (dbt / "models" / "marts" / "mart_daily.sql").write_text(_MART)
    overlay = made.config / "development.yaml"
    settings = yaml.safe_load(overlay.read_text())
    settings |= {"dbt_project": str(dbt), "connections": _CONNECTIONS}
    overlay.write_text(yaml.safe_dump(settings))


def test_tables_of_a_database_reach_the_warehouse(shop: Shop) -> None:
    with shop.active():
        done = install_triggers("shop", None, None)
        assert install_triggers("shop", "sellers", "SHOP_URL") != done
    result = shop.backfill()
    assert (result.exit_code, result.bad) == (0, ())
    orders = shop.orders()
    assert len(orders) == 9
    assert (str(orders[4][0]), orders[4][1]) == ("6.00", "Ulm")
    raw = shop.made.lake("raw.shop_orders")
    assert {row["tags"] for row in raw} == {"{a,b}"}


def test_a_second_run_finds_nothing_to_do(shop: Shop) -> None:
    before = len(shop.made.lake("raw.shop_orders"))
    assert shop.backfill().exit_code == 0
    assert len(shop.made.lake("raw.shop_orders")) == before
    assert shop.backfill(None, None).summary == "nothing is stale"


def test_changed_rows_reach_the_warehouse(shop: Shop) -> None:
    shop.write("update orders set amount = 100, updated_at = now() where order_id = 4")
    shop.write("update customers set town = 'Bonn' where customer_id = 2")
    assert shop.backfill().exit_code == 0
    orders = shop.orders()
    assert str(orders[4][0]) == "100.00"
    assert len(orders) == 9
    towns = shop.made.sql("select town from warehouse.dim_customer where customer = 2")
    assert {town for (town,) in towns} >= {"Bonn"}


def test_rows_that_were_deleted_are_deleted_in_the_star(shop: Shop) -> None:
    queries = {
        "customer": "select is_current from warehouse.dim_customer where customer = 3",
        # The days of this installation end before the delete.
        "seller": "select valid_to is null from warehouse.dim_seller where seller = 2",
        "payments": "select payment_id from warehouse.fact_payments order by 1",
    }
    if shop.till is not None:
        queries["clerk"] = "select is_current from warehouse.dim_clerk where clerk = 2"
        shop.ring("delete from clerks where clerk_id = 2")
    assert shop.made.sql(queries["payments"]) == [(n,) for n in range(1, 7)]
    shop.write("delete from customers where customer_id = 3")
    shop.write("update payments set paid_on = '2017-01-03', amount = 50 where payment_id = 1")
    shop.write(
        "delete from payments where payment_id in (2, 6); delete from sellers where name = 'Eve'"
    )
    assert shop.backfill().exit_code == 0
    found = {name: shop.made.sql(query) for name, query in queries.items()}
    assert found.pop("payments") == [(n,) for n in (1, 3, 4, 5)]
    assert {*map(str, found.values())} == {"[(False,)]"}
    moved = "select date_key, amount from warehouse.fact_payments where payment_id = 1"
    assert shop.made.sql(moved) == [(20170103, 50)]


def test_new_rows_are_pending_and_a_run_of_what_is_stale_captures_them(shop: Shop) -> None:
    shop.write(
        "insert into orders (order_id, customer_id, ordered_at, amount)"
        " values (50, 1, '2017-01-02 12:00+00', 5)"
    )
    result = shop.backfill(None, None)
    assert (result.exit_code, result.bad) == (0, ())
    assert str(shop.orders()[50][0]) == "5.00"
    assert shop.backfill(None, None).summary == "nothing is stale"


def test_a_reconciliation_repairs_raw_and_the_star_follows(shop: Shop) -> None:
    shop.write(
        "insert into orders (order_id, customer_id, ordered_at, amount, updated_at)"
        " values (60, 1, '2017-01-02 12:00+00', 7, '2020-01-01')"
    )
    shop.write("delete from orders where order_id = 3")
    with shop.active():
        project = load_project()
        os.environ.update(environment_of(project))
        job = build_definitions(project).resolve_job_def(RECONCILE_JOB)
        with dg.DagsterInstance.ephemeral() as instance:
            assert not job.execute_in_process(instance=instance, raise_on_error=False).success
            found = run_reconcile("shop", "orders", repair=True, quiet=True)
            assert job.execute_in_process(instance=instance).success
    (orders,) = found
    assert (orders.missing, orders.changed, orders.extra, orders.error) == (1, 0, 1, None)
    assert (exit_code(found), len(orders.repaired)) == (0, 2)
    assert shop.backfill(None, None).exit_code == 0
    star = shop.orders()
    assert str(star[60][0]) == "7.00"
    assert 3 not in star
    assert shop.backfill(None, None).summary == "nothing is stale"
    with shop.active():
        assert [table.table for table in audit_star(quiet=True) if not table.is_equal] == []


def test_the_sensor_asks_for_the_days_of_new_rows_once(shop: Shop) -> None:
    with shop.active():
        project = load_project()
        os.environ.update(environment_of(project))
        definitions = build_definitions(project)
        sensor = definitions.resolve_sensor_def("new_rows")
        with dg.DagsterInstance.ephemeral() as instance:

            def tick(cursor: str | None) -> dg.SensorResult:
                resources = dict(definitions.resources or {})
                with dg.build_sensor_context(instance, cursor, resources=resources) as context:
                    found = sensor(context)
                assert isinstance(found, dg.SensorResult)
                return found

            first = tick(None)
            assert not first.run_requests
            shop.write("update orders set amount = 6, updated_at = now() where order_id = 50")
            second = tick(first.cursor)
            (request,) = second.run_requests or ()
            assert request.tags["headrace/only"] == "stale"
            assert request.tags["dagster/partition"] == "2017-01-02"
            assert not tick(second.cursor).run_requests
    shop.backfill(None, None)
    assert str(shop.orders()[50][0]) == "6.00"


def test_a_source_that_is_down_is_named_and_what_else_is_stale_is_built(shop: Shop) -> None:
    url = shop.url
    shop.url = url.replace("/shop?", "/elsewhere?")
    result = shop.backfill(LAST, LAST)
    shop.url = url
    assert result.exit_code == 3
    said = {bad.asset: bad.why for bad in result.bad}
    assert "there is no such database" in said["raw/shop_orders"]
    assert "elsewhere" not in str(said)
    assert shop.backfill(None, None).exit_code == 0
