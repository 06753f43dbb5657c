"""Do the demo's tables hold the year, to the cent and to the day? Run after `make demo`.

Reads from outside: the warehouse through `headrace sql`, the quarantine with PyIceberg alone.
"""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from pyiceberg.table import StaticTable

NET_SALES = Decimal("4596039.58")
DAYS = 366
EMPTY_DAY = "2017-12-25"
LEDGER = """
    select partition::text as day, status, rows_out
    from platform.partition_ledger
    where asset = 'processed/retail_transactions'
"""


def main() -> int:
    """Compare what the demo published with what its files hold; 0 when they agree."""
    sold = query("select sum(sales_value)::text as total from warehouse.fact_sales")[0]["total"]
    quarantined = quarantined_sales(Path(os.environ.get("HEADRACE_HOME", ".headrace")))
    days = query(LEDGER)
    found = {
        "net sales of fact_sales and quarantine": Decimal(sold) + quarantined,
        "days in the ledger": len(days),
        "days not published": [row["day"] for row in days if row["status"] != "published"],
        "days published empty": [row["day"] for row in days if row["rows_out"] == 0],
    }
    wanted = dict(zip(found, (NET_SALES, DAYS, [], [EMPTY_DAY]), strict=True))
    for name, value in found.items():
        verdict = "as expected" if value == wanted[name] else f"expected {wanted[name]}"
        print(f"{name}: {value} ({verdict})")
    return 0 if found == wanted else 1


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
