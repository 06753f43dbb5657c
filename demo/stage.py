"""Writes the demo's files to a folder."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from demo.journey import (
    DAY_AFTER_LAST,
    ENTITIES,
    FIRST_DAY,
    Delivery,
    Journey,
    deliver,
    find_journey,
)

Progress = Callable[[int, int], None]

_MANIFEST = ".staged.json"


@dataclass(frozen=True)
class LandedFile:
    """One file of the demo in a folder.

    Attributes:
        path: Path below the folder, with slashes.
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
    """The demo's files in a folder.

    Attributes:
        landing: The folder.
        files: All files of the demo, including unchanged ones.
        written: Number of files that this staging wrote.
    """

    landing: Path
    files: tuple[LandedFile, ...]
    written: int

    @property
    def new(self) -> str:
        """How many files there are, and how many were written."""
        return f"{len(self.files)} files, {self.written} of them new"

    @property
    def all_rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)

    def rows(self, entity: str) -> int:
        """Rows in all files of `transactions`, `products`, `households` or `stores`."""
        return sum(file.rows for file in self.files if file.path.startswith(f"{entity}/"))


@dataclass(frozen=True)
class NewFile:
    """A file to write.

    Attributes:
        path: Path below the folder, with slashes.
        rows: Its rows.
        content: Makes its bytes.
    """

    path: str
    rows: int
    content: Callable[[], bytes]


def stage_landing(
    landing: Path,
    *,
    start: date = FIRST_DAY,
    end: date = DAY_AFTER_LAST,
    entities: Collection[str] = ENTITIES,
    progress: Progress | None = None,
) -> StagedLanding:
    """Write all of the demo as CSV files, for the days from `start` to `end` (exclusive).

    The same wheel produces the same bytes. `demo.sources` stages the demo as `config/` reads it.

    Args:
        landing: The folder, created if missing; other files in it are unchanged.
        start: First day of sales.
        end: Day after the last day of sales.
        entities: Which of ENTITIES.
        progress: Called with (files done, all files) after each file.

    Raises:
        ConfigError: The demo's data is not installed.
    """
    journey = find_journey()
    recipe = f"{recipe_of(journey)} {start} {end} {' '.join(sorted(entities))}"
    if known := staged_before(landing, recipe):
        if progress:
            progress(len(known.files), len(known.files))
        return known
    deliveries = deliver(journey, start=start, end=end, entities=entities)
    return stage_files(landing, recipe, [csv_file(one) for one in deliveries], progress)


def csv_file(delivery: Delivery) -> NewFile:
    """The CSV file of a delivery."""
    return NewFile(delivery.path, delivery.table.num_rows, lambda: _as_csv(delivery.table))


def staged_before(folder: Path, recipe: str) -> StagedLanding | None:
    """The files of the last staging, if it was by this recipe and all are unchanged."""
    files = _read_manifest(folder, recipe)
    if files and all(file.is_in(folder) for file in files):
        return StagedLanding(folder, files, written=0)
    return None


def stage_files(
    folder: Path, recipe: str, files: Iterable[NewFile], progress: Progress | None = None
) -> StagedLanding:
    """Write files, and a manifest with their recipe.

    A file that is up to date is not written, and keeps its modification time. A file is renamed
    when it is complete.
    """
    landed = list(_land(folder, list(files), progress))
    found = tuple(file for file, _ in landed)
    manifest = {"recipe": recipe, "files": [asdict(file) for file in found]}
    _replace(folder / _MANIFEST, json.dumps(manifest).encode())
    return StagedLanding(folder, found, written=sum(is_new for _, is_new in landed))


def _land(
    folder: Path, files: list[NewFile], progress: Progress | None
) -> Iterator[tuple[LandedFile, bool]]:
    """Write the files with a thread for each core: Arrow releases Python's interpreter lock."""
    for parent in {(folder / file.path).parent for file in files}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        landed = pool.map(lambda file: _land_file(folder, file), files)
        for done, file in enumerate(landed, start=1):
            if progress:
                progress(done, len(files))
            yield file


def _land_file(folder: Path, file: NewFile) -> tuple[LandedFile, bool]:
    """Write a file if it differs; returns it, and whether it was written."""
    path, content = folder / file.path, file.content()
    is_new = not (path.exists() and path.read_bytes() == content)
    if is_new:
        _replace(path, content)
    found = path.stat()
    return LandedFile(file.path, file.rows, found.st_size, found.st_mtime_ns), is_new


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


def recipe_of(journey: Journey) -> str:
    """Identifies everything that the demo's rows and bytes depend on."""
    code = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        code.update(source.read_bytes())
    return f"{journey.version} {pa.__version__} {code.hexdigest()}"


def _read_manifest(landing: Path, recipe: str) -> tuple[LandedFile, ...]:
    """The files of the last staging with this recipe; empty without a record of one."""
    try:
        manifest = json.loads((landing / _MANIFEST).read_bytes())
        if manifest["recipe"] != recipe:
            return ()
        return tuple(LandedFile(**file) for file in manifest["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ()
