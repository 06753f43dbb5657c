"""`headrace scaffold star`: dimensions and facts of declared sources, by keys and samples."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml

from headrace.cli.sources.scaffold import scaffold_marts, scaffold_star
from headrace.config.loader import load_project
from headrace.errors import ConfigError
from tests import servers

BASE = "partitions: {start: 2024-01-01, end: 2024-01-10}\n"
FILES = """
name: shop
connector: files
entities:
  - name: products
    description: One state of a product.
    extract: {mode: files, path: "products-{date:%Y-%m-%d}.csv"}
    key: [product_id, changed_at]
    columns:
      - {name: product_id, type: bigint}
      - {name: label, type: string}
      - {name: valid_from, type: date}
      - {name: operation, type: string}
      - {name: changed_at, type: timestamp}
  - name: sales
    extract: {mode: files, path: "sales-{date:%Y-%m-%d}.csv"}
    key: [receipt_id, line]
    event_time: sold_at
    columns:
      - {name: receipt_id, type: bigint}
      - {name: line, type: int}
      - {name: sold_at, type: timestamp}
      - {name: product_id, type: bigint}
      - {name: clerk_id, type: bigint}
      - {name: clerk_name, type: string}
      - {name: amount, type: "decimal(12,2)"}
"""
TABLES = """
create table people (person_id int primary key, town text not null);
create table visits (
    visit_id int primary key, guest_id int not null references people,
    host_id int not null references people, began_at timestamptz not null, minutes int
);
insert into people select n, 'Town ' || n % 3 from generate_series(1, 30) as n;
insert into visits
select n, 1 + n % 30, 1 + n % 7, timestamptz '2024-01-01' + n * interval '1 hour', n
from generate_series(1, 100) as n;
"""
VISITS = """
name: club
connector: postgres
connection: club
entities:
  - name: people
    extract: {mode: full_snapshot, table: public.people}
    key: [person_id]
    columns: [{name: person_id, type: int}, {name: town, type: string}]
  - name: visits
    extract: {mode: full, table: public.visits, partition_by: began_at}
    key: [visit_id]
    columns:
      - {name: visit_id, type: int}
      - {name: guest_id, type: int}
      - {name: host_id, type: int}
      - {name: began_at, type: timestamptz}
      - {name: minutes, type: int}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with settings, and neither source nor star."""
    (tmp_path / "config/sources").mkdir(parents=True)
    (tmp_path / "config/base.yaml").write_text(BASE)
    (tmp_path / "home/landing").mkdir(parents=True)
    monkeypatch.setenv("HEADRACE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    return tmp_path


def scaffolded(project: Path) -> dict[str, Any]:
    """The proposed star, which the configuration accepts as it is."""
    text, facts = scaffold_star(1000, force=False, quiet=True)
    (project / "config/star.yaml").write_text(text)
    load_project()
    assert facts["checks"] == ["none"]
    found: dict[str, Any] = yaml.safe_load(text) | {"text": " ".join(text.replace("#", "").split())}
    return found


def test_a_change_feed_is_a_dimension_and_events_are_a_fact(project: Path) -> None:
    (project / "config/sources/shop.yaml").write_text(FILES)
    landing = project / "home/landing"
    for day in (date(2024, 1, 1) + timedelta(days=n) for n in range(3)):
        rows = [
            f"{n},Tea {n},{day},{'D' if n == 3 else 'U'},{day} 01:00:00\n" for n in range(1, 21)
        ]
        header = "product_id,label,valid_from,operation,changed_at\n"
        (landing / f"products-{day}.csv").write_text(header + "".join(rows))
        lines = [
            f"{n // 2},{n % 2},{day} 10:{n:02d}:00,{1 + n % 20},{n % 5},Clerk {n % 5},{n}.50\n"
            for n in range(40)
        ]
        header = "receipt_id,line,sold_at,product_id,clerk_id,clerk_name,amount\n"
        (landing / f"sales-{day}.csv").write_text(header + "".join(lines))
    star = scaffolded(project)
    (product,) = star["dimensions"]
    assert product == {
        "name": "dim_product",
        "description": "One state of a product.",
        "entity": "shop.products",
        "natural_key": {"product_id": "product_id"},
        "effective_time": "changed_at",
        "deleted_when": "operation = 'D'",
        "attributes": {"label": "label", "source_valid_from": "valid_from"},
    }
    (sales,) = star["facts"]
    assert (sales["grain"], sales["event_time"]) == (["receipt_id", "line"], "sold_at")
    assert sales["measures"] == ["amount"]
    joined = {"dimension": "dim_product", "natural_key": {"product_id": "product_id"}}
    assert sales["dimensions"] == [joined]
    assert "clerk_name: one value for each clerk_id in 100% of them" in star["text"]


def test_foreign_keys_of_a_database_join_a_dimension_in_two_roles(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, name = servers.postgres().uri("warehouse"), f"club_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"create database {name}")
    own = url.replace("/warehouse?", f"/{name}?")
    with psycopg.connect(own, autocommit=True) as session:
        session.execute(TABLES)
    monkeypatch.setenv("CLUB_URL", own)
    base = project / "config/base.yaml"
    base.write_text(f"{BASE}connections: {{club: {{url: {{env: CLUB_URL}}}}}}\n")
    (project / "config/sources/club.yaml").write_text(VISITS)
    star = scaffolded(project)
    (visits,) = star["facts"]
    assert visits["dimensions"] == [
        {"dimension": "dim_people", "natural_key": {"person_id": "guest_id"}},
        {"dimension": "dim_people", "natural_key": {"person_id": "host_id"}, "role": "host"},
    ]
    assert "a foreign key" in star["text"]


def test_marts_of_a_star_are_staging_models_sources_and_a_mart_by_day(project: Path) -> None:
    (project / "config/sources/shop.yaml").write_text(FILES.replace("amount", "order"))
    (project / "config/star.yaml").write_text(
        "calendar: {name: dim_date, start: 2024-01-01, end: 2024-12-31}\n"
        "dimensions:\n"
        "  - {name: dim_product, entity: shop.products, natural_key: {product_id: product_id},"
        " effective_time: changed_at, attributes: {label: label}}\n"
        "facts:\n"
        "  - {name: fact_sales, entity: shop.sales, grain: [receipt_id, line],"
        " dimensions: [{dimension: dim_product, natural_key: {product_id: product_id}}],"
        " measures: [order]}\n"
    )
    found = load_project()
    with pytest.raises(ConfigError, match="no dbt project is here"):
        scaffold_marts(found, force=False, dry_run=False)
    (project / "dbt").mkdir()
    (project / "dbt/dbt_project.yml").write_text("name: x\n")
    written = scaffold_marts(found, force=False, dry_run=False)
    models = project / "dbt/models"
    assert written == [
        "marts/_daily_marts.yml",
        "marts/mart_daily_sales.sql",
        "staging/_warehouse__sources.yml",
        "staging/stg_warehouse__date.sql",
        "staging/stg_warehouse__product.sql",
        "staging/stg_warehouse__sales.sql",
    ]
    # A column that SQL has as a word is between quotes.
    assert 'sum("order")::numeric(18,2) as "order"' in (models / written[1]).read_text()
    (declared,) = yaml.safe_load((models / written[2]).read_text())["sources"]
    columns = {table["name"]: table["columns"] for table in declared["tables"]}
    assert columns["dim_product"][0]["data_tests"] == [{"is_key": {"name": "dim_product_key"}}]
    assert "product_key" in [column["name"] for column in columns["fact_sales"]]
    with pytest.raises(ConfigError, match="is there already"):
        scaffold_marts(found, force=False, dry_run=False)


def test_a_star_that_is_there_is_not_replaced(project: Path) -> None:
    (project / "config/star.yaml").write_text("# edited\n")
    with pytest.raises(ConfigError, match=r"star\.yaml is there already"):
        scaffold_star(1000, force=False, quiet=True)


def test_sources_without_events_have_no_star(project: Path) -> None:
    text = FILES.partition("  - name: sales")[0]
    (project / "config/sources/shop.yaml").write_text(text)
    (project / "home/landing/products-2024-01-01.csv").write_text(
        "product_id,label,valid_from,operation,changed_at\n1,Tea,2024-01-01,U,2024-01-01 01:00:00\n"
    )
    with pytest.raises(ConfigError, match="no entity is a fact"):
        scaffold_star(1000, force=False, quiet=True)
