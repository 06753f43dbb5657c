"""Records of JSON documents as Arrow batches of text, one column at a time."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.config.columns import ColumnConfig
from headrace.errors import SourceRejectedError
from headrace.sources.corrupt_rows import (
    CORRUPT_REASON,
    CORRUPT_RECORD,
    set_aside,
    without_nuls,
)
from headrace.sources.lineage import POSITION
from headrace.sources.rest.client import Page
from headrace.sources.rest.json_paths import (
    MISSING,
    SinglePath,
    list_path,
    members,
    shown_name,
    single_path,
    walk,
)
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
        columns: The declared columns; `from` is a member's name or a path, see `column_path`.
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


def column_path(name: str) -> SinglePath:
    """The path of a column.

    `$…` from the record, `@…` from the row, `{…}` from the values of the list; otherwise the name
    of a member of the row.
    """
    if name.startswith("{"):
        return SinglePath(name, (name[1:-1],), "{")
    if name.startswith(("$", "@")):
        return single_path(name)
    return SinglePath(name, (name,), "@")


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
    building.check_columns()
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
        building.check_columns()
    return building.waiting


@dataclass
class _Building:
    shape: RecordShape
    name: str
    day: date | None
    waiting: int = 0
    _rows: int = 0
    _texts: dict[str, list[str | None]] = field(init=False)
    _found: set[str] = field(default_factory=set)
    _declared: frozenset[str] = field(init=False)
    _is_whole: bool = field(init=False)
    _has_children: bool = False

    def __post_init__(self) -> None:
        columns = self.shape.columns
        self._texts = {column.name: [] for column in columns}
        roots = "@" if self.shape.children else "$@"
        paths = [column_path(name) for column in columns for name in column.source_names]
        first = {str(path.steps[0]) for path in paths if path.steps and path.root in roots}
        self._declared = frozenset(first | {*self.shape.ignored})
        # A column that is the whole row loses no member of it.
        self._is_whole = any(not path.steps and path.root in roots for path in paths)

    def add(self, page: RecordPage) -> None:
        _require_objects(page.page, page.records, self.shape.records)
        rows, records = page.records, page.records
        if self.shape.children is not None:
            rows, records = self._children(page.page, page.records)
        if not rows:
            return
        self._refuse_extra(rows)
        for column in self.shape.columns:
            values = self._values(column, rows, records, page.values)
            self._texts[column.name] += _texts(values)
        self.waiting += len(rows)

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

    def check_columns(self) -> None:
        """Refuse a column that no row of the object has: its path is wrong, or it was renamed."""
        if not self._rows + self.waiting:
            return
        for column in self.shape.columns:
            if column.name not in self._found and not column.may_lack(self.day):
                raise SourceRejectedError(
                    f"{self.name}: column '{column.source_name}' is missing: no record has it",
                    fix="correct its path (from: $.address.city); declare its new name (from: "
                    "[old, new]), since when records have it (since: …) or that they may lack it "
                    "(optional: true)",
                )

    def _children(self, page: Page, records: list[Any]) -> tuple[list[Any], list[Any]]:
        path = list_path(f"@{str(self.shape.children)[1:]}")
        rows: list[Any] = []
        parents: list[Any] = []
        for record in records:
            found = path.values(record)
            if found is None and (there := walk(record, path.prefix)) is not MISSING:
                raise SourceRejectedError(
                    f"{page.url}: {self.shape.children} is {members(there)} in a record, and no "
                    "array",
                    fix="correct extract.children to the path of an array in each record",
                )
            rows += found or ()
            parents += [record] * len(found or ())
            self._has_children = self._has_children or found is not None
        if records and not self._has_children:
            raise SourceRejectedError(
                f"{page.url}: no record has {self.shape.children}; a record is "
                f"{members(records[0])}",
                fix="correct extract.children to the path of an array in each record",
            )
        _require_objects(page, rows, str(self.shape.children))
        return rows, parents

    def _refuse_extra(self, rows: Sequence[dict[str, Any]]) -> None:
        if self.shape.extra_columns == "ignore" or self._is_whole:
            return
        extra = set().union(*rows) - self._declared
        if extra:
            raise SourceRejectedError(
                f"{self.name}: column '{shown_name(min(extra))}' is not declared",
                fix="add it to columns; name it in extract.ignored if it is not wanted, or declare "
                "extra_columns: ignore",
            )

    def _values(
        self,
        column: ColumnConfig,
        rows: Sequence[Any],
        records: Sequence[Any],
        constants: Mapping[str, str],
    ) -> list[Any]:
        found: list[Any] | None = None
        for name in column.source_names:
            path = column_path(name)
            values = (
                [path.value(constants)] * len(rows)
                if path.root == "{"
                else _at(path, records if path.root == "$" else rows)
            )
            found = values if found is None else self._merged(column, found, values)
        values = found or []
        if column.name not in self._found and any(value is not MISSING for value in values):
            self._found.add(column.name)
        return values

    def _merged(self, column: ColumnConfig, first: list[Any], second: list[Any]) -> list[Any]:
        if any(a is not MISSING and b is not MISSING for a, b in zip(first, second, strict=True)):
            raise SourceRejectedError(
                f"{self.name}: column '{column.name}' is there as "
                f"{' and as '.join(column.source_names)}",
                fix="declare one name (from: …)",
            )
        return [b if a is MISSING else a for a, b in zip(first, second, strict=True)]


def _at(path: SinglePath, nodes: Sequence[Any]) -> list[Any]:
    if len(path.steps) == 1:
        (name,) = path.steps
        return [node.get(name, MISSING) for node in nodes]
    return [walk(node, path.steps) for node in nodes]


def _require_objects(page: Page, found: Sequence[Any], path: str) -> None:
    for number, one in enumerate(found):
        if not isinstance(one, dict):
            raise SourceRejectedError(
                f"{page.url}: element {number} of {path} is {members(one)}, and no object",
                fix="correct the path to that of an array of objects",
            )


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
        return _json(value)
    return None if value is MISSING else _scalar(value)


def _scalar(value: str | float | Decimal) -> str:
    if isinstance(value, bool | float):
        return json.dumps(value)  # A float is NaN or infinite: other numbers are Decimal.
    text = str(value)
    if "E" in text and isinstance(value, Decimal) and abs(value.adjusted()) <= _MOST_PLACES:
        return format(value, "f")
    return text


def _json(value: Any) -> str:
    """JSON without blanks; json.dumps would write a Decimal as a double."""
    if isinstance(value, dict):
        return f"{{{','.join([f'{_quoted(name)}:{_json(v)}' for name, v in value.items()])}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    if value is None:
        return "null"
    return _quoted(value) if isinstance(value, str) else _scalar(value)


_quoted = json.JSONEncoder(ensure_ascii=False).encode
