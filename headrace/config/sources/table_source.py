"""Models of sources whose entities are tables, views or queries of a database."""

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.entities.extract import Extract
from headrace.config.model import ColumnName, Name, did_you_mean, tag_of

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = r"^\d{1,6}[smhd]$"


def duration_of(text: str) -> timedelta:
    """The length of time that a text of DURATION says."""
    return timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])


class CursorExtract(Extract):
    """Rows that a capture has not read yet, by a column."""

    cursor: ColumnName = Field(description="Column that orders the rows as they were written.")

    @property
    def tells_new_rows(self) -> bool:
        """See Extract."""
        return True

    @property
    def states_deletes(self) -> bool:
        """See Extract. A reconciliation finds them."""
        return True

    @property
    def overlap_time(self) -> timedelta:
        """How far a capture reads back, of a cursor that says a time."""
        return timedelta()

    @property
    def overlap_ids(self) -> int:
        """How many ids a capture reads back, of a cursor that is an integer."""
        return 0

    def is_time(self, kind: str) -> bool:  # noqa: ARG002
        """Whether the cursor, a column of type `kind`, says a time; otherwise it is an integer."""
        return True


class TableExtract(Extract):
    """A table, a view or a query of a database."""

    table: str | None = Field(
        None,
        pattern=r"^[^.\s][^.]*(?:\.[^.]*[^.\s])?$",
        description="A table or a view: `schema.table`, or `table` by the session's search path. "
        "Of MySQL: `database.table`, or `table` of the URL's database.",
        examples=["public.orders"],
    )
    query: str | None = Field(
        None,
        min_length=1,
        description="A query instead of a table. Its conditions on partitions and on the cursor "
        "are added around it.",
        examples=["select o.*, c.region from orders as o join customers as c using (customer_id)"],
    )

    @model_validator(mode="after")
    def _reads_one_thing(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give table or query, one of them")
        return self

    @property
    def object_names(self) -> tuple[str, ...]:
        """See Extract."""
        return (self.table or "", self.query or "")


class FullExtract(TableExtract):
    """A table that is read whole, or whole partitions of it, at each capture."""

    mode: Literal["full"] = Field(description="All rows of the partitions that are captured.")
    partition_by: ColumnName | None = Field(
        None,
        description="Date or timestamp column whose day is the row's partition. A capture reads "
        "the rows of its partitions, which replace what these held. Without it the table is "
        "reference data: its first state belongs to the first partition, each later state that "
        "differs to the day on which it was read.",
    )


class SnapshotExtract(Extract):
    """Rows that are read whole at each capture; a key that a later one lacks was deleted."""

    mode: Literal["full_snapshot"] = Field(
        description="The whole table. Dimensions of the entity have `full_snapshot: true`: members "
        "that a later capture lacks were deleted."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.partition_by is not None:
            raise ValueError(
                "partition_by: a snapshot is the whole table at the time of its capture: drop it, "
                "or say mode: full"
            )
        return self

    @property
    def is_full_snapshot(self) -> bool:
        """See Extract."""
        return True


class FullSnapshotExtract(SnapshotExtract, TableExtract):
    """A table that is read whole at each capture; a key that a later one lacks was deleted."""


class TimeCursorExtract(CursorExtract):
    """Rows that changed, by a column that says when."""

    mode: Literal["watermark"] = Field(description="Rows that changed, by a time column.")
    cursor: ColumnName = Field(
        description="Date or timestamp column that each insert and update sets to the present. "
        "Rows in which it is NULL are read at each capture."
    )
    partition_by: ColumnName | None = Field(
        None,
        description="Date or timestamp column whose day is the row's partition; by default the "
        "cursor. It must not change while a row lives: the row would stay in its old partition "
        "too.",
    )
    overlap: str | None = Field(
        None,
        pattern=DURATION,
        description="How far a capture reads back behind the point up to which all rows are "
        "captured: as much as clocks of clients that set the cursor may be late. By default 10 "
        "minutes. It must be declared where the user of the connection does not see the "
        "transactions of others; then it also covers the longest transaction.",
        examples=["30s", "10m", "2h", "1d"],
    )

    @model_validator(mode="before")
    @classmethod
    def _cursor_says_the_day(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("partition_by") is not None:
            return values
        return values | {"partition_by": values.get("cursor")}

    @property
    def time_columns(self) -> dict[str, str]:
        """See Extract."""
        return {"extract.cursor": self.cursor, **super().time_columns}

    @property
    def overlap_time(self) -> timedelta:
        """`overlap`, or its default."""
        return duration_of(self.overlap or "10m")


class WatermarkExtract(TimeCursorExtract, TableExtract):
    """A table of which each capture reads the rows that changed since the one before."""


class IncreasingIdExtract(CursorExtract, TableExtract):
    """A table that rows are only added to, each with a greater id than all before it."""

    mode: Literal["increasing_id"] = Field(description="New rows, by an increasing id.")
    cursor: ColumnName = Field(
        description="Integer column that a sequence, identity or serial fills."
    )
    partition_by: ColumnName = Field(
        description="Date or timestamp column whose day is the row's partition."
    )
    overlap: int = Field(
        1000,
        ge=0,
        description="How many ids a capture reads back: as many as clients reserve ahead (`cache` "
        "of the sequence, `allocationSize` of an ORM) times their number.",
    )

    @property
    def overlap_ids(self) -> int:
        """See CursorExtract."""
        return self.overlap

    def is_time(self, kind: str) -> bool:  # noqa: ARG002
        """See CursorExtract."""
        return False


# Columns of a change table, beside those of its table; `from` names them.
CHANGE_COLUMNS = {"_change_id": "bigint", "_changed_at": "timestamptz", "_operation": "string"}
_LONGEST_NAME = 63
_CHANGES = "_changes"


class ChangeTableExtract(TableExtract):
    """A table of which triggers write every insert, update and delete to a change table."""

    mode: Literal["change_table"] = Field(
        description="Every change, deletes too, which triggers write to a change table: `headrace "
        "source triggers SOURCE` prints and installs them. Of PostgreSQL only."
    )
    changes: str | None = Field(
        None,
        pattern=r"^[^.\s][^.]*\.[^.]*[^.\s]$",
        description="The change table, `schema.table`. By default in the schema `headrace`, called "
        "after the table: `headrace.public_orders_changes`.",
        examples=["audit.orders_changes"],
    )
    partition_by: ColumnName | None = Field(
        None,
        description="Date or timestamp column whose day is the row's partition. Without it, "
        "changes belong to the day of their capture, and the table's first rows to the first day.",
    )

    @model_validator(mode="after")
    def _has_a_table(self) -> Self:
        if self.table is None:
            raise ValueError("query: triggers are on a table: give table")
        if self.changes is None and len(self._own_name.encode()) > _LONGEST_NAME:
            raise ValueError(
                f"changes: {self._own_name} is longer than {_LONGEST_NAME} bytes: name the change "
                "table"
            )
        return self

    @property
    def change_table(self) -> str:
        """Schema and name of the change table."""
        return self.changes or f"headrace.{self._own_name}"

    @property
    def _own_name(self) -> str:
        return str(self.table).replace(".", "_") + _CHANGES

    @property
    def tells_new_rows(self) -> bool:
        """See Extract."""
        return True

    @property
    def states_deletes(self) -> bool:
        """See Extract."""
        return True


AnyTableExtract = Annotated[
    Annotated[FullExtract, Tag("full")]
    | Annotated[FullSnapshotExtract, Tag("full_snapshot")]
    | Annotated[WatermarkExtract, Tag("watermark")]
    | Annotated[ChangeTableExtract, Tag("change_table")]
    | Annotated[IncreasingIdExtract, Tag("increasing_id")],
    Discriminator(tag_of("mode")),
]


class DatabaseEntity(EntityConfig):
    """What a database returns the rows of in no order of its own."""

    @property
    def change_columns(self) -> tuple[str, ...]:
        """Columns that are of a change and not of its row."""
        return ()

    @model_validator(mode="after")
    def _rows_have_a_key(self) -> Self:
        place = [name for name in self.key if name.startswith("_")]
        if isinstance(self.extract, CursorExtract) and place:
            raise ValueError(
                f"key: {', '.join(place)}: differs between captures of one row: name columns "
                "that identify a row of the table"
            )
        return self


class TableEntity(DatabaseEntity):
    """One table, view or query of a database."""

    extract: AnyTableExtract = Field(description="How it is read.")

    @model_validator(mode="after")
    def _days_are_of_rows(self) -> Self:
        by = self.extract.partition_by
        if isinstance(self.extract, ChangeTableExtract) and by in self.change_columns:
            raise ValueError(
                f"extract.partition_by: '{by}' is of a change, and no column of the table: leave "
                "partition_by out, and changes belong to the day of their capture"
            )
        return self

    @property
    def change_columns(self) -> tuple[str, ...]:
        """Columns that are of a change and not of its row."""
        if not isinstance(self.extract, ChangeTableExtract):
            return ()
        return tuple(c.name for c in self.columns if {*c.source_names} & {*CHANGE_COLUMNS})

    @model_validator(mode="after")
    def _ids_are_integers(self) -> Self:
        if isinstance(self.extract, IncreasingIdExtract):
            name = self.extract.cursor
            types = {column.name: column.type for column in self.columns}
            if name not in types:
                near = did_you_mean(name, types)
                raise ValueError(
                    f"extract.cursor: {name}: not among the columns {', '.join(types)}{near}"
                )
            if types[name] not in ("int", "bigint"):
                raise ValueError(f"extract.cursor: '{name}' is an id, and no int or bigint")
        return self


class DatabaseSource(SourceConfig):
    """Tables of a database."""

    connector: Literal["postgres", "mysql"] = Field(
        description="The kind of source, for tables, views and queries: `postgres`, PostgreSQL; "
        "`mysql`, MySQL and MariaDB."
    )
    connection: Name = Field(
        description="The database: one of `connections` in base.yaml or its overlays."
    )
    entities: tuple[TableEntity, ...] = Field(
        min_length=1, description="Its tables, views and queries."
    )

    @model_validator(mode="after")
    def _modes_fit(self) -> Self:
        for i, entity in enumerate(self.entities):
            if isinstance(entity.extract, ChangeTableExtract) and self.connector == "mysql":
                raise ValueError(
                    f"entities[{i}].extract.mode: change_table needs PostgreSQL: of MySQL, read a "
                    "table that triggers fill with mode: increasing_id, as "
                    "docs/how-to/read-mysql.md#deletes-by-triggers shows"
                )
        return self
