"""Commands of an installation in which nothing ran yet."""

import json
from collections.abc import Iterator
from datetime import date
from unittest import mock

import pytest
from typer.testing import CliRunner

from headrace.cli import app, backfill
from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import Installation

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    with scratch_root() as root:
        made = installation.make(root, end=date(2017, 1, 8))
        try:
            yield made
        finally:
            installation.end(made)


def headrace(shop: Installation, *arguments: str) -> tuple[int, str, str]:
    with shop.active():
        result = CliRunner().invoke(app.app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_status_names_every_declared_asset_before_any_run(shop: Installation) -> None:
    _, out, _ = headrace(shop, "status", "--json")
    found = {asset["asset"]: asset for asset in json.loads(out)}
    assert {"raw/retail_transactions", "warehouse/fact_sales", "marts/mart_customer_rfm"} <= {
        *found
    }
    assert {(a["never_built"], a["missing"], a["last_run"]) for a in found.values()} == {
        (True, 7, None)
    }
    code, out, err = headrace(shop, "status")
    assert (code, out) == (0, "")
    assert "nothing has run yet" in err


def test_a_backfill_of_what_is_stale_ends_at_once_where_nothing_is(shop: Installation) -> None:
    with mock.patch.object(backfill, "check_conditions", side_effect=AssertionError("was started")):
        code, out, err = headrace(shop, "backfill", "--stale")
    assert (code, out) == (0, "")
    assert err.splitlines()[0] == "nothing is stale"
