"""Writes the demo's files to a landing folder."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from demo.journey import DAY_AFTER_LAST, FIRST_DAY, Delivery, Journey, deliver, find_journey

Progress = Callable[[int, int], None]

_MANIFEST = ".staged.json"


@dataclass(frozen=True)
class LandedFile:
    """One file of the demo in the landing folder.

    Attributes:
        path: Path below the landing folder, with slashes.
        rows: Lines without the header.
        size_bytes: Its size.
        modified_ns: Its modification time, nanoseconds since 1970.
    """

    path: str
    rows: int
    size_bytes: int
    modified_ns: int

    def is_in(self, landing: Path) -> bool:
        """Whether the folder has this file unchanged, by size and modification time."""
        try:
            found = (landing / self.path).stat()
        except FileNotFoundError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.modified_ns)


@dataclass(frozen=True)
class StagedLanding:
    """The demo's files in a landing folder.

    Attributes:
        landing: The folder.
        files: All files of the demo, including unchanged ones.
        written: Number of files that this staging wrote.
    """

    landing: Path
    files: tuple[LandedFile, ...]
    written: int

    def rows(self, entity: str) -> int:
        """Rows in all files of `transactions`, `products`, `households` or `stores`."""
        return sum(file.rows for file in self.files if file.path.startswith(f"{entity}/"))


def stage_landing(
    landing: Path,
    *,
    start: date = FIRST_DAY,
    end: date = DAY_AFTER_LAST,
    progress: Progress | None = None,
) -> StagedLanding:
    """Write the demo's files for the days from `start` to `end` (exclusive).

    The same wheel produces the same bytes. A file that is up to date is not written, and keeps its
    modification time. A file is renamed when it is complete.

    Args:
        landing: The folder, created if missing; other files in it are unchanged.
        start: First day of sales.
        end: Day after the last day of sales.
        progress: Called with (files done, all files) after each file.

    Raises:
        ConfigError: The demo's data is not installed.
    """
    journey = find_journey()
    recipe = _recipe(journey, start=start, end=end)
    known = _read_manifest(landing, recipe)
    if known and all(file.is_in(landing) for file in known):
        if progress:
            progress(len(known), len(known))
        return StagedLanding(landing, known, written=0)
    landed = list(_land(landing, list(deliver(journey, start=start, end=end)), progress))
    files = tuple(file for file, _ in landed)
    manifest = {"recipe": recipe, "files": [asdict(file) for file in files]}
    _replace(landing / _MANIFEST, json.dumps(manifest).encode())
    return StagedLanding(landing, files, written=sum(is_new for _, is_new in landed))


def _land(
    landing: Path, deliveries: list[Delivery], progress: Progress | None
) -> Iterator[tuple[LandedFile, bool]]:
    """Write the files with a thread for each core: Arrow releases Python's interpreter lock."""
    for folder in {(landing / delivery.path).parent for delivery in deliveries}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        landed = pool.map(lambda delivery: _land_file(landing, delivery), deliveries)
        for done, file in enumerate(landed, start=1):
            if progress:
                progress(done, len(deliveries))
            yield file


def _land_file(landing: Path, delivery: Delivery) -> tuple[LandedFile, bool]:
    """Write a file if it differs; returns it, and whether it was written."""
    path, content = landing / delivery.path, _as_csv(delivery.table)
    is_new = not (path.exists() and path.read_bytes() == content)
    if is_new:
        _replace(path, content)
    found = path.stat()
    file = LandedFile(delivery.path, delivery.table.num_rows, found.st_size, found.st_mtime_ns)
    return file, is_new


def _as_csv(table: pa.Table) -> bytes:
    """CSV with a header, without quotes; Arrow fails if a value needs them."""
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink, csv.WriteOptions(quoting_style="none", quoting_header="none"))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _replace(path: Path, content: bytes) -> None:
    """Write to a temporary name, then rename, so that a sensor never sees a part of a file."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _recipe(journey: Journey, *, start: date, end: date) -> str:
    """Identifies everything that the bytes of the files depend on."""
    code = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        code.update(source.read_bytes())
    return f"{journey.version} {pa.__version__} {code.hexdigest()} {start} {end}"


def _read_manifest(landing: Path, recipe: str) -> tuple[LandedFile, ...]:
    """The files of the last staging with this recipe; empty without a record of one."""
    try:
        manifest = json.loads((landing / _MANIFEST).read_bytes())
        if manifest["recipe"] != recipe:
            return ()
        return tuple(LandedFile(**file) for file in manifest["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ()
