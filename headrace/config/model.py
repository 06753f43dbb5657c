"""What every configuration model shares: strictness and the shapes of names."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from headrace.errors import ConfigError
from headrace.schema import TYPE_NAMES, arrow_type, decimal_parts

# Type of the error of a value that may hold a secret: messages do not show it.
MAY_HOLD_SECRET = "may_hold_secret"  # noqa: S105

# Similarity below which a name is not suggested.
_CUTOFF = 0.55


# Former names of lineage columns.
_RENAMED = {
    "_file": "_source_object",
    "_line": "_source_position",
    "_delivery": "_delivery_order",
    "_file_version": "_object_version",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to `word`, ignoring case; None if none is similar.

    If only one name begins with `word`, it counts as similar: `operation` for `op`.
    """
    if word in _RENAMED:
        return _RENAMED[word]
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=_CUTOFF)
    close = close or [name for name in by_lower if name.startswith(word.lower())]
    return by_lower[close[0]] if len(close) == 1 else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean amount?`, or nothing if no known name is similar."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def unknown_name(word: str, known: Iterable[str]) -> str:
    """`'amuont' is not one of amount, id; did you mean amount?`."""
    names = list(known)
    return f"'{word}' is not one of {', '.join(names) or 'none'}{did_you_mean(word, names)}"


class StrictModel(BaseModel):
    """Frozen; an unknown key is an error, so that a misspelt option is not silently a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty_sections(cls, values: Any) -> Any:
        """Drop sections without keys, such as one whose lines are all commented out.

        YAML reads them as null. A null stays where the field accepts it.
        """
        if not isinstance(values, dict) or None not in values.values():
            return values
        left_out = {
            name
            for field_name, field in cls.model_fields.items()
            if type(None) not in get_args(field.annotation)
            for name in (field_name, field.alias)
        }
        return {
            key: value for key, value in values.items() if value is not None or key not in left_out
        }

    @field_validator("*", mode="before")
    @classmethod
    def _booleans_are_no_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would read `true` as 1 and 1 as `true`; YAML reads `yes` and `on` as `true`."""
        types = set(_types_in(cls.model_fields[info.field_name or ""].annotation))
        given = {type(each) for each in (value if isinstance(value, list) else [value])}
        if bool in given and types & {int, float} and bool not in types:
            raise ValueError("must be a number, not true or false")
        if given & {int, float} and bool in types and not types & {int, float}:
            raise ValueError("must be true or false, not a number")
        return value


class Secret(StrictModel):
    """The name of an environment variable that holds a secret; the value is read at use."""

    env: str = Field(
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="Name of the environment variable; capitals, digits and underscores.",
    )


def tag_of(key: str) -> Callable[[Any], Any]:
    """A discriminator: reads the key by which a member of a union is chosen.

    pydantic's own discriminators refuse models that validate values before their fields. Messages
    place an error at the function's name, so it is that of the key.
    """

    def tag(value: Any) -> Any:
        return value.get(key) if isinstance(value, dict) else getattr(value, key, None)

    tag.__name__ = key
    return tag


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _types_in(inner)


# Names of our types in other systems.
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


# As Dagster accepts them: an email address, or a team.
Owner = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?:team:\S+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$",
    ),
]
TagName = Annotated[
    str, StringConstraints(pattern=r"^(?:[A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}$")
]
TagValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,63}$")]
OWNERS_DESCRIPTION = "Owners: email addresses, or `team:name`; shown in Dagster's UI."
TAGS_DESCRIPTION = "Tags of its assets, by which Dagster's UI filters, such as `domain: sales`."


def _known_type(name: str) -> str:
    try:
        arrow_type(name)
    except ConfigError as error:
        if name.startswith("decimal(") and not name.endswith(")"):
            why = 'ends at the comma, as between { } YAML ends a value there: write "decimal(10,2)"'
            raise ValueError(why) from None
        if decimal_parts(name):
            why = "a decimal has at most 38 digits, and no more places than digits"
            raise ValueError(why) from None
        near = did_you_mean(_TYPES_ELSEWHERE.get(name.lower().split("(")[0], name), TYPE_NAMES)
        raise ValueError(f"is not a column type; {error.fix}{near}") from None
    return name


# Lower snake case keeps one spelling for Postgres, Iceberg and Python; 48 leaves room in
# Postgres's 63 bytes for the prefixes and suffixes of staging tables and partitions.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
KeyColumnName = Annotated[
    str, StringConstraints(pattern=r"^(?:[a-z][a-z0-9_]{0,62}|_source_object|_source_position)$")
]
TypeName = Annotated[str, AfterValidator(_known_type)]
EntityReference = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}\.[a-z][a-z0-9_]{0,47}$")
]
