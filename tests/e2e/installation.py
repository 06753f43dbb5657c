"""A whole installation in a scratch folder: configuration, landing zone, databases, runs.

The configuration is the demo's from files, with a few days and a lenient share of quarantined rows.
"""

import gzip
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from headrace.cli.backfill import BackfillResult, run_backfill
from headrace.cli.query import run_query
from headrace.cli.status import AssetStatus, read_status
from headrace.config.loader import load_project
from headrace.embedded_postgres import server
from headrace.project.connections import lake_of
from headrace.project.home import Home
from tests import servers

REPOSITORY = Path(__file__).parents[2]
# The demo's configuration that needs no servers.
FILES_ONLY = REPOSITORY / "demo/files/config"
HEADER = (
    "household_id,store_id,basket_id,product_id,quantity,sales_value,retail_disc,coupon_disc,"
    "coupon_match_disc,week,transaction_timestamp"
)
FIRST = date(2017, 1, 1)


def line(day: date, basket: int, *, product: int = 1, sales: str = "1.50", **other: object) -> str:
    """One valid line of a transactions file, but for what `other` overrides."""
    values: dict[str, object] = {
        "household_id": 1,
        "store_id": 7,
        "basket_id": basket,
        "product_id": product,
        "quantity": 1,
        "sales_value": sales,
        "retail_disc": "0.00",
        "coupon_disc": "0.00",
        "coupon_match_disc": "0.00",
        "week": 1,
        "transaction_timestamp": f"{day} 12:00:00",
    }
    return ",".join(str(value) for value in {**values, **other}.values())


def good_lines(day: date, count: int = 4) -> list[str]:
    """Valid lines of different baskets."""
    return [line(day, day.toordinal() * 1000 + n) for n in range(count)]


@dataclass(frozen=True)
class Installation:
    """One HEADRACE_HOME with its configuration."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @contextmanager
    def active(self) -> Iterator[None]:
        """The environment in which Headrace works on this installation."""
        variables = {
            "HEADRACE_HOME": str(self.home),
            "HEADRACE_CONFIG": str(self.config),
            "PIPELINE_ENV": "development",
        }
        with mock.patch.dict(os.environ, variables):
            yield

    def deliver(self, day: date, lines: Sequence[str], *, name: str | None = None) -> Path:
        """Write a transactions file: header and lines."""
        return self.deliver_bytes(day, "\n".join([HEADER, *lines, ""]).encode(), name=name)

    def deliver_bytes(self, day: date, content: bytes, *, name: str | None = None) -> Path:
        """Write a transactions file as given."""
        return self._write(f"transactions/{name or f'transactions-{day}.csv'}", content)

    def deliver_gzip(self, day: date, lines: Sequence[str], *, cut: int = 0) -> Path:
        """Write a compressed transactions file, less its last `cut` bytes."""
        packed = gzip.compress("\n".join([HEADER, *lines, ""]).encode(), mtime=0)
        return self.deliver_bytes(
            day, packed[: len(packed) - cut], name=f"transactions-{day}.csv.gz"
        )

    def deliver_catalogue(self, day: date = FIRST) -> None:
        """Write the files of products, households and stores."""
        self._write(
            f"products/products-{day}.csv",
            b"product_id,manufacturer_id,department,brand,product_category,product_type,"
            b"package_size,operation,changed_at\n"
            b"1,10,GROCERY,National,BREAD,ROLLS,6 CT,I,2017-01-01 00:00:00\n"
            b"2,10,DAIRY,Private,MILK,,,I,2017-01-01 00:00:00\n",
        )
        self._write(
            f"households/households-{day}.csv",
            b"household_id,age,income,home_ownership,marital_status,household_size,"
            b"household_comp,kids_count,operation,changed_at\n"
            b"1,35-44,50-74K,Homeowner,Married,2,2 Adults No Kids,0,I,2017-01-01 00:00:00\n"
            b"2,,,,,,,,I,2017-01-01 00:00:00\n",
        )
        self._write(f"stores/stores-{day}.csv", b"store_id,store_name,region\n7,Store 7,North\n")

    def backfill(self, start: date, end: date, *, select: str = "*") -> BackfillResult:
        """Run the days from `start` to `end`, both included."""
        with self.active():
            return run_backfill(start, end, select=select, quiet=True)

    def sql(self, query: str, *, write: bool = False) -> list[tuple[Any, ...]]:
        """Rows of a query on the warehouse."""
        with self.active():
            return list(run_query(query, write=write).rows)

    def status(self) -> dict[str, AssetStatus]:
        """Status by asset."""
        with self.active():
            return {asset.asset: asset for asset in read_status()}

    def lake(self, table: str) -> list[dict[str, Any]]:
        """All rows of a lake table, such as `raw.retail_transactions`."""
        with self.active():
            rows = lake_of(load_project()).table(*table.split(".")).scan().batches()
            found: list[dict[str, Any]] = rows.read_all().to_pylist()
            return found

    def _write(self, path: str, content: bytes) -> Path:
        target = self.landing / path
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}")
        scratch.write_bytes(content)
        scratch.replace(target)
        return target


def make(root: Path, *, end: date, config: Path = FILES_ONLY) -> Installation:
    """A new installation whose days go from 2017-01-01 up to, not including, `end`.

    Its Postgres runs; that a first command starts one is the tutorial's to show.
    """
    made = Installation(root)
    shutil.copytree(config, made.config)
    made.landing.mkdir(parents=True)
    development = {
        "partitions": {"end": end},
        "dbt_project": str(REPOSITORY / "demo/files/dbt"),
        # They deliver and run at once, and files come whole.
        "sensor": {"settle_seconds": 0},
    }
    (made.config / "development.yaml").write_text(yaml.safe_dump(development))
    source = made.config / "sources" / "retail.yaml"
    text = source.read_text().replace("max_quarantined_share: 0.01", "max_quarantined_share: 0.5")
    # Tests deliver the days that they are about.
    text = text.replace('closed_on: ["12-25"]', "missing_file: empty")
    source.write_text(text)
    servers.start_postgres(Home(made.home).postgres)
    return made


def end(installation: Installation) -> None:
    """Stop its servers."""
    server.stop(Home(installation.home).postgres)
