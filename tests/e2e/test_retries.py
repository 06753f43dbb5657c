"""The daily job tries days again whose error may pass by itself, and no others.

Only raw is run: whatever fails before it, no engine is needed to see what is tried again.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from headrace.config.loader import load_project
from headrace.project.connections import ledger_of
from headrace.project.home_setup import prepare_environment
from headrace.sources.landing.landing_zone import Landing
from platform_assets.definitions import build_definitions
from platform_assets.metadata import FOR_COMMANDS
from platform_assets.partitions import range_tags
from resources.landing import LandingResource
from tests.e2e.installation import FIRST, HEADER, Installation, good_lines

pytestmark = pytest.mark.e2e

ASSET = "raw/retail_transactions"
_listings: list[int] = []


class FilesComeLate(LandingResource):
    """The landing zone itself, into which a file is delivered before the second attempt."""

    path: str
    late_file: str

    def landing(self) -> Landing:
        _listings.append(1)
        if len(_listings) > 1 and self.late_file:
            Path(self.path).write_text(self.late_file, encoding="utf-8")
        return super().landing()


@pytest.fixture(scope="module")
def shop(long_shop: Installation) -> Installation:
    """One in which a day without a file is held, and tried again twice without delay."""
    source = long_shop.config / "sources/retail.yaml"
    document = yaml.safe_load(source.read_text())
    (transactions,) = (e for e in document["entities"] if e["name"] == "transactions")
    transactions["extract"]["missing_file"] = "hold"
    source.write_text(yaml.safe_dump(document))
    overlay = long_shop.config / "development.yaml"
    schedule = {"schedule": {"max_retries": 2, "retry_delay_seconds": 0}}
    overlay.write_text(overlay.read_text() + yaml.safe_dump(schedule))
    return long_shop


def _run_daily(
    shop: Installation, days: Sequence[date], late_file: str = "", *, only_stale: bool = False
) -> bool:
    """Run the daily job over `days`, or over the stale ones of them; whether it succeeded.

    `late_file` is what arrives for the second of the days once the first attempt has failed.
    """
    _listings.clear()
    with shop.active(), pytest.MonkeyPatch.context() as patch:
        for name, value in prepare_environment().items():
            patch.setenv(name, value)
        path = shop.landing / f"transactions/transactions-{days[1]}.csv"
        landing = FilesComeLate(uri=str(shop.landing), path=str(path), late_file=late_file)
        definitions = build_definitions(load_project(), {"landing": landing}, FOR_COMMANDS)
        with dg.DagsterInstance.get() as instance:
            return (
                definitions.resolve_job_def("daily")
                .execute_in_process(
                    instance=instance,
                    asset_selection=[dg.AssetKey(ASSET.split("/"))],
                    tags=range_tags(days[0], days[-1], only_stale=only_stale),
                    raise_on_error=False,
                )
                .success
            )


def _states(shop: Installation, days: Sequence[date]) -> list[str]:
    with shop.active():
        states = ledger_of(load_project()).states(ASSET, days)
    return [states[day].status for day in days]


def _three_days(first: int) -> list[date]:
    return [FIRST + timedelta(days=first + n) for n in range(3)]


def test_a_day_whose_file_comes_late_is_tried_again_and_published(shop: Installation) -> None:
    days = _three_days(0)
    shop.deliver(days[0], good_lines(days[0]))
    shop.deliver(days[2], good_lines(days[2]))
    assert _run_daily(shop, days, "\n".join([HEADER, *good_lines(days[1]), ""]))
    assert len(_listings) == 2
    assert _states(shop, days) == ["published", "published", "published"]
    assert [r["_partition_date"] for r in shop.lake("raw.retail_transactions")].count(days[1]) == 4


def test_a_day_that_stays_without_its_file_is_tried_as_often_as_the_schedule_says(
    shop: Installation,
) -> None:
    days = _three_days(3)
    shop.deliver(days[0], good_lines(days[0]))
    shop.deliver_bytes(days[2], b"not,the,columns\n")
    assert not _run_daily(shop, days)
    assert len(_listings) == 3
    assert _states(shop, days) == ["published", "held", "failed"]


def test_a_run_of_stale_days_does_not_wait_for_missing_files(shop: Installation) -> None:
    days = _three_days(9)
    shop.deliver(days[0], good_lines(days[0]))
    shop.deliver(days[2], good_lines(days[2]))
    assert not _run_daily(shop, days)
    assert not _run_daily(shop, days, only_stale=True)
    assert len(_listings) == 1
    assert _states(shop, days) == ["published", "held", "published"]
    status = shop.status()[ASSET]
    assert (status.held > 0, status.stale) == (True, 0)


def test_a_bad_file_is_not_tried_again_and_the_other_days_are_published(
    shop: Installation,
) -> None:
    days = _three_days(6)
    shop.deliver(days[0], good_lines(days[0]))
    shop.deliver(days[1], good_lines(days[1]))
    shop.deliver_bytes(days[2], b"not,the,columns\n")
    assert not _run_daily(shop, days)
    assert len(_listings) == 1
    assert _states(shop, days) == ["published", "published", "failed"]
