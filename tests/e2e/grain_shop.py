"""The repository's shop with files that have no date in their names, and sales of any grain."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import HEADER, Installation, line

_PRODUCTS = (
    "product_id,manufacturer_id,department,brand,product_category,product_type,package_size,"
    "operation,changed_at"
)
_HOUSEHOLDS = (
    "household_id,age,income,home_ownership,marital_status,household_size,household_comp,"
    "kids_count,operation,changed_at"
)
CATALOGUE = ("products", "households", "stores")


@contextmanager
def grain_shop(end: date, partition: str | None, *, dated: str = "") -> Iterator[Installation]:
    """An installation whose days end before `end`.

    Args:
        end: The first day that does not exist.
        partition: Of the sales; None: as it is by default.
        dated: A date pattern of the sales' file names, such as %Y-%m; without one, their rows say
            their days.
    """
    with scratch_root() as root:
        made = installation.make(root, end=end)
        path = made.config / "sources" / "retail.yaml"
        source = yaml.safe_load(path.read_text())
        for entity in source["entities"]:
            _change(entity, partition, dated)
        path.write_text(yaml.safe_dump(source))
        try:
            yield made
        finally:
            installation.end(made)


def _change(entity: dict[str, Any], partition: str | None, dated: str) -> None:
    name = entity["name"]
    extract = entity["extract"]
    if name in CATALOGUE:
        extract["path"] = f"{name}.csv"
        del extract["missing_file"]
        return
    extract.pop("closed_on", None)
    extract["path"] = f"sales-{{date:{dated}}}.csv" if dated else "sales*.csv"
    if not dated:
        extract.pop("missing_file", None)
        extract["partition_by"] = entity.pop("event_time")
    if partition is not None:
        entity["partition"] = partition


def deliver(shop: Installation, name: str, lines: Sequence[str]) -> Path:
    """Write a file into the landing zone, as it stands."""
    target = shop.landing / name
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}")
    scratch.write_text("\n".join([*lines, ""]))
    scratch.replace(target)
    return target


def sales(days: Sequence[date], *, sales_value: str = "1.50", product: int = 1) -> list[str]:
    """A file of two sales a day."""
    return [
        HEADER,
        *(
            line(day, day.toordinal() * 10 + n, product=product, sales=sales_value)
            for day in days
            for n in (1, 2)
        ),
    ]


def every(first: date, last: date, step: int = 1) -> list[date]:
    """Days from the first to the last."""
    return [first + timedelta(days=n) for n in range(0, (last - first).days + 1, step)]


def deliver_catalogue(shop: Installation) -> None:
    """Products, households and stores, each in one file without a date."""
    files = {
        "products.csv": [
            _PRODUCTS,
            "1,10,GROCERY,National,BREAD,ROLLS,6 CT,I,2017-01-01 00:00:00",
            "2,10,DAIRY,Private,MILK,,,I,2017-01-01 00:00:00",
        ],
        "households.csv": [
            _HOUSEHOLDS,
            "1,35-44,50-74K,Homeowner,Married,2,2 Adults No Kids,0,I,2017-01-01 00:00:00",
        ],
        "stores.csv": ["store_id,store_name,region", "7,Store 7,North"],
    }
    for name, lines in files.items():
        deliver(shop, name, lines)
