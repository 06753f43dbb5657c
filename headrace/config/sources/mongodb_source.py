"""Models of sources whose entities are collections of MongoDB."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from headrace.config.entities.columns import TIMES
from headrace.config.entities.entity import SourceConfig
from headrace.config.entities.extract import Extract
from headrace.config.model import ColumnName, Name, did_you_mean, tag_of
from headrace.config.sources.json_paths import json_path, require_column_paths
from headrace.config.sources.table_source import (
    DURATION,
    CursorExtract,
    DatabaseEntity,
    SnapshotExtract,
    TimeCursorExtract,
    duration_of,
)

_OVERLAP = (
    "How far a capture reads back, since MongoDB does not say which writes are still to come: at "
    "least as much as the clocks of clients differ, a transaction lasts (60 s by default) and a "
    "replica that is read lags behind."
)
_INTEGERS = ("int", "bigint")


class CollectionExtract(Extract):
    """The documents of a collection or a view."""

    collection: str = Field(
        min_length=1,
        pattern=r"^[^$\x00]+$",
        description="A collection or a view of the URL's database.",
        examples=["orders"],
    )
    database: str | None = Field(
        None,
        min_length=1,
        pattern=r"^[^/\\. \x22$*<>:|?\x00]+$",
        description="Its database, if that is not the URL's.",
    )
    children: str | None = Field(
        None,
        description="JSONPath of an array in each document, whose elements are the rows. A "
        "column's `from` is then a member of the element, a path in it (`@.price.amount`, `@` for "
        "the element itself), a path in its document (`$._id`), or `{index}`, the element's place "
        "in the array, from 0.",
        examples=["$.items[*]"],
    )
    ignored: tuple[str, ...] = Field(
        (),
        description="Fields of a document (or of an element of `children`) that no column reads, "
        "such as an array that is an entity of its own.",
        examples=[["items", "__v"]],
    )
    extra_columns: Literal["fail", "ignore"] = Field(
        "fail",
        description="A document with another field that no column reads fails its partition, or "
        "loses that field. With `ignore`, only the declared fields are read.",
    )

    @field_validator("children")
    @classmethod
    def _is_a_path_in_a_document(cls, value: str | None) -> str | None:
        return value if value is None else json_path(value)

    @property
    def object_names(self) -> tuple[str, ...]:
        """See Extract."""
        ignored = (self.extra_columns, *self.ignored)
        return (self.database or "", self.collection, self.children or "", *ignored)


class CollectionFullExtract(CollectionExtract):
    """A collection that is read whole, or whole partitions of it, at each capture."""

    mode: Literal["full"] = Field(description="All documents of the partitions that are captured.")
    partition_by: ColumnName | None = Field(
        None,
        description="Column with a BSON date whose day is the row's partition. A capture reads the "
        "documents of its partitions, which replace what these held. Without it the collection is "
        "reference data: its first state belongs to the first partition, each later state that "
        "differs to the day on which it was read.",
    )


class CollectionSnapshotExtract(SnapshotExtract, CollectionExtract):
    """A collection that is read whole at each capture; a key that a later one lacks was deleted."""

    mode: Literal["full_snapshot"] = Field(
        description="The whole collection. Dimensions of the entity have `full_snapshot: true`: "
        "members that a later capture lacks were deleted."
    )


class CollectionWatermarkExtract(TimeCursorExtract, CollectionExtract):
    """A collection of which each capture reads the documents that changed since the one before."""

    mode: Literal["watermark"] = Field(description="Documents that changed, by an update time.")
    cursor: ColumnName = Field(
        description="Column with a BSON date that each insert and update sets to the present. "
        "Documents without a date there are read at each capture."
    )
    overlap: str = Field(pattern=DURATION, description=_OVERLAP, examples=["2m", "10m", "1h"])


class CollectionIdExtract(CursorExtract, CollectionExtract):
    """A collection that documents are only added to, read by `_id`."""

    mode: Literal["increasing_id"] = Field(description="New documents, by `_id`.")
    cursor: ColumnName = Field(
        description="Column of `_id` (or of another field that never changes): a `string` that "
        "holds an ObjectId, which begins with the time of its making; or an `int` or `bigint` that "
        "grows with each document."
    )
    partition_by: ColumnName = Field(
        description="Column with a BSON date whose day is the row's partition."
    )
    overlap: str = Field(pattern=DURATION, description=_OVERLAP, examples=["2m", "10m", "1h"])

    @property
    def overlap_time(self) -> timedelta:
        """See CursorExtract."""
        return duration_of(self.overlap)

    def is_time(self, kind: str) -> bool:
        """See CursorExtract. An ObjectId says a time."""
        return kind not in _INTEGERS


AnyCollectionExtract = Annotated[
    Annotated[CollectionFullExtract, Tag("full")]
    | Annotated[CollectionSnapshotExtract, Tag("full_snapshot")]
    | Annotated[CollectionWatermarkExtract, Tag("watermark")]
    | Annotated[CollectionIdExtract, Tag("increasing_id")],
    Discriminator(tag_of("mode")),
]


class CollectionEntity(DatabaseEntity):
    """The documents of one collection, or the elements of an array in them."""

    extract: AnyCollectionExtract = Field(description="How it is read.")

    @model_validator(mode="after")
    def _columns_are_values(self) -> Self:
        require_column_paths(self.columns)
        for i, column in enumerate(self.columns):
            for name in column.source_names:
                if name.startswith("{") and name != "{index}":
                    raise ValueError(
                        f"columns[{i}].from: '{name}' stands for nothing: {{index}} does"
                    )
                if name.startswith(("@", "{")) and self.extract.children is None:
                    raise ValueError(
                        f"columns[{i}].from: '{name}' is of an element of extract.children, which "
                        "is not declared: a path in a document begins with $"
                    )
        return self

    @model_validator(mode="after")
    def _documents_are_selected_by_fields(self) -> Self:
        extract = self.extract
        named = {"partition_by": extract.partition_by}
        if isinstance(extract, CursorExtract):
            named["cursor"] = extract.cursor
        declared = {column.name: column for column in self.columns}
        for key, name in named.items():
            if name is None:
                continue
            if name not in declared:
                near = did_you_mean(name, declared)
                raise ValueError(
                    f"extract.{key}: {name}: not among the columns {', '.join(declared)}{near}"
                )
            column = declared[name]
            self._require_field(key, column.source_names)
            is_id = key == "cursor" and isinstance(extract, CollectionIdExtract)
            kinds = ("string", *_INTEGERS) if is_id else TIMES
            if self.captured_type(column) not in kinds:
                raise ValueError(
                    f"extract.{key}: '{name}' is captured as {self.captured_type(column)}: it must "
                    f"be {', '.join(kinds[:-1])} or {kinds[-1]}, by which documents are selected"
                )
        return self

    def _require_field(self, key: str, names: tuple[str, ...]) -> None:
        """Documents are selected by a field that has one name."""
        if len(names) > 1:
            raise ValueError(
                f"extract.{key}: documents are selected by one field: give it one name"
            )
        (name,) = names
        is_path = name.startswith("$")
        if self.extract.children is not None and not is_path:
            raise ValueError(
                f"extract.{key}: '{name}' is of an element: name a column whose `from` begins with "
                "$, a field of the document"
            )
        if not is_path and ("." in name or not name):
            raise ValueError(
                f"extract.{key}: MongoDB selects by no field with a dot in its name; the path of a "
                f"nested one is $.{name}"
            )
        if name == "$":
            raise ValueError(f"extract.{key}: '$' is the whole document: name one of its fields")


class MongoSource(SourceConfig):
    """Collections of MongoDB."""

    connector: Literal["mongodb"] = Field(
        description="The kind of source: `mongodb`, collections of MongoDB and of databases that "
        "speak its protocol."
    )
    connection: Name = Field(
        description="The database: one of `connections` in base.yaml or its overlays, whose URL "
        "begins with mongodb:// or mongodb+srv://."
    )
    entities: tuple[CollectionEntity, ...] = Field(
        min_length=1, description="Its collections, and arrays in their documents."
    )
