"""Values and names beyond what Postgres takes: they cost their own day, or nothing at all."""

import random
import shutil
import string
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml

from headrace.cli.runner import BackfillResult
from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation

pytestmark = pytest.mark.e2e

CASES = ("good", "repeated", "null", "long", "after")
DAY: Mapping[str, date] = {case: FIRST + timedelta(days=n) for n, case in enumerate(CASES)}
# Postgres compresses before it measures, so that a long text of one letter would fit.
NOISE = "".join(random.Random(3).choices(string.ascii_letters, k=5_000))  # noqa: S311
LARGEST = 2**63 - 1
# Customer, code of the order, and a count that no two of which fit a bigint.
ROWS = {
    "good": ("c1,a", "c1,b"),
    "repeated": ("c1,c", "c2,c"),
    "null": ("c1,", "c1,d"),
    "long": (f"{NOISE},e", f"c1,{NOISE}"),
    "after": ("c2,f", f"{NOISE},g"),
}
_ENTITY = {
    "name": "orders",
    "extract": {"mode": "files", "path": "orders-{date:%Y-%m-%d}.csv"},
    "key": ["_line"],
    "event_time": "sold_on",
    "columns": [
        {"name": "customer", "type": "string"},
        {"name": "code", "type": "string"},
        {"name": "sold_on", "type": "date"},
        {"name": "rows", "type": "bigint"},
    ],
}
_FACT = {
    "entity": "shop.orders",
    "event_time": "sold_on",
    "grain": ["_line"],
    "columns": ["code"],
    "measures": ["rows"],
}
_LONG_NAME = "fact_a_very_long_name_of_a_thing_that_people_do_"
_JOIN = {"dimension": "dim_customer", "natural_key": {"customer": "customer"}}
_STAR = {
    "calendar": {"start": FIRST, "end": date(2017, 12, 31)},
    "dimensions": [
        {"name": "dim_customer", "entity": "shop.orders", "natural_key": {"customer": "customer"}}
    ],
    "facts": [
        {
            **_FACT,
            "name": _LONG_NAME,
            "dimensions": [{**_JOIN, "role": f"the_customer_who_pays_{n}"} for n in "ab"],
        },
        {**_FACT, "name": "fact_by_code", "grain": ["code"], "load": "upsert"},
        {**_FACT, "name": "fact_by_line", "columns": ["code", "_line"], "load": "upsert"},
    ],
}


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-limits-"))
    root.chmod(0o755)
    made = installation.make(root, end=date(2017, 2, 1))
    for folder in ("sources", "views"):
        shutil.rmtree(made.config / folder, ignore_errors=True)
    (made.config / "sources").mkdir()
    source = {"name": "shop", "connector": "files", "entities": [_ENTITY]}
    (made.config / "sources" / "shop.yaml").write_text(yaml.safe_dump(source))
    (made.config / "star.yaml").write_text(yaml.safe_dump(_STAR))
    for case, rows in ROWS.items():
        lines = [f"{row},{DAY[case]},{LARGEST}" for row in rows]
        text = "\n".join(["customer,code,sold_on,rows", *lines, ""])
        (made.landing / f"orders-{DAY[case]}.csv").write_text(text)
    try:
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def run(shop: Installation) -> BackfillResult:
    return shop.backfill(DAY["good"], DAY["after"], select="+group:warehouse")


def test_days_whose_rows_have_no_key_are_held_and_no_other(run: BackfillResult) -> None:
    assert run.exit_code == 3
    found = {(bad.asset, bad.partition): (bad.status, bad.why) for bad in run.bad}
    wrong = {"repeated": "1 repeated", "null": "1 with NULL", "long": "1 with texts of over 2576"}
    assert {key: status for key, (status, _) in found.items()} == {
        ("warehouse/fact_by_code", DAY[case]): "held" for case in wrong
    }
    for case, why in wrong.items():
        assert why in found["warehouse/fact_by_code", DAY[case]][1]
        assert NOISE[:9] not in found["warehouse/fact_by_code", DAY[case]][1]


def test_the_other_days_and_tables_are_published(run: BackfillResult, shop: Installation) -> None:
    assert run.exit_code == 3
    codes = shop.sql("select length(code) from warehouse.fact_by_code order by 1")
    assert codes == [(1,)] * 4
    for table in ("fact_by_line", _LONG_NAME):
        sums = shop.sql(f"select count(*), sum(rows) from warehouse.{table}")
        assert sums == [(10, 10 * LARGEST)]
    lengths = shop.sql(
        f"select length(c.customer), count(*) from warehouse.{_LONG_NAME} as f"
        " join warehouse.dim_customer as c"
        " on c.customer_key = f.the_customer_who_pays_a_key"
        " and c.customer_key = f.the_customer_who_pays_b_key group by 1 order by 1"
    )
    assert lengths == [(2, 8), (5_000, 2)]
