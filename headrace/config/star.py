"""Models of `config/star.yaml`: the dimensions and facts of the star schema.

Belongs here: what a user declares about the star.
Elsewhere: building it (headrace.star), loading it (headrace.warehouse).
"""

from datetime import date
from typing import Literal

from pydantic import Field

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


class StarConfig(StrictModel):
    """The whole star."""

    dimensions: tuple[DimensionConfig, ...] = Field(
        (), description="What is known about who, what and where."
    )
    calendar: CalendarConfig = Field(description="The date dimension.")
    facts: tuple[FactConfig, ...] = Field(min_length=1, description="What happened.")

    def dimension(self, name: str) -> DimensionConfig:
        """The dimension called `name`; KeyError if there is none."""
        return {dimension.name: dimension for dimension in self.dimensions}[name]
