"""Stages the demo as `config/` reads it: files, the shop's database, the catalogue's API."""

import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from demo import shop
from demo.apis.process import CATALOGUE
from demo.journey import DAY_AFTER_LAST, FIRST_DAY, Delivery, deliver, find_journey
from demo.servers import folder_of
from demo.shop import StagedTable
from demo.stage import (
    NewFile,
    Progress,
    StagedLanding,
    csv_file,
    recipe_of,
    stage_files,
    staged_before,
)

_STORES = "stores/stores.parquet"


@dataclass(frozen=True)
class StagedSources:
    """The demo's rows in its sources.

    Attributes:
        landing: Receipts as CSV, stores as Parquet.
        shop: Households in the shop's database.
        catalogue: The file of products that the catalogue's API serves.
    """

    landing: StagedLanding
    shop: StagedTable
    catalogue: StagedLanding

    @property
    def written(self) -> int:
        """How many files and rows this staging wrote."""
        return self.landing.written + self.shop.written + self.catalogue.written


def stage_sources(home: Path, landing: Path, progress: Progress | None = None) -> StagedSources:
    """Stage the year in files, the shop's database and the catalogue; what is there stays.

    Args:
        home: HEADRACE_HOME.
        landing: The landing folder; other files in it are unchanged.
        progress: Called with (files done, all files) after each file.

    Raises:
        ConfigError: The demo's data is not installed, or a database of that name is not the demo's.
    """
    journey = find_journey()
    recipe = recipe_of(journey)
    with ThreadPoolExecutor(1) as pool:
        # Creating the Postgres of a new home takes seconds.
        server = pool.submit(shop.start, home)
        landed = staged_before(landing, recipe)
        catalogue = staged_before(folder_of(home), recipe)
        table = shop.staged_before(server.result(), recipe) if landed and catalogue else None
        if landed and catalogue and table:
            if progress:
                progress(len(landed.files), len(landed.files))
            return StagedSources(landed, table, catalogue)
        found = list(deliver(journey, start=FIRST_DAY, end=DAY_AFTER_LAST))
        files = [csv_file(one) for one in found if one.entity == "transactions"]
        files += [_stores(one) for one in found if one.entity == "stores"]
        products = [one for one in found if one.entity == "products"]
        households = [one for one in found if one.entity == "households"]
        landed = stage_files(landing, recipe, files, progress)
        catalogue = stage_files(folder_of(home), recipe, [_catalogue(products)])
        return StagedSources(landed, shop.stage(server.result(), recipe, households), catalogue)


def _stores(delivery: Delivery) -> NewFile:
    def content() -> bytes:
        sink = io.BytesIO()
        pq.write_table(delivery.table, sink)
        return sink.getvalue()

    return NewFile(_STORES, delivery.table.num_rows, content)


def _catalogue(deliveries: Sequence[Delivery]) -> NewFile:
    """All changes of products, one JSON object a line, by the day on which they were recorded."""
    rows = sum(one.table.num_rows for one in deliveries)
    return NewFile(CATALOGUE, rows, lambda: b"".join(_json_lines(deliveries)))


def _json_lines(deliveries: Iterable[Delivery]) -> Iterable[bytes]:
    for one in deliveries:
        for row in one.table.to_pylist():
            record = {
                "recorded_on": str(one.day),
                **row,
                "changed_at": row["changed_at"].isoformat(),
            }
            yield json.dumps(record, separators=(",", ":")).encode() + b"\n"
