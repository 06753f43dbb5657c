"""Models of the columns that a processed row has besides those of its source."""

import re
from typing import Self

from pydantic import Field, model_validator

from headrace.config.columns import ColumnConfig, Form
from headrace.config.model import ColumnName, StrictModel, TypeName

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


def columns_named(condition: str, names: set[str]) -> list[str]:
    """Those of some columns that a SQL condition names."""
    words = {word.lower() for word in _WORD.findall(_TEXT.sub("''", condition))}
    return sorted(words & names)
