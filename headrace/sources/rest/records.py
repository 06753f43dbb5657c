"""Records of JSON documents as Arrow batches of text, one column at a time."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.config.entities.columns import ColumnConfig
from headrace.errors import SourceRejectedError
from headrace.lineage_schema import POSITION
from headrace.sources.corrupt_rows import (
    CORRUPT_REASON,
    CORRUPT_RECORD,
    set_aside,
    without_nuls,
)
from headrace.sources.documents.json_paths import MISSING, list_path, members, walk
from headrace.sources.documents.json_text import json_text
from headrace.sources.documents.rows import RowReader, RowShape, require_objects
from headrace.sources.rest.client import Page
from headrace.sources.rest.paginators import RecordPage

# Pages are collected up to this many rows: a batch costs the same however few it has.
_BATCH_ROWS = 8_192
_DELIMITER = ","
_HALF_CHARACTER = "half of a character (a surrogate without the other one)"
# Numbers of more places than this are written with an exponent.
_MOST_PLACES = 40


@dataclass(frozen=True)
class RecordShape:
    """How documents become rows.

    Attributes:
        columns: The declared columns; `from` is a member's name or a path, see `column_path` of
            headrace.sources.documents.rows.
        records: JSONPath of the records in a page.
        children: JSONPath of an array in each record, whose elements are the rows; None: records
            are.
        extra_columns: Whether a member that no column reads is an error.
        ignored: Members that are no error.
    """

    columns: tuple[ColumnConfig, ...]
    records: str
    children: str | None = None
    extra_columns: Literal["fail", "ignore"] = "fail"
    ignored: tuple[str, ...] = ()

    @property
    def rows(self) -> RowShape:
        """How records become rows."""
        return RowShape(self.columns, self.children, self.extra_columns, self.ignored)

    def select(self, page: Page) -> list[Any]:
        """The records of a page.

        Raises:
            SourceRejectedError: It has no list of objects there.
        """
        path = list_path(self.records)
        found = path.values(page.document)
        if found is None:
            there = walk(page.document, path.prefix)
            what = f"there is no {path.prefix_text}"
            if there is not MISSING:
                what = f"{path.prefix_text} is {members(there)}, and no array"
            raise SourceRejectedError(
                f"{page.url}: {what}; the answer is {members(page.document)}",
                fix="correct extract.records to the path of the records, such as $.data[*]; "
                "records: $ with children reads an answer that is one record",
            )
        return found


def read_records(
    pages: Iterable[RecordPage], shape: RecordShape, name: str, day: date | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of all pages, in order: the declared columns as text, then the technical ones.

    Numbers keep all digits; true and false are texts; an object or array is its JSON.

    Args:
        pages: Pages of one list.
        shape: How they become rows.
        name: The source object, for errors.
        day: The day of all rows, which says what columns they may lack.

    Raises:
        SourceRejectedError: Records are not as declared.
    """
    building = _Building(shape, name, day)
    for page in pages:
        building.add(page)
        if building.waiting >= _BATCH_ROWS:
            yield building.batch()
    building.reader.check_columns()
    if building.waiting:
        yield building.batch()


def check_page(
    page: RecordPage, shape: RecordShape, name: str, day: date | None = None, *, is_all: bool
) -> int:
    """Check that the records of one page are as declared.

    Args:
        page: The page.
        shape: How it becomes rows.
        name: See `read_records`.
        day: See `read_records`.
        is_all: Whether the list has no other page: a column may be in later ones only.

    Returns:
        How many rows it has.

    Raises:
        SourceRejectedError: Records are not as declared.
    """
    building = _Building(shape, name, day)
    building.add(page)
    if is_all:
        building.reader.check_columns()
    return building.waiting


@dataclass
class _Building:
    shape: RecordShape
    name: str
    day: date | None
    waiting: int = 0
    _rows: int = 0
    _texts: dict[str, list[str | None]] = field(init=False)
    reader: RowReader = field(init=False)

    def __post_init__(self) -> None:
        self._texts = {column.name: [] for column in self.shape.columns}
        self.reader = RowReader(self.shape.rows, self.name, self.day)

    def add(self, page: RecordPage) -> None:
        where, records = page.page.url, page.records
        require_objects(where, records, self.shape.records)
        before = self.reader.count
        found = self.reader.read(where, records, page.values)
        if records:
            self.reader.check_children(where, records[0])
        for name, values in found.items():
            self._texts[name] += _texts(values)
        self.waiting += self.reader.count - before

    def batch(self) -> pa.RecordBatch:
        count = self.waiting
        broken = np.zeros(count, dtype=bool)
        columns = {name: _array(texts, broken) for name, texts in self._texts.items()}
        nothing = pa.nulls(count, pa.string())
        columns |= {CORRUPT_RECORD: nothing, CORRUPT_REASON: nothing}
        columns[POSITION] = pa.array(range(self._rows + 1, self._rows + count + 1), pa.int64())
        self._rows += count
        self.waiting = 0
        self._texts = {name: [] for name in self._texts}
        batch = without_nuls(pa.RecordBatch.from_pydict(columns), _DELIMITER)
        if broken.any():
            batch = set_aside(batch, broken, pa.scalar(_HALF_CHARACTER), _DELIMITER)
        return batch


def _array(texts: list[str | None], broken: npt.NDArray[np.bool_]) -> pa.StringArray:
    """Texts as Arrow; marks the rows with a text that UTF-8 cannot hold, and escapes it."""
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        escaped = [t and t.encode(errors="backslashreplace").decode() for t in texts]
        broken |= np.array([a != b for a, b in zip(texts, escaped, strict=True)])
        return pa.array(escaped, pa.string())


def _texts(values: list[Any]) -> list[str | None]:
    # Most values of a column are of one type, whose test then comes first.
    return [v if v is None or type(v) is str else _text(v) for v in values]


def _text(value: Any) -> str | None:
    if isinstance(value, dict | list):
        return json_text(value, _scalar)
    return None if value is MISSING else _scalar(value)


def _scalar(value: str | float | Decimal) -> str:
    if isinstance(value, bool | float):
        return json.dumps(value)  # A float is NaN or infinite: other numbers are Decimal.
    text = str(value)
    if "E" in text and isinstance(value, Decimal) and abs(value.adjusted()) <= _MOST_PLACES:
        return format(value, "f")
    return text
