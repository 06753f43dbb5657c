"""Holidays that are declared for a calendar that is published already."""

import pytest
import yaml

from tests.e2e.installation import FIRST
from tests.e2e.stale_shop import deliver, run, run_stale, stale, stale_shop

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_a_published_calendar_gets_the_columns_of_declared_holidays() -> None:
    with stale_shop(FIRST.replace(day=FIRST.day + 1), {"orders": "partition_replace"}) as shop:
        deliver(shop, "customers", FIRST, ["1,Ulm"])
        deliver(shop, "orders", FIRST, ["1,1,1.00"])
        assert run(shop, FIRST).exit_code == 0
        path = shop.config / "star.yaml"
        star = yaml.safe_load(path.read_text())
        star["calendar"]["business"] = {"country": "DE"}
        path.write_text(yaml.safe_dump(star))
        assert "curated/dim_date" in stale(shop)
        result = run_stale(shop)
        assert result.exit_code == 0, result.summary
        days = shop.sql(
            "select date_key, holiday, is_business_day from warehouse.dim_date"
            " where date_key between 20170414 and 20170418 order by date_key"
        )
        assert days == [
            (20170414, "Good Friday", False),
            (20170415, None, False),
            (20170416, None, False),
            (20170417, "Easter Monday", False),
            (20170418, None, True),
        ]
        assert stale(shop) == {}
