"""What is proposed for the tables of a database: keys, modes, cursors, types, by the catalog."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml

from headrace.assess.assessment import Assessment, assess
from headrace.assess.tables.samples import TableSamples
from headrace.config.sources.models import parse_source
from headrace.errors import ConfigError
from headrace.sources.connections import Connection
from tests import servers
from tests.contract.mysql_tables import require_mariadb

CANARY = "Zyxwina Canary"
_POSTGRES = """
create table customers (
    customer_id int primary key, full_name text not null, "Town" text, vip boolean,
    credit numeric, joined_at timestamptz, updated_at timestamptz
);
comment on table customers is 'One customer.';
comment on column customers.vip is 'Gets a gift.';
create function touch() returns trigger language plpgsql as
    $$ begin new.updated_at := now(); return new; end $$;
create table orders (
    order_id bigint primary key, order_no text not null unique,
    customer_id int not null references customers, ordered_at timestamptz not null,
    amount numeric(12, 2), note text, shipped_on text, updated_at timestamptz not null default now()
);
create trigger touch before update on orders for each row execute function touch();
create index on orders (updated_at);
create table order_lines (
    order_id bigint not null references orders, line int not null, quantity int not null,
    changed_at timestamp, primary key (order_id, line)
);
create table readings (
    reading_id bigint generated always as identity primary key, measured_at timestamptz not null,
    celsius real
);
create table settings (name text, value text);
create table limits (
    limit_id int primary key, any_size numeric, until timestamptz, account_id numeric
);
create table alembic_version (version_num text primary key);
create table empty_one (id int primary key);
create view towns as select distinct "Town" as town, vip from customers;
insert into customers
select n, 'Zyxwina Canary', 'Town ' || n % 5, n % 2 = 0, n * 1.25, now() - interval '9 days', null
from generate_series(1, 60) as n;
insert into orders (order_id, order_no, customer_id, ordered_at, amount, shipped_on)
select n, 'A' || n, 1 + n % 60, timestamptz '2024-01-01' + n * interval '1 hour', n * 1.5,
    to_char(date '2024-01-01' + n, 'DD.MM.YYYY')
from generate_series(1, 200) as n;
insert into order_lines select n, 1, 2, null from generate_series(1, 200) as n;
insert into readings (measured_at, celsius)
select timestamptz '2024-01-01' + n * interval '1 minute', n / 7.0
from generate_series(1, 300) as n;
insert into settings values ('a', '1'), ('a', '1');
insert into limits select n, n, 'infinity', n from generate_series(1, 3) as n;
insert into limits select n, n, now(), n from generate_series(4, 60) as n;
"""
_MARIADB = """
create table customers (
    customer_id int unsigned auto_increment primary key, full_name text not null, vip tinyint(1),
    grade tinyint(1)
);
create table orders (
    order_id bigint unsigned auto_increment primary key, customer_id int unsigned not null,
    ordered_at datetime not null, amount decimal(12, 2),
    updated_at timestamp default current_timestamp on update current_timestamp,
    foreign key (customer_id) references customers (customer_id)
);
insert into customers (full_name, vip, grade)
select 'Ada', seq % 2, seq % 5 from seq_1_to_40;
insert into orders (customer_id, ordered_at, amount)
select 1 + seq % 40, timestamp '2024-01-01 10:00:00' + interval seq hour, seq * 1.5
from seq_1_to_100
"""


class Assessed:
    """A database and what is proposed for it."""

    def __init__(self, url: str, tables: tuple[str, ...] = ()) -> None:
        source = TableSamples(Connection("shop", "SHOP_URL", lambda: url), tables)
        self.found: Assessment = assess(source, "shop", 1000)
        values: dict[str, Any] = yaml.safe_load(self.found.yaml)
        parse_source(values)
        self.source: Mapping[str, Any] = values
        self.entities = {entity["name"]: entity for entity in values["entities"]}

    def column(self, entity: str, name: str) -> dict[str, Any]:
        columns: list[dict[str, Any]] = self.entities[entity]["columns"]
        return next(column for column in columns if column["name"] == name)

    @property
    def words(self) -> str:
        """The YAML on one line, comments without their sign."""
        return " ".join(self.found.yaml.replace("#", "").split())


@pytest.fixture(scope="module")
def shop_url() -> str:
    url = servers.postgres().uri("warehouse")
    name = f"assessed_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"create database {name}")
    own = url.replace("/warehouse?", f"/{name}?")
    with psycopg.connect(own, autocommit=True) as session:
        session.execute(_POSTGRES)
        session.execute("analyze")
    return own


@pytest.fixture(scope="module")
def shop(shop_url: str) -> Assessed:
    return Assessed(shop_url)


def test_a_time_that_a_trigger_sets_is_the_cursor_of_a_watermark(shop: Assessed) -> None:
    assert shop.entities["orders"]["extract"] == {
        "mode": "watermark",
        "table": "public.orders",
        "cursor": "updated_at",
        "partition_by": "ordered_at",
    }
    assert "the database sets it at each update" in shop.words


def test_rows_that_a_sequence_numbers_are_read_by_their_id(shop: Assessed) -> None:
    extract = shop.entities["readings"]["extract"]
    assert (extract["mode"], extract["cursor"]) == ("increasing_id", "reading_id")
    assert extract["partition_by"] == "measured_at"


def test_small_tables_are_read_whole(shop: Assessed) -> None:
    extracts = {name: shop.entities[name]["extract"] for name in ("customers", "towns")}
    assert extracts["customers"] == {"mode": "full_snapshot", "table": "public.customers"}
    assert extracts["towns"] == {"mode": "full", "table": "public.towns"}


def test_keys_and_references_are_those_of_the_catalog(shop: Assessed) -> None:
    assert shop.entities["order_lines"]["key"] == ["order_id", "line"]
    assert "order_id refers to orders.order_id: a foreign key" in shop.words
    assert "order_no is unique too" in shop.words
    assert shop.entities["settings"]["key"][-1] == "_source_position"


def test_columns_have_the_types_of_the_database(shop: Assessed) -> None:
    assert shop.column("orders", "amount")["type"] == "decimal(12,2)"
    assert shop.column("customers", "credit") == {"name": "credit", "type": "decimal(12,2)"}
    assert shop.column("customers", "town") == {"name": "town", "from": "Town", "type": "string"}
    vip = {"name": "vip", "type": "boolean", "description": "Gets a gift."}
    assert shop.column("customers", "vip") == vip
    assert shop.column("orders", "order_no")["type"] == "string"
    shipped = {"type": "date", "source_type": "string", "formats": ["dd.MM.yyyy"]}
    found = shop.column("orders", "shipped_on")
    assert {name: found[name] for name in ("type", "source_type")} == {
        name: shipped[name] for name in ("type", "source_type")
    }
    assert shop.entities["customers"]["description"] == "One customer."


def test_whole_numbers_of_any_size_may_get_a_fraction_and_lost_rows_are_named(
    shop: Assessed,
) -> None:
    assert shop.column("limits", "any_size") == {"name": "any_size", "type": "decimal(38,10)"}
    assert shop.column("limits", "account_id")["source_type"] == "string"
    checks = " ".join(shop.found.checks)
    assert "limits: 3 rows of the sample would be quarantined: until: no timestamptz" in checks


def test_only_columns_that_are_never_null_in_the_database_are_required(shop: Assessed) -> None:
    assert shop.column("orders", "customer_id")["required"] is True
    assert "required" not in shop.column("orders", "amount")


def test_tables_without_rows_and_of_tools_are_named(shop: Assessed) -> None:
    notes = " ".join(shop.found.checks)
    assert "empty_one is left out, since no row of it can be read" in notes
    assert "public.alembic_version is left out" in notes


def test_personal_values_are_in_no_text(shop: Assessed) -> None:
    found = shop.found
    assert "customers.full_name: name of a person" in found.personal
    assert CANARY not in found.yaml + found.markdown + found.html


def test_a_user_who_sees_no_other_transactions_gets_an_overlap(shop_url: str) -> None:
    with psycopg.connect(shop_url, autocommit=True) as session:
        session.execute("create role assessor login")
        session.execute("grant select on orders to assessor")
    found = Assessed(shop_url.replace("postgres@", "assessor@"), ("orders",))
    assert found.entities["orders"]["extract"]["overlap"] == "1h"
    assert "grant it the role pg_read_all_stats" in found.words


def test_a_table_that_is_not_there_is_named(shop_url: str) -> None:
    with pytest.raises(ConfigError, match=r"there is no table called public\.nothing"):
        Assessed(shop_url, ("public.nothing",))


def test_tables_of_mariadb_have_their_keys_modes_and_types() -> None:
    server = require_mariadb()
    name = f"assessed_{uuid4().hex[:8]}"
    with server.connect() as session, session.cursor() as cursor:
        cursor.execute(f"create database {name} character set utf8mb4")
        cursor.execute(f"use {name}")
        for statement in _MARIADB.split(";"):
            cursor.execute(statement)
        session.commit()
    found = Assessed(server.url(database=name))
    assert found.source["connector"] == "mysql"
    extract = found.entities["orders"]["extract"]
    assert extract["mode"] == "watermark"
    assert (extract["cursor"], extract["partition_by"]) == ("updated_at", "ordered_at")
    assert found.column("orders", "order_id") == {"name": "order_id", "type": "bigint"}
    assert found.column("customers", "vip")["type"] == "boolean"
    assert found.column("customers", "grade")["type"] == "int"
    assert "customer_id refers to customers.customer_id: a foreign key" in found.words
