"""Models of sources whose entities are lists of a REST API."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.entities.extract import Extract
from headrace.config.model import ColumnName, Name, StrictModel, tag_of
from headrace.config.sources.json_paths import (
    JsonPath,
    SingleJsonPath,
    json_path,
    require_column_paths,
)
from headrace.config.sources.rest_connection import ParameterName

_BRACES = re.compile(r"\{[^{}]*\}?|\}")
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)(?::([^{}]+))?\}")
_TIMES = {"from", "to", "last"}

# Numbers, true and false are written without quotes in YAML, and become texts.
ScalarText = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
LastPage = Literal["empty", "absent"]
_NEXT = "Where a page holds it; null or an empty text ends the pages."
_LAST_PAGE = (
    "Whether the last page has `next` as null or an empty text, or may lack it. By default a page "
    "without it is an error."
)
_TOTAL = "Where an answer says how many records there are; the pages must have as many."


class NoPagination(StrictModel):
    """The first answer is whole."""

    type: Literal["none"] = Field(description="The first answer is whole.")
    total: SingleJsonPath | None = Field(None, description=_TOTAL)


class PagePagination(StrictModel):
    """Pages by number."""

    type: Literal["page"] = Field(description="Pages by number.")
    param: ParameterName = Field("page", description="Query parameter of the number.")
    first: int = Field(1, ge=0, description="Number of the first page.")
    size_param: ParameterName | None = Field(None, description="Query parameter of the size.")
    size: int = Field(100, ge=1, description="Records requested for a page, by `size_param`.")
    total: SingleJsonPath | None = Field(
        None,
        description=f"{_TOTAL} With neither it nor `pages`, pages are read until one is empty.",
        examples=["$.meta.total"],
    )
    pages: SingleJsonPath | None = Field(
        None, description="Where an answer says how many pages there are."
    )


class OffsetPagination(StrictModel):
    """Pages by the number of records before them."""

    type: Literal["offset"] = Field(description="Pages by the number of records before them.")
    param: ParameterName = Field("offset", description="Query parameter of that number.")
    limit_param: ParameterName = Field("limit", description="Query parameter of the size.")
    limit: int = Field(100, ge=1, description="Records requested for a page.")
    total: SingleJsonPath | None = Field(
        None,
        description=f"{_TOTAL} Without it, pages are read until one is empty.",
        examples=["$.count"],
    )


class CursorPagination(StrictModel):
    """Each page holds the cursor of the next one."""

    type: Literal["cursor"] = Field(description="Each page holds the cursor of the next one.")
    param: ParameterName = Field("cursor", description="Query parameter of the cursor.")
    next: SingleJsonPath = Field(description=_NEXT, examples=["$.meta.next_cursor"])
    last_page: LastPage = Field("empty", description=_LAST_PAGE)
    total: SingleJsonPath | None = Field(None, description=_TOTAL)


class NextUrlPagination(StrictModel):
    """Each page holds the URL of the next one."""

    type: Literal["next_url"] = Field(description="Each page holds the URL of the next one.")
    next: SingleJsonPath = Field(description=_NEXT, examples=["$.links.next"])
    last_page: LastPage = Field("empty", description=_LAST_PAGE)
    total: SingleJsonPath | None = Field(None, description=_TOTAL)


class LinkPagination(StrictModel):
    """The header `Link` with `rel=next` (RFC 8288) holds the URL of the next page."""

    type: Literal["link"] = Field(description="The header `Link` with `rel=next` (RFC 8288).")
    total: SingleJsonPath | None = Field(None, description=_TOTAL)


Pagination = Annotated[
    Annotated[NoPagination, Tag("none")]
    | Annotated[PagePagination, Tag("page")]
    | Annotated[OffsetPagination, Tag("offset")]
    | Annotated[CursorPagination, Tag("cursor")]
    | Annotated[NextUrlPagination, Tag("next_url")]
    | Annotated[LinkPagination, Tag("link")],
    Discriminator(tag_of("type")),
]


def _text_of(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


class RestExtract(Extract):
    """A list of records that an API gives in pages."""

    path: str = Field(
        description="Path below the connection's url; with `{from}` and `{to}` as in `params`.",
        examples=["transactions"],
    )
    params: dict[ParameterName, ScalarText] = Field(
        default_factory=dict,
        description="Query parameters, without those of pages and keys. In `mode: window`, "
        "`{from}` stands for the first moment of the partition, `{to}` for the first moment after "
        "it, `{last}` for the second before that: as a date, or as `{from:unix}`, "
        "`{from:unix_ms}` or a pattern of strftime say (`{from:%Y-%m-%dT%H:%M:%SZ}`). Days begin "
        "in the entity's `timezone`.",
        examples=[{"from": "{from}", "to": "{to}"}, {"start": "{from:unix}", "end": "{last:unix}"}],
    )
    for_each: tuple[dict[ColumnName, ScalarText], ...] = Field(
        (),
        description="Lists that are read one after another for each partition: `{name}` in path "
        'and params stands for the value of each, and so does a column with `from: "{name}"`.',
        examples=[[{"city": "Ulm", "lat": 48.4, "lon": 9.99}]],
    )
    records: JsonPath = Field(
        description="JSONPath (RFC 9535) of the records in each page. It must exist in each; an "
        "empty list or null is no record.",
        examples=["$.data[*]", "$[*]", "$"],
    )
    children: str | None = Field(
        None,
        description="JSONPath of an array in each record, whose elements are the rows. A column's "
        "`from` is then a member of the element, a path in it (`@.price.amount`) or in its record "
        "(`$.id`).",
        examples=["$.items[*]"],
    )
    pagination: Pagination = Field(
        description="How pages follow one another; `{type: none}` where an answer is whole."
    )
    empty_statuses: tuple[Literal[204, 400, 404, 410, 416, 422], ...] = Field(
        (),
        description="HTTP statuses by which the API says that there are no records, or no further "
        "page. By default they fail the partition, since a wrong path has them too.",
        examples=[[204, 404]],
    )
    ignored: tuple[str, ...] = Field(
        (),
        description="Members of a record that no column reads, such as an array that is an entity "
        "of its own.",
        examples=[["items", "links"]],
    )
    extra_columns: Literal["fail", "ignore"] = Field(
        "fail",
        description="Whether a record with any other member that no column reads fails its "
        "partition, or the member is ignored.",
    )

    @property
    def is_typed(self) -> bool:
        """See Extract. JSON has no dates and no decimals: raw keeps the text of each value."""
        return False

    @field_validator("params", mode="before")
    @classmethod
    def _as_texts(cls, value: object) -> object:
        return {k: _text_of(v) for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("for_each", mode="before")
    @classmethod
    def _values_as_texts(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        return [
            {k: _text_of(v) for k, v in one.items()} if isinstance(one, dict) else one
            for one in value
        ]

    @field_validator("children")
    @classmethod
    def _is_a_path_in_a_record(cls, value: str | None) -> str | None:
        return value if value is None else json_path(value)

    @field_validator("path")
    @classmethod
    def _is_below_the_url(cls, value: str) -> str:
        if "://" in value or "?" in value or "#" in value:
            raise ValueError("must be a path below the connection's url; parameters are params")
        if any(part in {".", ".."} for part in value.split("/")):
            raise ValueError("must not have the parts . and ..")
        return value

    @model_validator(mode="after")
    def _lists_have_the_same_names(self) -> Self:
        for i, one in enumerate(self.for_each):
            if one.keys() != self.for_each[0].keys():
                raise ValueError(f"for_each[{i}]: must have the names {_listed(self.for_each[0])}")
            if taken := _TIMES & one.keys():
                raise ValueError(f"for_each[{i}]: {min(taken)} is a name of the window's times")
        return self

    @model_validator(mode="after")
    def _placeholders_are_known(self) -> Self:
        names = {*_TIMES, *(self.for_each[0] if self.for_each else ())}
        for place, text in {"path": self.path, **self.params}.items():
            where = place if place == "path" else f"params.{place}"
            stray = _BRACES.findall(PLACEHOLDER.sub("", text))
            stray += [f"{{{name}}}" for name, _ in PLACEHOLDER.findall(text) if name not in names]
            if stray:
                raise ValueError(
                    f"{where}: {stray[0]} stands for nothing: {{from}}, {{to}} and {{last}} do, "
                    "also as {from:unix} or {from:%Y-%m-%d}, and names in for_each"
                )
            for name, pattern in PLACEHOLDER.findall(text):
                if pattern and not _is_pattern(name, pattern):
                    raise ValueError(
                        f"{where}: {pattern} is none of unix, unix_ms or a pattern of strftime, "
                        "such as %Y-%m-%d"
                    )
        return self

    @property
    def window_names(self) -> frozenset[str]:
        """Which times of a window path and params name."""
        texts = [self.path, *self.params.values()]
        found = {name for text in texts for name, _ in PLACEHOLDER.findall(text)}
        return frozenset(found & _TIMES)


def _is_pattern(name: str, pattern: str) -> bool:
    return name in _TIMES and (pattern in {"unix", "unix_ms"} or "%" in pattern)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


class RestFullExtract(RestExtract):
    """A list that is read whole at each capture."""

    mode: Literal["full"] = Field(description="The whole list.")
    partition_by: ColumnName | None = Field(
        None,
        description="Date or timestamp column whose day is the row's partition. A capture reads "
        "the whole list, and its rows replace what the captured partitions held. Without it the "
        "list is reference data: its first state belongs to the first partition, each later state "
        "that differs to the day on which it was read.",
    )

    @model_validator(mode="after")
    def _has_no_window(self) -> Self:
        if self.window_names:
            raise ValueError(f"{{{min(self.window_names)}}} needs mode: window")
        return self

    @property
    def day_remedy(self) -> str:
        """See Extract."""
        return "declare mode: window or the extract partition_by"


class RestWindowExtract(RestExtract):
    """A list of which each partition is read by query parameters."""

    mode: Literal["window"] = Field(description="One window of time a partition.")

    @model_validator(mode="after")
    def _has_a_window(self) -> Self:
        if "from" not in self.window_names:
            raise ValueError(
                "a window needs {from} in params or path: the first moment of its partition"
            )
        if self.partition_by is not None:
            raise ValueError("partition_by: a window's rows are of its partition: drop it")
        return self

    @property
    def day_of_object(self) -> Literal["name", "rows", "time"]:
        """See Extract. A window's parameters say it."""
        return "name"


AnyRestExtract = Annotated[
    Annotated[RestFullExtract, Tag("full")] | Annotated[RestWindowExtract, Tag("window")],
    Discriminator(tag_of("mode")),
]


class RestEntity(EntityConfig):
    """One list of an API."""

    extract: AnyRestExtract = Field(description="How it is read.")

    @model_validator(mode="after")
    def _columns_are_values(self) -> Self:
        for i, column in enumerate(self.columns):
            for name in column.source_names:
                if name.startswith("{"):
                    self._require_value(i, name)
        require_column_paths(self.columns)
        if self.extract.mode == "window" and self.partition == "none":
            raise ValueError(
                "partition: none: a window begins and ends: leave it out, or say month"
            )
        return self

    def _require_value(self, i: int, name: str) -> None:
        values = self.extract.for_each[0] if self.extract.for_each else {}
        if name[1:-1] not in values or not name.endswith("}"):
            known = _listed(values) or "none"
            raise ValueError(f"columns[{i}].from: '{name}' is not one of for_each: {known}")


class RestSource(SourceConfig):
    """Lists of a REST API."""

    connector: Literal["rest"] = Field(
        description="The kind of source: `rest`, lists of an HTTP API that answers JSON."
    )
    connection: Name = Field(
        description="The API: one of `connections` in base.yaml or its overlays, of `kind: rest`."
    )
    entities: tuple[RestEntity, ...] = Field(min_length=1, description="Its lists.")
