"""Models of `config/star.yaml`: the dimensions and facts of the star schema.

Belongs here: what a user declares about the star.
Elsewhere: building it (headrace.star), loading it (headrace.warehouse).
"""

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from headrace.config.access import RowAccess
from headrace.config.model import ColumnName, EntityReference, KeyColumnName, Name, StrictModel

Scalar = str | int | bool


class DimensionConfig(StrictModel):
    """A dimension with history (type 2), built from one entity's versions."""

    name: Name = Field(
        description="Name of the table: `dim_` and what it is about. Its surrogate key is called "
        "after it: `dim_customer` has `customer_key`."
    )
    entity: EntityReference = Field(description="source.entity that its rows come from.")
    description: str = Field("", description="What one row stands for.")
    natural_key: dict[ColumnName, ColumnName] = Field(
        min_length=1, description="Dimension column: entity column that identifies a member."
    )
    attributes: dict[ColumnName, ColumnName] = Field(
        default_factory=dict, description="Dimension column: entity column."
    )
    effective_time: ColumnName | None = Field(
        None,
        description="Entity column that says when a version begins; without it, midnight of the "
        "partition's day.",
    )
    first_version: Literal["from_beginning", "at_effective_time"] = Field(
        "from_beginning",
        description="Whether a member's first version also covers the time before it.",
    )
    unknown: dict[ColumnName, Scalar] = Field(
        default_factory=dict, description="Attribute values of the unknown member (key -1)."
    )
    load: Literal["upsert", "truncate_and_load"] = Field(
        "upsert",
        description="How the warehouse takes it: `upsert` writes the rows that differ, "
        "`truncate_and_load` all rows anew.",
    )

    @property
    def key_column(self) -> str:
        """Surrogate key: dim_customer has customer_key."""
        return f"{self.name.removeprefix('dim_')}_key"


class CalendarConfig(StrictModel):
    """A date dimension: one row a day, keyed yyyymmdd."""

    name: Name = Field("dim_date", description="Name of the table.")
    start: date = Field(description="First day.")
    end: date = Field(description="Last day, included.")
    description: str = Field("One row a day.", description="What one row stands for.")

    @property
    def key_column(self) -> str:
        """Surrogate key, yyyymmdd."""
        return f"{self.name.removeprefix('dim_')}_key"


class FactDimension(StrictModel):
    """One foreign key of a fact: the member valid at the fact's event time."""

    dimension: Name = Field(description="Name of one of the dimensions.")
    natural_key: dict[ColumnName, ColumnName] = Field(
        min_length=1, description="Natural key column of the dimension: entity column."
    )


class FactConfig(StrictModel):
    """A fact table: one row a processed row of an entity, with keys as of its event time."""

    name: Name = Field(description="Name of the table.")
    entity: EntityReference = Field(description="source.entity that its rows come from.")
    description: str = Field("", description="What one row stands for.")
    grain: tuple[KeyColumnName, ...] = Field(
        min_length=1, description="What one row stands for; most often the entity's key."
    )
    event_time: ColumnName = Field(
        description="Entity column that says when it happened: dimensions are joined as they were "
        "then."
    )
    calendar: Name = Field("dim_date", description="Calendar that date_key points into.")
    dimensions: tuple[FactDimension, ...] = Field((), description="Its foreign keys.")
    columns: tuple[ColumnName, ...] = Field(
        (), description="Columns kept as they are: degenerate dimensions and the event time."
    )
    measures: tuple[ColumnName, ...] = Field(
        min_length=1, description="Entity columns that are added up."
    )
    load: Literal["partition_replace", "truncate_and_load"] = Field(
        "partition_replace",
        description="How the warehouse takes it: `partition_replace` the days of a run, in a "
        "table partitioned by month; `truncate_and_load` every day anew, in one table.",
    )
    keep_months: int | None = Field(
        None,
        ge=1,
        description="Months that the warehouse keeps, the current one among them; "
        "`headrace warehouse retain` drops older ones. Without it, all.",
    )


class StarConfig(StrictModel):
    """The whole star."""

    dimensions: tuple[DimensionConfig, ...] = Field(
        (), description="What is known about who, what and where."
    )
    calendar: CalendarConfig = Field(description="The date dimension.")
    facts: tuple[FactConfig, ...] = Field(min_length=1, description="What happened.")
    row_access: tuple[RowAccess, ...] = Field(
        (), description="Roles that see some rows of the warehouse only."
    )

    @model_validator(mode="after")
    def _access_is_by_columns_that_exist(self) -> Self:
        known = {dim.name: {*dim.natural_key, *dim.attributes} for dim in self.dimensions}
        for rule in self.row_access:
            if rule.column not in known.get(rule.dimension, ()):
                raise ValueError(f"row_access: {rule.dimension} has no column '{rule.column}'")
        return self

    def dimension(self, name: str) -> DimensionConfig:
        """The dimension called `name`; KeyError if there is none."""
        return {dimension.name: dimension for dimension in self.dimensions}[name]
