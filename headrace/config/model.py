"""What every configuration model shares: strictness and the shapes of names.

Belongs here: the base model and the constrained strings.
Elsewhere: reading files and explaining errors (headrace.config.loading).
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from headrace.config.names import did_you_mean
from headrace.errors import ConfigError
from headrace.schema import TYPE_NAMES, arrow_type


class StrictModel(BaseModel):
    """Frozen, and a key that it does not know is an error: a typo must not become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


# What other systems call our types.
_TYPES_ELSEWHERE = {
    **dict.fromkeys(("integer", "int4", "smallint", "int32", "tinyint", "short"), "int"),
    **dict.fromkeys(("long", "int8", "int64", "serial", "bigserial"), "bigint"),
    **dict.fromkeys(("text", "varchar", "char", "str", "uuid"), "string"),
    **dict.fromkeys(("float", "real", "float8", "float64", "double precision"), "double"),
    **dict.fromkeys(("numeric", "money", "number", "decimal"), "decimal(p,s)"),
    **dict.fromkeys(("datetime", "timestamp_ntz", "datetime2"), "timestamp"),
    **dict.fromkeys(("timestamp with time zone", "datetimeoffset", "timestamp_ltz"), "timestamptz"),
    **dict.fromkeys(("bool", "bit"), "boolean"),
}


def _known_type(name: str) -> str:
    try:
        arrow_type(name)
    except ConfigError as error:
        near = did_you_mean(_TYPES_ELSEWHERE.get(name.lower().split("(")[0], name), TYPE_NAMES)
        raise ValueError(f"is not a column type; {error.fix}{near}") from None
    return name


# Lower snake case keeps one spelling for Postgres, Iceberg and Python; 48 leaves room in
# Postgres's 63 bytes for the prefixes and suffixes of staging tables and partitions.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
KeyColumnName = Annotated[str, StringConstraints(pattern=r"^(?:[a-z][a-z0-9_]{0,62}|_file|_line)$")]
TypeName = Annotated[str, AfterValidator(_known_type)]
EntityReference = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}\.[a-z][a-z0-9_]{0,47}$")
]
