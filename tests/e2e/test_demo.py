"""The demo's own configuration over three days: files, a database and two APIs reach the marts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from demo import servers as demo_servers
from demo.apis.weather import weather_of
from demo.stage import stage_landing
from demo.truth import read_versions
from headrace.cli.demo import stage
from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import FIRST, REPOSITORY, Installation

pytestmark = pytest.mark.e2e

LAST = FIRST + timedelta(days=2)
END = LAST + timedelta(days=1)


@pytest.fixture(scope="module")
def demo() -> Iterator[Installation]:
    """The demo, built for three days."""
    with scratch_root() as root:
        made = installation.make(root, end=END, config=REPOSITORY / "config")
        overlay = made.config / "development.yaml"
        settings = yaml.safe_load(overlay.read_text()) | {"dbt_project": str(REPOSITORY / "dbt")}
        settings["connections"] = yaml.safe_load(
            (REPOSITORY / "config/development.yaml").read_text()
        )["connections"]
        overlay.write_text(yaml.safe_dump(settings))
        try:
            with made.active():
                stage()
            result = made.backfill(FIRST, LAST)
            assert (result.exit_code, result.bad) == (0, ())
            yield made
        finally:
            demo_servers.stop(made.home)
            installation.end(made)


def test_every_source_reaches_the_warehouse(demo: Installation) -> None:
    sold = demo.sql(
        "select date_key, count(*), sum(sales_value) from warehouse.fact_sales group by 1"
    )
    assert sorted(sold) == [
        (20170101, 3_098, Decimal("8759.90")),
        (20170102, 4_077, Decimal("12168.21")),
        (20170103, 4_106, Decimal("12212.04")),
    ]
    assert demo.sql("select count(*) from warehouse.dim_location where store_id > 0") == [(457,)]
    status = demo.status().values()
    assert [one.asset for one in status if one.missing or one.held or one.failed or one.stale] == []


@pytest.mark.parametrize(
    ("name", "key", "found_in", "shown"),
    [
        ("products", "product_id", "product_id, {} from warehouse.dim_product", "package_size"),
        ("households", "household_id", "customer_id, {} from warehouse.dim_customer", "income"),
    ],
)
def test_members_have_the_versions_that_files_of_their_changes_give(
    demo: Installation, tmp_path: Path, name: str, key: str, found_in: str, shown: str
) -> None:
    stage_landing(tmp_path, end=END, entities=[name])
    wanted = {
        (number, version.attributes[shown], version.valid_from, version.valid_to)
        for number, versions in read_versions(tmp_path, name, key).items()
        for version in versions
    }
    columns = f"coalesce({shown}, ''), valid_from, valid_to"
    found = demo.sql(f"select {found_in.format(columns)} where not is_inferred")
    members = [row for row in found if row[0] > 0]
    assert len(members) == len(wanted)
    assert {*members} == wanted


def test_an_hour_of_a_store_has_its_sales_and_the_weather_of_its_region(
    demo: Installation,
) -> None:
    total = "select count(*), count(celsius), sum(lines) from marts.mart_store_hour_weather"
    ((hours, with_weather, lines),) = demo.sql(total)
    assert (with_weather, lines) == (hours, 3_098 + 4_077 + 4_106)
    north = weather_of(55.0, -1.6, int(datetime(2017, 1, 2, 15, tzinfo=UTC).timestamp()))
    found = demo.sql(
        "select distinct celsius, sky from marts.mart_store_hour_weather"
        " where region = 'North' and sold_hour = '2017-01-02 15:00'"
    )
    celsius = round(Decimal(str(north["main"]["temp"])) - Decimal("273.15"), 1)
    assert found == [(celsius, north["weather"][0]["main"])]
