"""Rows of documents: the values of declared columns, one column at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from headrace.config.entities.columns import ColumnConfig
from headrace.errors import SourceRejectedError
from headrace.sources.documents.json_paths import (
    MISSING,
    SinglePath,
    list_path,
    members,
    shown_name,
    single_path,
    walk,
)

# `from: "{index}"`: the place of an element in its array, from 0.
INDEX = "{index}"


@dataclass(frozen=True)
class RowShape:
    """How documents become rows.

    Attributes:
        columns: The declared columns; `from` is a member's name or a path, see `column_path`.
        children: JSONPath of an array in each document, whose elements are the rows; None:
            documents are.
        extra_columns: Whether a member that no column reads is an error.
        ignored: Members that are no error.
        document: What a document is called in errors.
    """

    columns: tuple[ColumnConfig, ...]
    children: str | None = None
    extra_columns: Literal["fail", "ignore"] = "fail"
    ignored: tuple[str, ...] = ()
    document: str = "record"


def column_path(name: str) -> SinglePath:
    """The path of a column.

    `$…` from the document, `@…` from the row, `{…}` from values that are not in it; otherwise the
    name of a member of the row.
    """
    if name.startswith("{"):
        return SinglePath(name, (name[1:-1],), "{")
    if name.startswith(("$", "@")):
        return single_path(name)
    return SinglePath(name, (name,), "@")


@dataclass
class RowReader:
    """Reads the rows of one source object, some documents at a time.

    Attributes:
        shape: How documents become rows.
        name: The source object, for errors.
        day: The day of all rows, which says what columns they may lack.
        count: Rows so far.
    """

    shape: RowShape
    name: str
    day: date | None = None
    count: int = 0
    _documents: int = 0
    _found: set[str] = field(default_factory=set)
    _declared: frozenset[str] = field(init=False)
    _is_whole: bool = field(init=False)
    _has_children: bool = False
    _are_objects: bool = field(init=False)

    def __post_init__(self) -> None:
        roots = "@" if self.shape.children else "$@"
        names = [name for column in self.shape.columns for name in column.source_names]
        paths = [column_path(name) for name in names]
        first = {str(path.steps[0]) for path in paths if path.steps and path.root in roots}
        self._declared = frozenset(first | {*self.shape.ignored})
        # A column that is the whole row loses no member of it.
        self._is_whole = any(not path.steps and path.root in roots for path in paths)
        self._are_objects = not (self._is_whole and self.shape.children)

    def read(
        self, where: str, documents: list[Any], constants: Mapping[str, str] | None = None
    ) -> dict[str, list[Any]]:
        """By column, the value of each row; MISSING where there is none. {}: there are no rows.

        Args:
            where: The place of the documents, for errors.
            documents: Objects.
            constants: Values that are not in documents.

        Raises:
            SourceRejectedError: A document is not as declared.
        """
        rows, parents, places = self._rows_of(where, documents)
        self._documents += len(documents)
        if not rows:
            return {}
        self._refuse_extra(rows)
        self.count += len(rows)
        values: dict[str, list[Any]] = {}
        for column in self.shape.columns:
            known = constants or {}
            values[column.name] = self._values(column, rows, parents, known, places)
        return values

    def check_columns(self) -> None:
        """Refuse a column that no row of the object has: its path is wrong, or it was renamed."""
        if not self.count:
            return
        for column in self.shape.columns:
            if column.name not in self._found and not column.may_lack(self.day):
                kind = self.shape.document
                raise SourceRejectedError(
                    f"{self.name}: column '{column.source_name}' is missing: no {kind} has it",
                    fix="correct its path (from: $.address.city); declare its new name (from: "
                    f"[old, new]), since when {kind}s have it (since: …) or that they may lack it "
                    "(optional: true)",
                )

    def check_children(self, where: str, document: Any = MISSING) -> None:
        """Refuse an array that no document had so far: its path is wrong.

        Args:
            where: The place of the documents, for errors.
            document: One of them.
        """
        if self.shape.children is None or not self._documents or self._has_children:
            return
        kind = self.shape.document
        example = "" if document is MISSING else f"; a {kind} is {members(document)}"
        raise SourceRejectedError(
            f"{where}: no {kind} has {self.shape.children}{example}",
            fix=f"correct extract.children to the path of an array in each {self.shape.document}",
        )

    def _rows_of(
        self, where: str, documents: list[Any]
    ) -> tuple[list[Any], list[Any], Sequence[int]]:
        """Rows, the document of each, and its place in its array."""
        if self.shape.children is None:
            return documents, documents, ()
        path = list_path(f"@{self.shape.children[1:]}")
        rows: list[Any] = []
        parents: list[Any] = []
        places: list[int] = []
        for document in documents:
            found = path.values(document)
            if found is None and (there := walk(document, path.prefix)) is not MISSING:
                raise SourceRejectedError(
                    f"{where}: {self.shape.children} is {members(there)} in a "
                    f"{self.shape.document}, and no array",
                    fix="correct extract.children to the path of an array in each "
                    f"{self.shape.document}",
                )
            self._has_children = self._has_children or found is not None
            if found:
                rows += found
                parents += [document] * len(found)
                places += range(len(found))
        if self._are_objects:
            require_objects(where, rows, self.shape.children)
        return rows, parents, places

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
        parents: Sequence[Any],
        constants: Mapping[str, str],
        places: Sequence[int],
    ) -> list[Any]:
        found: list[Any] | None = None
        for name in column.source_names:
            path = column_path(name)
            if path.root == "{":
                is_place = name == INDEX and places
                values: list[Any] = [*places] if is_place else [path.value(constants)] * len(rows)
            else:
                is_row = path.root == "@"
                nodes = rows if is_row else parents
                values = _at(path, nodes, are_objects=self._are_objects or not is_row)
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


def _at(path: SinglePath, nodes: Sequence[Any], *, are_objects: bool) -> list[Any]:
    if len(path.steps) == 1 and are_objects:
        (name,) = path.steps
        return [node.get(name, MISSING) for node in nodes]
    return [walk(node, path.steps) for node in nodes]


def require_objects(where: str, found: Sequence[Any], path: str) -> None:
    """Refuse elements of a list that are no objects.

    Raises:
        SourceRejectedError: There is one.
    """
    for number, one in enumerate(found):
        if not isinstance(one, dict):
            raise SourceRejectedError(
                f"{where}: element {number} of {path} is {members(one)}, and no object",
                fix="correct the path to that of an array of objects",
            )
