"""Models of `row_access` in `config/star.yaml`: who may read which rows of the warehouse.

Belongs here: what a user declares about readers.
Elsewhere: the roles and policies in Postgres (headrace.warehouse.access).
"""

from pydantic import Field

from headrace.config.model import ColumnName, Name, StrictModel


class RowAccess(StrictModel):
    """A role of Postgres that sees some rows of the star only.

    It sees the members of the dimension whose column has one of the values, and the facts that
    point to them. Several entries for one role narrow it further.
    """

    role: Name = Field(description="The role; `headrace warehouse grant NAME` makes it if need be.")
    dimension: Name = Field(description="Dimension that decides.")
    column: ColumnName = Field(description="Its column, an attribute or of the natural key.")
    values: tuple[str | int, ...] = Field(
        min_length=1, description="What the column may be in rows that the role sees."
    )
