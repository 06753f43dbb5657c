"""What the tests of capture are built from: entities, deliveries, and raw as a list of files.

`Raw` stands where the lake's table stands: it appends what a capture staged and says what it
holds, by names of files alone.
"""

import gzip
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from headrace.config.settings import PartitionSettings
from headrace.config.sources.file_source import FileEntity
from headrace.raw.capture import CapturedWindow, capture
from headrace.raw.manifest import captured_versions, current_files
from headrace.raw.writer import DataFolder
from headrace.sources.base import CaptureRun, CaptureState
from headrace.sources.files.connector import FilesConnector
from headrace.sources.landing.landing_zone import LocalLanding
from headrace.staged import StagedFile

DAY = date(2017, 1, 1)
NEXT = date(2017, 1, 2)
FIRST = date(2016, 12, 31)
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

EXIST = PartitionSettings(start=FIRST)

HEADER = "id,name,amount"
FILE = "orders/orders-2017-01-01.csv"
NEXT_FILE = "orders/orders-2017-01-02.csv"


def entity(**changes: Any) -> FileEntity:
    """Orders by day: id, name, amount. `extract` replaces parts of the extract alone."""
    extract = {"mode": "files", "path": "orders/orders-{date:%Y-%m-%d}.csv"}
    extract |= changes.pop("extract", {})
    if "{date" in extract["path"] and not extract.keys() & {"expected_by", "expected_on"}:
        extract.setdefault("missing_file", "empty")
    columns = [
        {"name": "id", "type": "bigint"},
        {"name": "name", "type": "string"},
        {"name": "amount", "type": "decimal(12,2)"},
    ]
    document = {"name": "orders", "extract": extract, "key": ["id"], "columns": columns}
    return FileEntity.model_validate(document | changes)


def undated(**changes: Any) -> FileEntity:
    """Orders whose rows say their day."""
    columns = [
        {"name": "id", "type": "bigint"},
        {"name": "sold_at", "type": "timestamp", "formats": ["M/d/yyyy H:mm"]},
    ]
    extract = {"path": "orders/*.csv", "partition_by": "sold_at"}
    return entity(columns=columns, extract=extract, **changes)


class Raw:
    """A landing folder and what was captured from it, capture after capture."""

    def __init__(self, folder: Path, described: FileEntity) -> None:
        self.entity = described
        self.landing = folder / "landing"
        self.landing.mkdir()
        self.data = folder / "raw"
        self.files: dict[date, list[StagedFile]] = {}
        self.captures = 0

    def deliver(self, path: str, text: str | bytes, *, zipped: bool = False) -> Path:
        """Put a file into the landing folder, newer than every file before it."""
        content = text.encode() if isinstance(text, str) else text
        target = self.landing / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(content) if zipped else content)
        self.captures += 1
        os.utime(target, ns=(0, self.captures * 10**9))
        return target

    def capture(
        self,
        *days: date,
        publish: bool = True,
        at: datetime | None = None,
        settle: float = 0.0,
        is_first: bool = False,
        partitions: PartitionSettings = EXIST,
        **changes: Any,
    ) -> CapturedWindow:
        """Capture `days` (DAY without any) and append what was staged.

        `changes` are fields of the connector.
        """
        self.captures += 1
        run = CaptureRun(
            source="shop.orders",
            batch_id=f"batch-{self.captures}",
            captured_at=at or START + timedelta(seconds=self.captures),
            partitions=partitions,
        )
        folder = DataFolder(fs.LocalFileSystem(), str(self.data), f"file://{self.data}")
        captured = {day: captured_versions(files) for day, files in self.files.items()}
        connector = FilesConnector(
            self.entity, LocalLanding(self.landing), settle_seconds=settle, **changes
        )
        state = CaptureState(captured, is_first)
        window = capture(connector, self.entity, folder, state, days or (DAY,), run)
        for day, partition in window.staged.items() if publish else ():
            self.files.setdefault(day, []).extend(partition.files)
        return window

    def rows(self, day: date = DAY) -> list[dict[str, Any]]:
        """The rows that processed would read, by file and line."""
        tables = [read(file) for file in current_files(self.files.get(day, []))]
        rows = pa.concat_tables(tables).to_pylist() if tables else []
        return sorted(rows, key=lambda row: (row["_source_object"], row["_source_position"]))

    def values(self, column: str, day: date = DAY) -> list[Any]:
        """One column of `rows`."""
        return [row[column] for row in self.rows(day)]

    def on_disk(self) -> set[Path]:
        """Every data file there is, whether or not the table refers to it."""
        return set(self.data.rglob("*.parquet"))


def read(file: StagedFile) -> pa.Table:
    """A data file's rows."""
    with pq.ParquetFile(file.path.removeprefix("file://")) as parquet:
        return parquet.read()


def csv_text(rows: Sequence[str], header: str = HEADER) -> str:
    """A file of a header and lines."""
    return "\n".join([header, *rows, ""])


GOOD = csv_text(["1,a,10", "2,b,20"])


def errors(window: CapturedWindow) -> Mapping[date, str]:
    """What each failed day says, remedy included."""
    return {day: f"{error} | {error.fix}" for day, error in window.failed.items()}
