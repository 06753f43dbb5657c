"""Do the demo's tables hold the year, to the cent, the day and the version? Run after `make demo`.

Reads from outside: the warehouse through `headrace sql`, the quarantine with PyIceberg alone, the
receipts' files, and the changes of members as files, for what a member was when something was sold.
"""

import csv
import json
import os
import subprocess
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyiceberg.table import StaticTable

from demo.stage import stage_landing
from demo.truth import Version, read_versions

NET_SALES = Decimal("4596039.58")
DAYS = 366
EMPTY_DAY = "2017-12-25"
WITHOUT_WEATHER = "select count(*) as n from marts.mart_store_hour_weather where sky is null"
LEDGER = """
    select partition::text as day, status, rows_out
    from platform.partition_ledger
    where asset = 'processed/retail_transactions'
"""


# Of the members that changed: each version, and the lines sold in its time.
VERSIONS = """
    select dim.{member}::text as member, dim.valid_from::text, coalesce(dim.valid_to::text, '') as
           valid_to, coalesce(dim.{shown}, '') as shown, count(fact.date_key) as lines
    from warehouse.{dimension} as dim left join warehouse.fact_sales as fact using ({key})
    where dim.{member} in (
        select {member} from warehouse.{dimension} group by {member} having count(*) > 1
    )
    group by 1, 2, 3, 4
"""
DIMENSIONS = {
    "dim_product": ("products", "product_id", "product_id", "package_size"),
    "dim_customer": ("households", "household_id", "customer_id", "income"),
}


def main() -> int:
    """Compare what the demo published with what its files hold; 0 when they agree."""
    home = Path(os.environ.get("HEADRACE_HOME", ".headrace"))
    return max(compare_totals(home), compare_history(home / "landing"))


def compare_totals(home: Path) -> int:
    """Net sales and days; 0 when they are as the data set has them."""
    sold = query("select sum(sales_value)::text as total from warehouse.fact_sales")[0]["total"]
    quarantined = quarantined_sales(home)
    days = query(LEDGER)
    found = {
        "net sales of fact_sales and quarantine": Decimal(sold) + quarantined,
        "days in the ledger": len(days),
        "days not published": [row["day"] for row in days if row["status"] != "published"],
        "days published empty": [row["day"] for row in days if row["rows_out"] == 0],
        "hours of stores without weather": query(WITHOUT_WEATHER)[0]["n"],
    }
    wanted = dict(zip(found, (NET_SALES, DAYS, [], [EMPTY_DAY], 0), strict=True))
    for name, value in found.items():
        verdict = "as expected" if value == wanted[name] else f"expected {wanted[name]}"
        print(f"{name}: {value} ({verdict})")
    return 0 if found == wanted else 1


def compare_history(landing: Path) -> int:
    """Versions of the members that changed, and what was sold in their time; 0 when all agree."""
    with TemporaryDirectory() as folder:
        changes = Path(folder)
        stage_landing(changes, entities=[name for name, *_ in DIMENSIONS.values()])
        changed = {
            key: {str(m): v for m, v in read_versions(changes, name, key).items() if len(v) > 1}
            for name, key, _, _ in DIMENSIONS.values()
        }
    sold = sold_of_each(landing, changed)
    differing = 0
    for dimension, (_, key, member, shown) in DIMENSIONS.items():
        expected: Counter[tuple[str, ...]] = Counter(
            (m, str(v.valid_from), str(v.valid_to or ""), v.attributes[shown], str(sold[key, m, n]))
            for m, versions in changed[key].items()
            for n, v in enumerate(versions)
        )
        surrogate = f"{dimension.removeprefix('dim_')}_key"
        statement = VERSIONS.format(dimension=dimension, member=member, shown=shown, key=surrogate)
        found = Counter(tuple(map(str, row.values())) for row in query(statement))
        wrong = (expected - found) + (found - expected)
        verdict = f"{wrong.total()} differ, such as {min(wrong)}" if wrong else "as expected"
        print(f"{dimension}: {len(changed[key])} changed, {expected.total()} versions ({verdict})")
        differing += wrong.total()
    return 1 if differing else 0


def sold_of_each(
    landing: Path, changed: Mapping[str, Mapping[str, list[Version]]]
) -> Counter[tuple[str, str, int]]:
    """By key column, member and number of the version: lines on receipts of its time.

    The lines are those that are not quarantined; ISO 8601 sorts as text. No sale falls between a
    member's leaving and coming back, so that the last version begun is the one of the time.
    """
    starts = {
        key: {member: [str(v.valid_from) for v in versions] for member, versions in some.items()}
        for key, some in changed.items()
    }
    sold: Counter[tuple[str, str, int]] = Counter()
    for path in (landing / "transactions").glob("*.csv"):
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                if int(line["quantity"]) <= 0 and float(line["sales_value"]):
                    continue
                for key, some in starts.items():
                    if begun := some.get(line[key]):
                        version = bisect_right(begun, line["transaction_timestamp"]) - 1
                        sold[key, line[key], version] += 1
    return sold


def query(statement: str) -> list[dict[str, Any]]:
    """Rows of the warehouse, by the command that a user would type."""
    command = [str(Path(sys.executable).with_name("headrace")), "sql", statement, "--json"]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows: list[dict[str, Any]] = json.loads(answer.stdout)
    return rows


def quarantined_sales(home: Path) -> Decimal:
    """Σ sales_value of the rows set aside, from the newest state of their table."""
    states = sorted(home.glob("**/quarantine/retail_transactions/metadata/*.metadata.json"))
    if not states:
        return Decimal(0)
    rows = StaticTable.from_metadata(str(states[-1])).scan(selected_fields=("sales_value",))
    values = rows.to_arrow()["sales_value"].to_pylist()
    return sum((Decimal(value) for value in values if value is not None), Decimal(0))


if __name__ == "__main__":
    sys.exit(main())
