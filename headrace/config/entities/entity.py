"""Models of `config/sources/*.yaml`: one file a source, with its entities."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Literal, Self, TypeVar
from zoneinfo import available_timezones

from pydantic import (
    Field,
    PrivateAttr,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from headrace.config.entities.columns import KEY_FORMS, TIMES, ColumnConfig, Form
from headrace.config.entities.enrichments import AnyEnrichment
from headrace.config.entities.extract import Extract
from headrace.config.entities.mapping import CalculatedColumn, Lookup, columns_named
from headrace.config.model import (
    OWNERS_DESCRIPTION,
    TAGS_DESCRIPTION,
    ColumnName,
    KeyColumnName,
    Name,
    Owner,
    StrictModel,
    TagName,
    TagValue,
    did_you_mean,
    unknown_name,
)
from headrace.grain import Grain
from headrace.lineage_schema import LINEAGE, PLACE
from headrace.schema import Column, TableSchema

_FROM_DOUBLE = ("double", "decimal", "int", "bigint")
_PERIODS = ("day", "week", "month", "year", "none")
# How a path names each period.
_CODES = {"day": "{date:%Y-%m-%d}", "month": "{date:%Y-%m}", "year": "{date:%Y}"}

_Column = TypeVar("_Column", ColumnConfig, CalculatedColumn)


class RowRule(StrictModel):
    """A condition that every processed row meets; a row that does not is quarantined."""

    name: Name = Field(description="Lower snake case, at most 48 characters.")
    expect: str = Field(
        description="SQL condition over the entity's columns; NULL passes. "
        "docs/how-to/write-rules-and-conditions.md says what it may use."
    )
    reason: str = Field(description="Reason that the quarantine shows for a row that breaks it.")


class QualityConfig(StrictModel):
    """Limits beyond which a whole partition is held."""

    max_quarantined_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest share of a day's rows that may be quarantined; with more, the day is "
        "held.",
    )
    min_rows: int = Field(
        0, ge=0, description="A day with fewer published rows is held; see `allow_empty`."
    )
    allow_empty: bool = Field(
        True,
        description="Whether a day without rows is published, whatever `min_rows` is; else it is "
        "held.",
    )
    max_rows: int | None = Field(None, ge=0, description="A day with more published rows is held.")

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if self.max_rows is not None and self.min_rows > self.max_rows:
            raise ValueError(
                f"min_rows: {self.min_rows} is more than max_rows, {self.max_rows}: every day "
                "would be held"
            )
        return self


class EntityConfig(StrictModel):
    """One table, file set or topic of a source."""

    name: Name = Field(
        description="Second part of its tables' names. Lower snake case, at most 48 characters."
    )
    description: str = Field("", description="What one row stands for; shown in Dagster's UI.")
    extract: SerializeAsAny[Extract] = Field(description="How it is read.")
    partition: Literal["day", "week", "month", "year", "none"] | None = Field(
        None,
        description="Length of a partition of its tables: `day`, `week` (from Monday), `month`, "
        "`year`, or `none` for one partition with the current state. By default `day`; `none` for "
        "files without a day in path and rows, unless a fact is built from them. Each version of "
        "such a file takes effect on the day on which it was written.",
        examples=["month"],
    )
    where: str | None = Field(
        None,
        description="SQL condition over the columns. Rows for which it is not true do not belong "
        "to this entity: they are counted and left out. For files with rows of several entities.",
        examples=["customer_id is not null"],
    )
    key: tuple[KeyColumnName, ...] = Field(
        min_length=1,
        description="Natural key. Of several rows of a day with one key, only the last one counts: "
        "the last line of the file that was written last. If the source repeats a key and every "
        "row counts, add `_source_position`, the line in the file (and `_source_object`, the file, "
        "if a day has several).",
        examples=[["invoice_no", "stock_code"], ["invoice_no", "_source_position"]],
    )
    duplicates: Literal["keep", "drop"] = Field(
        "keep",
        description="Treatment of rows of a day that are equal in every column, in one file or in "
        "several. `keep`: all of them count. `drop`: the first one counts; the others are dropped "
        "and counted (`rows_repeated`).",
    )
    event_time: ColumnName | None = Field(
        None,
        description="Column with the event time. A row whose day (in `timezone`) lies outside its "
        "partition is quarantined. By default the `event_time` of a fact of the entity, or "
        "`partition_by`.",
    )
    timezone: str | None = Field(
        None,
        description="IANA name of the zone of its local times. A `timestamptz` without an offset "
        "is then local time of that zone, a row's day is the local day, and a `timestamp` or day "
        "is compared as an instant of that zone. Without it, days are UTC days, and a "
        "`timestamptz` without an offset is UTC.",
        examples=["Europe/Berlin"],
    )
    columns: tuple[ColumnConfig, ...] = Field(min_length=1, description="Its columns.")
    lookups: tuple[Lookup, ...] = Field(
        (),
        description="Columns that are looked up in reference entities. Calculated columns, rules "
        "and the star use them like columns of the source; `where`, `key` and `event_time` do not.",
    )
    enrichments: tuple[AnyEnrichment, ...] = Field(
        (),
        description="Columns that are read from a file or package, such as exchange rates. They "
        "are used like looked-up columns.",
    )
    calculated: tuple[CalculatedColumn, ...] = Field(
        (),
        description="Columns that are calculated from the others, in this order. Rules and the "
        "star use them like columns of the source; `where` and `key` do not.",
    )
    rules: tuple[RowRule, ...] = Field(
        (), description="Conditions that every row meets, besides the types of its columns."
    )
    quality: QualityConfig = Field(QualityConfig(), description="When a whole partition is held.")
    transform: str | None = Field(
        None,
        pattern=r"^[\w.]+:\w+$",
        description="`package.module:function` that is called with the typed rows, a DataFrame, "
        "and returns a DataFrame.",
    )
    owners: tuple[Owner, ...] = Field(
        (), description=f"{OWNERS_DESCRIPTION} By default the source's."
    )
    tags: dict[TagName, TagValue] = Field(
        default_factory=dict, description=f"{TAGS_DESCRIPTION} Besides the source's."
    )
    _looked_up: dict[str, ColumnConfig] = PrivateAttr(default_factory=dict)

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        if value is not None and value not in (known := available_timezones()):
            near = did_you_mean(value, (zone for zone in known if "/" in zone))
            raise ValueError(f"is not a time zone's name, such as Europe/Berlin{near}")
        return value

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        names = [column.name for column in self.columns]
        if again := _first_repeated(names):
            raise ValueError(f"columns[{again}].name: '{names[again]}' is declared twice")
        for place, used in {"key": self.key, **_each(self.extract.time_columns)}.items():
            _require_known(place, used, names)
        if len({*self.key}) < len(self.key):
            raise ValueError(f"key: {', '.join(self.key)}: names a column twice")
        return self

    @model_validator(mode="after")
    def _times_say_the_day(self) -> Self:
        days = self.extract.time_columns
        if self.event_time is not None:
            _require_known("event_time", (self.event_time,), self.processed_names)
            if self.extract.day_of_object == "time":
                raise ValueError(self.extract.no_day_of(self.event_time))
            days |= {"event_time": self.event_time}
        for place, name in days.items():
            if self.column(name).type not in TIMES:
                raise ValueError(f"{place}: '{name}' says the day, and is no date or timestamp")
        return self

    @model_validator(mode="after")
    def _source_types_fit(self) -> Self:
        for i, column in enumerate(self.columns):
            place = f"columns[{i}].source_type"
            if column.source_type and not self.extract.is_typed:
                raise ValueError(f"{place}: values of this source have no types: drop it")
            kinds = (self.captured_type(column), column.type)
            if kinds[0] == "double" and column.kind not in _FROM_DOUBLE:
                raise ValueError(f"{place}: a double is no {column.type}")
        return self

    @model_validator(mode="after")
    def _added_columns_fit(self) -> Self:
        names = {column.name for column in self.columns}
        added = [
            (f"lookups[{i}].columns", name)
            for i, lookup in enumerate(self.lookups)
            for name in lookup.columns
        ]
        added += [
            (f"enrichments[{i}].columns", column.name)
            for i, enrichment in enumerate(self.enrichments)
            for column in enrichment.added
        ]
        added += [(f"calculated[{i}].name", c.name) for i, c in enumerate(self.calculated)]
        for i, lookup in enumerate(self.lookups):
            for key, name in (*(("match", n) for n in lookup.match), *_as_of(lookup)):
                if name not in names:
                    raise ValueError(f"lookups[{i}].{key}: {unknown_name(name, sorted(names))}")
        if named := columns_named(self.where or "", {name for _, name in added}):
            raise ValueError(
                f"where: '{named[0]}' is calculated for rows that the condition keeps: use columns "
                "of the source"
            )
        for place, name in added:
            if name in names:
                raise ValueError(f"{place}: '{name}' is declared twice")
            names.add(name)
        return self

    @model_validator(mode="after")
    def _enrichments_read_known_columns(self) -> Self:
        types = {column.name: column.type for column in self.columns}
        reads = [
            (f"enrichments[{i}].{key}", name, enrichment.types_of(key))
            for i, enrichment in enumerate(self.enrichments)
            for key, name in enrichment.reads.items()
        ]
        for place, name, allowed in reads:
            if name not in types:
                raise ValueError(f"{place}: {unknown_name(name, sorted(types))}")
            if types[name].partition("(")[0] not in allowed:
                wanted = " or ".join(allowed)
                raise ValueError(f"{place}: '{name}' is a {types[name]}: declare it as {wanted}")
        return self

    @model_validator(mode="after")
    def _clock_changes_have_a_zone(self) -> Self:
        for i, column in enumerate(self.columns):
            declared = {"ambiguous", "nonexistent"} & column.model_fields_set
            if declared and self.timezone is None:
                raise ValueError(
                    f"columns[{i}].{min(declared)}: is for local times: declare the entity's "
                    "`timezone`"
                )
        return self

    @model_validator(mode="after")
    def _rules_once(self) -> Self:
        rules = [rule.name for rule in self.rules]
        if again := _first_repeated(rules):
            raise ValueError(f"rules[{again}].name: '{rules[again]}' is declared twice")
        return self

    @model_validator(mode="after")
    def _absent_columns_are_not_needed(self) -> Self:
        for column in self.columns:
            if column.name in self.key and column.may_be_absent and column.default is None:
                raise ValueError(
                    f"key: rows of files without '{column.name}' would have no key: give the "
                    "column a default"
                )
        by = self.extract.partition_by
        if by is not None and self.column(by).may_be_absent:
            raise ValueError(
                f"extract.partition_by: '{by}' says the day of a row: no file may lack it"
            )
        return self

    @property
    def grain(self) -> Grain:
        """The grain of its raw and processed tables."""
        if self.partition is None:
            return Grain.DAY
        if self.partition == "none" and self.extract.day_of_object == "time":
            return Grain.SPARSE
        return Grain(self.partition)

    def expects_file(self, partition: date) -> bool:
        """Whether a file of a partition is expected, by weekdays and closed days."""
        if self.grain == Grain.NONE:
            return self.extract.expects_any
        return any(map(self.extract.expects_file, self.grain.days_of(partition)))

    def waits_until(self, partition: date) -> datetime | None:
        """The deadline for a file of a partition, UTC, counted from its last day; None: none."""
        is_whole = self.grain == Grain.NONE
        last = partition if is_whole else self.grain.end_of(partition) - timedelta(days=1)
        return self.extract.waits_until(last)

    def deadlines(self) -> str | None:
        """The deadlines of daily files, UTC, as a cron expression; None without deadlines.

        None for longer partitions, too: cron cannot count days from the end of a month.
        """
        return self.extract.deadlines() if self.grain == Grain.DAY else None

    @model_validator(mode="after")
    def _periods_are_known(self) -> Self:
        """Refuse a partition that follows neither from the path nor from the rows."""
        extract = self.extract
        if extract.day_of_object == "time" and self.partition in ("week", "month", "year"):
            raise ValueError(
                f"partition: {self.partition}: neither files nor rows say a day: "
                f"{extract.day_remedy}, or leave partition out"
            )
        named, wanted = extract.named_period, self.partition or "day"
        if named is not None and _PERIODS.index(named) > _PERIODS.index(wanted):
            fields = "} {date:".join(extract.date_fields)
            period = wanted if wanted in _CODES else "day"
            raise ValueError(
                f"extract.path: {{date:{fields}}} does not name one {wanted}, but a {named}: write "
                f"`partition: {named}` beside `extract`, or name the {period} in the path, such as "
                f"{_CODES[period]}"
            )
        return self

    @property
    def day_column(self) -> str | None:
        """The column whose day is the row's partition; None if only its file determines the day."""
        return self.event_time or self.extract.partition_by

    def column(self, name: str) -> ColumnConfig:
        """The processed column called `name`; KeyError if there is none."""
        return {column.name: column for column in self.processed_columns}[name]

    @property
    def processed_names(self) -> list[str]:
        """The names of `processed_columns`."""
        return [column.name for column in self.processed_columns]

    @property
    def added_columns(self) -> tuple[ColumnConfig, ...]:
        """The columns of a processed row that are not in its source."""
        return (*self.looked_up, *(column.as_column() for column in self.calculated))

    @property
    def looked_up(self) -> tuple[ColumnConfig, ...]:
        """The columns of `lookups`, if `resolved` has given their types, and `enrichments`."""
        names = (name for lookup in self.lookups for name in lookup.columns)
        found = [self._looked_up[name] for name in names if name in self._looked_up]
        added = (column for enrichment in self.enrichments for column in enrichment.added)
        return (*found, *(self._looked_up.get(column.name, column) for column in added))

    def resolved(self, looked_up: Mapping[str, ColumnConfig]) -> Self:
        """The entity with the declarations of its looked-up columns, by name."""
        found = self.model_copy()
        found._looked_up = dict(looked_up)  # noqa: SLF001  # of a copy of itself
        return found

    @property
    def processed_columns(self) -> tuple[ColumnConfig, ...]:
        """The columns of a processed row: those of its source, then the others."""
        return (*self.columns, *self.added_columns)

    def forms_of(self, column: ColumnConfig) -> tuple[Form, ...]:
        """The Unicode normalization of a column's texts."""
        if column.normalize is not None:
            return column.normalize
        return KEY_FORMS if column.type == "string" and column.name in self.key else ()

    def with_joined(self, names: Collection[str]) -> Self:
        """The entity with some columns normalized like keys, unless they declare `normalize`."""

        def normalized(column: _Column) -> _Column:
            is_joined = column.name in names and column.type == "string"
            if not is_joined or column.normalize is not None:
                return column
            return column.model_copy(update={"normalize": KEY_FORMS})

        changed = {
            "columns": tuple(map(normalized, self.columns)),
            "calculated": tuple(map(normalized, self.calculated)),
        }
        looked_up = {column.name: normalized(column) for column in self.looked_up}
        return self.model_copy(update=changed).resolved(looked_up)

    def processed_column(self, name: str) -> Column:
        """The column called `name` as processed: a declared one, or one of PLACE.

        Raises:
            KeyError: There is no such column.
        """
        return (LINEAGE if name in PLACE else self.declared_schema()).column(name)

    def captured_columns(self) -> tuple[Column, ...]:
        """The declared columns as raw keeps them; see `captured_type`."""
        return tuple(
            Column(c.name, self.captured_type(c), description=c.description) for c in self.columns
        )

    def captured_type(self, column: ColumnConfig) -> str:
        """A column's type in raw: that of the source, text where the source has no types."""
        return (column.source_type or column.type) if self.extract.is_typed else "string"

    def declared_schema(self) -> TableSchema:
        """The declared columns as processed."""
        columns = self.processed_columns
        filled = {*self.key, *(c.name for c in columns if c.has_always_a_value)}
        return TableSchema(
            tuple(Column(c.name, c.type, c.name not in filled, c.description) for c in columns)
        )


class SourceConfig(StrictModel):
    """One source: a connector and its entities. Each connector has a model derived from this."""

    name: Name = Field(
        description="First part of its tables' names. Lower snake case, at most 48 characters."
    )
    connector: str = Field(description="The kind of source.")
    description: str = Field("", description="What the source is.")
    entities: tuple[SerializeAsAny[EntityConfig], ...] = Field(
        min_length=1, description="Its tables, file sets or topics."
    )
    owners: tuple[Owner, ...] = Field((), description=OWNERS_DESCRIPTION)
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description=TAGS_DESCRIPTION)

    def kind_of(self, entity: EntityConfig) -> str:  # noqa: ARG002
        """Dagster's kind of an entity's asset, which the UI shows."""
        return self.connector

    def owned(self, entity: EntityConfig) -> EntityConfig:
        """The entity with the owners and tags that it inherits from its source."""
        if not self.owners and not self.tags:
            return entity
        inherited = {
            "owners": entity.owners or self.owners,
            "tags": {**self.tags, **entity.tags},
        }
        return entity.model_copy(update=inherited)

    @model_validator(mode="after")
    def _entities_once(self) -> Self:
        names = [entity.name for entity in self.entities]
        if again := _first_repeated(names):
            raise ValueError(f"entities[{again}].name: '{names[again]}' is declared twice")
        return self


def _as_of(lookup: Lookup) -> list[tuple[str, str]]:
    return [("as_of", name) for name in lookup.as_of]


def _each(columns: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {place: (name,) for place, name in columns.items()}


def _require_known(place: str, used: Sequence[str], names: Sequence[str]) -> None:
    if unknown := sorted({*used} - {*names, *PLACE}):
        near = did_you_mean(unknown[0], names)
        raise ValueError(
            f"{place}: {', '.join(unknown)}: not among the columns {', '.join(names)}{near}"
        )


def _first_repeated(names: Sequence[str]) -> int | None:
    """The index of the first repeated name."""
    return next((i for i, name in enumerate(names) if name in names[:i]), None)
