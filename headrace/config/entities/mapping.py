"""Models of the columns that a processed row has besides those of its source."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from headrace.config.entities.columns import ColumnConfig, Form, text_of
from headrace.config.model import (
    ColumnName,
    EntityReference,
    StrictModel,
    TypeName,
    unknown_name,
)

_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"")
_WORD = re.compile(r"[A-Za-z_]\w*")


class CalculatedColumn(StrictModel):
    """A column whose value is calculated from other columns of the row."""

    name: ColumnName = Field(description="Lower snake case, at most 63 characters.")
    type: TypeName = Field(
        description="As of a column. A decimal with more places is rounded half up, away from zero."
    )
    expression: str = Field(
        description="SQL expression over the typed columns and the calculated columns before it. "
        "docs/how-to/calculate-and-look-up-columns.md shows the grammar. A row for which it "
        "divides by zero, overflows or casts a text that does not fit is quarantined.",
        examples=["quantity * unit_price"],
    )
    required: bool = Field(False, description="Whether a row without a value is quarantined.")
    normalize: tuple[Form, ...] | None = Field(
        None, description="Normalization of texts, as of a column."
    )
    description: str = Field("", description="What it holds; shown in Dagster's UI.")

    @model_validator(mode="after")
    def _fits_a_column(self) -> Self:
        if self.type == "list<string>":
            raise ValueError("type: no expression gives a list: calculate its items one by one")
        self.as_column()  # with its checks
        return self

    def as_column(self) -> ColumnConfig:
        """The column as processed."""
        return ColumnConfig(
            name=self.name,
            type=self.type,
            required=self.required,
            normalize=self.normalize,
            description=self.description,
        )


class Lookup(StrictModel):
    """Columns that are read from the row of a reference entity with the same key."""

    entity: EntityReference = Field(
        description="The reference entity, which has `partition: none` or undated files.",
        examples=["shop.stores"],
    )
    match: dict[ColumnName, ColumnName] = Field(
        min_length=1,
        description="By column of this entity, the column of the reference entity that equals it: "
        "all columns of the reference entity's key.",
        examples=[{"store_id": "store_id"}],
    )
    as_of: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        max_length=1,
        description="A date or timestamp of this entity, and the date in the reference entity's "
        "key: the row of that day is read, or of the last day before it that has one, such as the "
        "last exchange rate. Needs `max_age_days`.",
        examples=[{"sold_on": "rate_date"}],
    )
    max_age_days: int | None = Field(
        None,
        ge=0,
        le=366,
        description="With `as_of`: how many days before the row's day that day may lie.",
    )
    columns: dict[ColumnName, ColumnName] = Field(
        min_length=1,
        description="By name of the new column, the column of the reference entity.",
        examples=[{"store_region": "region"}],
    )
    missing: Literal["null", "quarantine", "default"] = Field(
        "null",
        description="Treatment of a row whose key is NULL or not among the reference entity's: "
        "`null`, NULL in the new columns; `quarantine`; or `default`, the values of `default`.",
    )
    default: dict[ColumnName, str] = Field(
        default_factory=dict,
        description="With `missing: default`: the value of each new column, as of a column's "
        "`default`.",
        examples=[{"store_region": "unknown"}],
    )

    @field_validator("default", mode="before")
    @classmethod
    def _as_texts(cls, values: object) -> object:
        return (
            {name: text_of(value) for name, value in values.items()}
            if isinstance(values, dict)
            else values
        )

    @model_validator(mode="after")
    def _defaults_fit(self) -> Self:
        if bool(self.as_of) != (self.max_age_days is not None):
            lacking = "max_age_days" if self.as_of else "as_of"
            raise ValueError(f"{lacking}: is missing: as_of and max_age_days go together")
        if self.missing != "default" and self.default:
            raise ValueError("default: is for `missing: default`")
        if self.missing == "default" and (without := sorted({*self.columns} - {*self.default})):
            raise ValueError(f"default: lacks {', '.join(without)}")
        if unknown := sorted({*self.default} - {*self.columns}):
            raise ValueError(f"default: {unknown_name(unknown[0], self.columns)}")
        return self


def read_by(lookup: Lookup) -> dict[str, str]:
    """The columns of `match` and `as_of`: ours by theirs, which are the reference's key."""
    return {theirs: ours for ours, theirs in (*lookup.match.items(), *lookup.as_of.items())}


def columns_named(condition: str, names: set[str]) -> list[str]:
    """Those of some columns that a SQL condition names."""
    words = {word.lower() for word in _WORD.findall(_TEXT.sub("''", condition))}
    return sorted(words & names)
