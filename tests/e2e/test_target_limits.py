"""Values and names beyond what Postgres takes: they cost their own day, or nothing at all."""

import random
import shutil
import string
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from unittest import mock

import pytest
import yaml
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headrace.cli.backfill import BackfillResult
from headrace.pipeline.processed import ProcessedStep
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
    "key": ["_source_position"],
    "event_time": "sold_on",
    "columns": [
        {"name": "customer", "type": "string"},
        {"name": "code", "type": "string"},
        {"name": "sold_on", "type": "date"},
        {"name": "rows", "type": "bigint"},
    ],
}
_MEMBERS = {
    "name": "members",
    "extract": {"mode": "files", "path": "members-{date:%Y-%m-%d}.csv"},
    "key": ["member"],
    "columns": [
        {"name": "member", "type": "bigint"},
        {"name": "name", "type": "string"},
        {"name": "since", "type": "timestamptz"},
    ],
    "transform": "tests.e2e.test_target_limits:spoiled",
}
# The last one lies in the year 10000, as UTC counts.
MEMBERS = {
    "good": "1,a,2017-01-01 00:00:00Z",
    "repeated": "2,spoil,2017-01-01 00:00:00Z",
    "null": "3,old,2017-01-01 00:00:00Z",
    "long": "4,b,1000-01-01 00:00:00+05:00",
    "after": "5,c,9999-12-31 23:30:00-05:00",
}
_FACT = {
    "entity": "shop.orders",
    "event_time": "sold_on",
    "grain": ["_source_position"],
    "columns": ["code"],
    "measures": ["rows"],
}
_LONG_NAME = "fact_a_very_long_name_of_a_thing_that_people_do_"
_JOIN = {"dimension": "dim_customer", "natural_key": {"customer": "customer"}}
_STAR = {
    "calendar": {"start": FIRST, "end": date(2017, 12, 31)},
    "dimensions": [
        {"name": "dim_customer", "entity": "shop.orders", "natural_key": {"customer": "customer"}},
        {
            "name": "dim_member",
            "entity": "shop.members",
            "natural_key": {"member": "member"},
            "attributes": {"name": "name", "since": "since"},
        },
    ],
    "facts": [
        {
            **_FACT,
            "name": _LONG_NAME,
            "dimensions": [{**_JOIN, "role": f"the_customer_who_pays_{n}"} for n in "ab"],
        },
        {**_FACT, "name": "fact_by_code", "grain": ["code"], "load": "upsert"},
        {
            **_FACT,
            "name": "fact_by_line",
            "columns": ["code", "_source_position"],
            "load": "upsert",
        },
    ],
}


def spoiled(rows: DataFrame) -> DataFrame:
    """A user's transform that makes what no file can have."""
    long_ago = F.timestamp_micros(F.lit(-220_000_000_000_000_000))
    name = F.when(F.col("name") == "spoil", F.lit("a\0b")).otherwise(F.col("name"))
    since = F.when(F.col("name") == "old", long_ago).otherwise(F.col("since"))
    return rows.withColumns({"since": since}).withColumns({"name": name})


def deliver_member(shop: Installation, day: date, row: str) -> None:
    (shop.landing / f"members-{day}.csv").write_text(f"member,name,since\n{row}\n")


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-limits-"))
    root.chmod(0o755)
    made = installation.make(root, end=date(2017, 2, 1))
    for folder in ("sources", "views"):
        shutil.rmtree(made.config / folder, ignore_errors=True)
    (made.config / "sources").mkdir()
    source = {"name": "shop", "connector": "files", "entities": [_ENTITY, _MEMBERS]}
    (made.config / "sources" / "shop.yaml").write_text(yaml.safe_dump(source))
    (made.config / "star.yaml").write_text(yaml.safe_dump(_STAR))
    for case, rows in ROWS.items():
        lines = [f"{row},{DAY[case]},{LARGEST}" for row in rows]
        text = "\n".join(["customer,code,sold_on,rows", *lines, ""])
        (made.landing / f"orders-{DAY[case]}.csv").write_text(text)
        deliver_member(made, DAY[case], MEMBERS[case])
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
    found = {
        (bad.asset, bad.partition): (bad.status, bad.why)
        for bad in run.bad
        if bad.asset == "warehouse/fact_by_code"
    }
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


def test_a_value_that_postgres_does_not_store_fails_its_day_alone_and_is_named(
    run: BackfillResult, shop: Installation
) -> None:
    found = {bad.partition: bad.why for bad in run.bad if bad.asset == "processed/shop_members"}
    assert {*found} == {DAY["repeated"], DAY["null"]}
    assert "name: 1 rows with a value that Postgres does not store" in found[DAY["repeated"]]
    assert f"members-{DAY['repeated']}.csv line 2" in found[DAY["repeated"]]
    assert "since: 1 rows with a value that Postgres does not store" in found[DAY["null"]]
    members = "select member, since::text from warehouse.dim_member where member > 0 order by 1"
    assert shop.sql(members) == [
        (1, "2017-01-01 00:00:00+00"),
        (4, "0999-12-31 19:00:00+00"),
        (5, "10000-01-01 04:30:00+00"),
    ]


def test_a_dimension_that_postgres_refuses_stops_no_other_table(
    run: BackfillResult, shop: Installation
) -> None:
    assert run.exit_code == 3
    day = DAY["after"] + timedelta(days=1)
    deliver_member(shop, day, "6,spoil,2017-01-01 00:00:00Z")
    text = f"customer,code,sold_on,rows\nc9,z,{day},1\n"
    (shop.landing / f"orders-{day}.csv").write_text(text)
    with mock.patch.object(ProcessedStep, "_unstorable", return_value={}):
        result = shop.backfill(day, day, select="+group:warehouse")
    [bad] = result.bad
    assert (bad.asset, bad.partition, bad.status) == ("warehouse/dim_member", day, "failed")
    assert "column name" in bad.why
    customers = "select count(*) from warehouse.fact_by_code where code = 'z'"
    assert shop.sql(customers) == [(1,)]
    deliver_member(shop, day, "6,d,2017-01-01 00:00:00Z")
    assert shop.backfill(day, day, select="+group:warehouse").exit_code == 0
    names = "select name from warehouse.dim_member where member in (1, 6) order by member"
    assert shop.sql(names) == [("a",), ("d",)]
