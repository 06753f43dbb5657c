"""Models of `config/star.yaml`: the dimensions and facts of the star schema."""

from collections.abc import Sequence
from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from headrace.config.business_calendar import BusinessCalendarConfig
from headrace.config.model import (
    OWNERS_DESCRIPTION,
    TAGS_DESCRIPTION,
    ColumnName,
    EntityReference,
    KeyColumnName,
    Name,
    Owner,
    StrictModel,
    TagName,
    TagValue,
    did_you_mean,
    unknown_name,
)
from headrace.config.star.outriggers import Outrigger

Scalar = str | int | bool
DeleteAction = Literal["close", "keep", "flag"]
Missing = Literal["inferred", "unknown", "refuse"]
FactKind = Literal["transaction", "periodic_snapshot"]
SnapshotOf = Literal["states", "changes", "movements"]

_MOST_YEARS = 400
_VALIDITY = ("valid_from", "valid_to", "is_current", "is_latest", "is_deleted", "is_inferred")


class RowAccess(StrictModel):
    """Row-level security: a Postgres role that reads only some rows of the star.

    The role reads the members of the dimension whose column has one of the values, and the facts
    that refer to them. Several entries for one role are combined with AND.
    """

    role: Name = Field(
        description="The role; `headrace warehouse grant NAME` creates it if necessary."
    )
    dimension: Name = Field(description="Dimension whose members are filtered.")
    column: ColumnName = Field(description="Its column: an attribute or part of the natural key.")
    values: tuple[str | int, ...] = Field(
        min_length=1, description="Values of the column in rows that the role reads."
    )


class FullSnapshot(StrictModel):
    """A dimension for which each day of its entity holds all members."""

    dimension: str = Field(description="Its name.")
    key: tuple[str, ...] = Field(description="The entity's columns of its natural key.")
    max_vanished_share: float | None = Field(description="As the dimension declares it.")


class EntityUses(StrictModel):
    """What the star needs of an entity's processed rows.

    Attributes:
        source_order: Columns that order the rows of one key and day; the last row is kept.
    """

    full_snapshots: tuple[FullSnapshot, ...] = Field((), description="Dimensions made from it.")
    source_order: tuple[str, ...] = Field((), description="As its dimensions declare it.")


class DimensionConfig(StrictModel):
    """A dimension with history (type 2), built from the rows of one entity or several."""

    name: Name = Field(
        description="Name of the table: `dim_` and what it is about. Its surrogate key is called "
        "after it: `dim_customer` has `customer_key`."
    )
    entity: EntityReference = Field(description="source.entity that its rows come from.")
    further_entities: tuple[EntityReference, ...] = Field(
        (),
        description="Other entities whose rows are of the same members, in columns of the same "
        "names and types. An attribute that one of them lacks has to be in `ignore_nulls`: its "
        "rows keep the value. Changes of all entities are in the order of their times; of those at "
        "one instant, the change of the entity that is named last holds.",
        examples=[["crm.customers"]],
    )
    description: str = Field("", description="What one row stands for.")
    natural_key: dict[ColumnName, ColumnName] = Field(
        min_length=1, description="Dimension column: entity column that identifies a member."
    )
    attributes: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="Dimension column: entity column. A change of the value begins a version "
        "(type 2).",
    )
    type1: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="Dimension column: entity column. A change of the value begins no version: "
        "every version of the member shows the latest value (type 1).",
    )
    untracked: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="Dimension column: entity column. A change of the value begins no version: "
        "each version keeps the value of the row with which it began.",
    )
    ignore_nulls: tuple[ColumnName, ...] = Field(
        (),
        description="Columns of `attributes` or `type1` in which NULL means unchanged, as in "
        "sources that deliver changed columns only: the previous value stays. After a delete, a "
        "member starts without values, except those of `type1`.",
    )
    outriggers: tuple[Outrigger, ...] = Field(
        (),
        description="Other dimensions that this one's columns refer to, such as a store's region.",
    )
    effective_time: ColumnName | None = Field(
        None,
        description="Entity column with the time at which a version begins. Without it, and where "
        "a row has none, that is midnight of the partition's day. Times before 1900 count as "
        "1900-01-01. A version that begins after the last day for which the dimension was run lies "
        "in the future: facts of its time are joined to it, and it is not `is_current` until that "
        "day is run.",
    )
    sequence: ColumnName | None = Field(
        None,
        description="Entity column with a whole number that grows with every change of a member, "
        "such as a version number or a log position. It orders the changes instead of "
        "`effective_time`: a row with a smaller number than the member's latest changes nothing.",
    )
    source_order: tuple[ColumnName, ...] = Field(
        (),
        description="Entity columns that order several changes of a member at one instant: the "
        "largest value came last, NULL is smallest. Ties are broken by the partition's day, the "
        "file's modification time, its path and the position in it. The same order decides which "
        "of a day's rows with one entity key is kept.",
    )
    deleted_when: str | None = Field(
        None,
        description="SQL condition over the entity's columns: where it is true, the row says that "
        "the member was deleted. Without it, and without `full_snapshot`, no member is deleted.",
        examples=["operation = 'D'", "deleted_at is not null"],
    )
    on_delete: DeleteAction = Field(
        "close",
        description="What a delete does. close: the version ends, and none is current until the "
        "member returns. keep: deletes are ignored. flag: a version begins with the member's last "
        "values and `is_deleted` true.",
    )
    full_snapshot: bool = Field(
        False,
        description="Whether each day delivers all members: a member that a day lacks was deleted "
        "at that day's midnight (see `on_delete`). A member whose row is quarantined counts as "
        "present. A day without a good row is ignored. With `effective_time`, changes take the "
        "times of their rows, and a later day's row replaces what earlier days stated for its time "
        "and after.",
    )
    max_vanished_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of a full snapshot's members that the next one may lack; a day that "
        "lacks more is held. By default half, from ten members on: a truncated file would "
        "otherwise delete every member after the cut. 1 turns the check off.",
    )
    first_version: Literal["from_beginning", "at_effective_time"] = Field(
        "from_beginning",
        description="Whether a member's first version also covers the time before it.",
    )
    missing: Missing = Field(
        "inferred",
        description="What happens to a fact whose member does not exist at its event time. "
        "inferred: a row with the natural key is added, and completed once the source delivers the "
        "member. unknown: the fact gets key -1. refuse: the fact's day is held. A fact whose "
        "foreign key is NULL, or whose member was deleted at that time, gets key -1 unless "
        "`missing` is refuse.",
    )
    unknown: dict[ColumnName, Scalar] | Literal[False] = Field(
        default_factory=dict,
        description="Attribute values of the unknown member (key -1) and of inferred members. The "
        "unknown member's natural key is -1, Unknown, true or 1900-01-01, by type; a member of the "
        "source may have the same one. false: there is no unknown member, and a fact that would "
        "refer to it holds its day.",
    )
    load: Literal["upsert", "truncate_and_load"] = Field(
        "upsert",
        description="How the warehouse loads it: `upsert` writes the rows that differ, "
        "`truncate_and_load` rewrites all rows.",
    )
    owners: tuple[Owner, ...] = Field((), description=OWNERS_DESCRIPTION)
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description=TAGS_DESCRIPTION)

    @model_validator(mode="after")
    def _columns_are_consistent(self) -> Self:
        if problem := _repeated_column(self):
            raise ValueError(problem)
        if unknown := sorted({*self.unknown_values} - {*self.shown}):
            near = did_you_mean(unknown[0], self.shown)
            raise ValueError(f"unknown: {', '.join(unknown)}: not among the attributes{near}")
        if self.unknown is False and self.missing == "unknown":
            raise ValueError("missing: unknown needs the unknown member: drop `unknown: false`")
        if self.max_vanished_share is not None and not self.full_snapshot:
            raise ValueError(
                "max_vanished_share: is for dimensions with `full_snapshot: true` only: drop it"
            )
        can_delete = self.deleted_when is not None or self.full_snapshot
        if "on_delete" in self.model_fields_set and not can_delete:
            raise ValueError(
                "on_delete: needs `deleted_when` or `full_snapshot: true`: nothing states deletes"
            )
        return self

    @model_validator(mode="after")
    def _further_entities_fit(self) -> Self:
        for i, name in enumerate(self.further_entities):
            if name == self.entity:
                raise ValueError(
                    f"further_entities[{i}]: {name} is the dimension's `entity` already: leave it "
                    "out here"
                )
            if name in self.further_entities[:i]:
                raise ValueError(f"further_entities[{i}]: {name} stands there twice: drop one")
        if self.further_entities and self.full_snapshot:
            raise ValueError(
                "further_entities: goes without `full_snapshot`: a member may be absent in one "
                "entity and present in another: let one entity read the files of all, or declare "
                "`deleted_when`"
            )
        if self.further_entities and self.sequence is not None:
            raise ValueError(
                "further_entities: goes without `sequence`, as numbers of several entities "
                "have no common order: use `effective_time`"
            )
        return self

    @model_validator(mode="after")
    def _order_and_null_options_fit(self) -> Self:
        columns = {*self.attributes, *self.type1}
        if unknown := sorted({*self.ignore_nulls} - columns):
            near = did_you_mean(unknown[0], columns)
            raise ValueError(
                f"ignore_nulls: {', '.join(unknown)}: not among attributes and type1{near}"
            )
        if self.sequence is not None and self.full_snapshot:
            raise ValueError(
                "sequence: rows of full snapshots are ordered by their days: drop it, or drop "
                "`full_snapshot` if the rows are changes"
            )
        return self

    @property
    def key_column(self) -> str:
        """Surrogate key: dim_customer has customer_key."""
        return f"{self.name.removeprefix('dim_')}_key"

    @property
    def entities(self) -> tuple[str, ...]:
        """All entities with rows of its members, in the order in which they are declared."""
        return (self.entity, *self.further_entities)

    @property
    def entity_columns(self) -> tuple[str, ...]:
        """Columns that it reads of each entity, each once; `deleted_when` may read others."""
        names = [*self.natural_key.values(), *self.shown.values(), *self.tie_breakers]
        return tuple(dict.fromkeys([*names, *filter(None, [self.effective_time])]))

    @property
    def tie_breakers(self) -> tuple[str, ...]:
        """Entity columns that order a member's rows at one instant."""
        return (*([self.sequence] if self.sequence else []), *self.source_order)

    @property
    def shown(self) -> dict[str, str]:
        """Dimension column: entity column, for all columns besides the natural key."""
        return {**self.attributes, **self.untracked, **self.type1}

    @property
    def unknown_values(self) -> dict[str, Scalar]:
        """Attribute values of the unknown member and of inferred members."""
        return self.unknown or {}

    @property
    def has_unknown_member(self) -> bool:
        """Whether there is a row with key -1."""
        return self.unknown is not False

    @property
    def delete_action(self) -> DeleteAction:
        """What a delete does; keep where the source states no deletes."""
        can_delete = self.deleted_when is not None or self.full_snapshot
        return self.on_delete if can_delete else "keep"

    @property
    def infers_deletes(self) -> bool:
        """Whether a member that a day's full snapshot lacks counts as deleted."""
        return self.full_snapshot and self.delete_action != "keep"

    @property
    def has_timed_snapshots(self) -> bool:
        """Whether days are full snapshots whose rows have effective times of their own."""
        return self.full_snapshot and self.effective_time is not None

    @property
    def has_sequence(self) -> bool:
        """Whether a number orders the changes: the source's, or the full snapshot's day."""
        return self.sequence is not None or self.has_timed_snapshots

    @property
    def has_future(self) -> bool:
        """Whether rows may have effective times after their day."""
        return self.effective_time is not None

    @property
    def infers_members(self) -> bool:
        """Whether facts create inferred members."""
        return self.missing == "inferred"


class CalendarConfig(StrictModel):
    """A date dimension: one row a day, keyed yyyymmdd."""

    name: Name = Field("dim_date", description="Name of the table.")
    start: date = Field(description="First day.")
    end: date = Field(description="Last day, included.")
    description: str = Field("One row a day.", description="What one row stands for.")
    owners: tuple[Owner, ...] = Field((), description=OWNERS_DESCRIPTION)
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description=TAGS_DESCRIPTION)
    sentinels: tuple[date, ...] = Field(
        (),
        description="Dates outside the calendar that sources write for `never` or `for ever`. Each "
        "gets a row, so that keys of `dates` may refer to it. To store NULL instead, list them in "
        "`null_texts` of the column.",
        examples=[["1900-01-01", "9999-12-31"]],
    )
    business: BusinessCalendarConfig | None = Field(
        None,
        description="Holidays. With it, the calendar has the columns `is_holiday`, `holiday` (the "
        "name) and `is_business_day`; of `sentinels`, both flags are false.",
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"end: {self.end} lies before start, {self.start}")
        if self.end.year - self.start.year > _MOST_YEARS:
            raise ValueError(
                f"end: {self.end}: more than {_MOST_YEARS} years of one row a day; list a "
                "date that stands for no date, such as 9999-12-31, in `sentinels` instead"
            )
        if self.business is not None and (why := self.business.problem(self.start, self.end)):
            raise ValueError(f"business: {why}")
        return self

    @property
    def key_column(self) -> str:
        """Surrogate key, yyyymmdd."""
        return f"{self.name.removeprefix('dim_')}_key"


class FactDimension(StrictModel):
    """One foreign key of a fact: the version valid at the fact's event time."""

    dimension: Name = Field(description="Name of one of the dimensions.")
    natural_key: dict[ColumnName, ColumnName] = Field(
        min_length=1, description="Natural key column of the dimension: entity column."
    )
    role: Name | None = Field(
        None,
        description="Role of the member in the fact, where one dimension is joined several times: "
        "`billing_customer` gives the key billing_customer_key.",
    )
    event_time: ColumnName | None = Field(
        None,
        description="Entity column with the time of the as-of join; by default the fact's "
        "event_time.",
    )

    def key_column(self, dimension: DimensionConfig) -> str:
        """Name of the foreign key: the role's, or the dimension's own."""
        return f"{self.role}_key" if self.role else dimension.key_column


class FactConfig(StrictModel):
    """A fact table: an entity's rows or its daily state, with surrogate keys by as-of join."""

    name: Name = Field(description="Name of the table.")
    kind: FactKind = Field(
        "transaction",
        description="transaction: one row per row of the entity; dimensions are joined as of its "
        "event time. periodic_snapshot: one row per day and combination of the grain's values; "
        "dimensions are joined as of the day's end.",
    )
    snapshot_of: SnapshotOf = Field(
        "states",
        description="What the entity's rows are to a periodic snapshot. states: each day's rows "
        "are that day's state. changes: a key's row is its state until the day of its next row. "
        "movements: the measures are sums of all rows up to the day's end.",
    )
    additive: tuple[ColumnName, ...] = Field(
        (),
        description="Measures of a periodic snapshot of states that may be summed over days, such "
        "as the day's sales. All others are semi-additive (levels): they may be summed over every "
        "dimension but the date.",
    )
    entity: EntityReference = Field(description="source.entity that its rows come from.")
    description: str = Field("", description="What one row stands for.")
    grain: tuple[KeyColumnName, ...] = Field(
        min_length=1, description="What one row stands for; most often the entity's key."
    )
    event_time: ColumnName | None = Field(
        None,
        description="Entity column with the event time, as of which dimensions are joined. By "
        "default the entity's `event_time` or `partition_by`; one of these is required. A periodic "
        "snapshot has none: it is joined as of the day's end.",
    )
    dates: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="Further keys of the calendar, besides date_key. Key column: entity column "
        "with a date or time. The key is NULL where the column is NULL.",
        examples=[{"ship_date_key": "shipped_at"}],
    )
    dimensions: tuple[FactDimension, ...] = Field((), description="Its foreign keys.")
    columns: tuple[KeyColumnName, ...] = Field(
        (),
        description="Columns copied unchanged: degenerate dimensions, the event time, and "
        "`_source_object` and `_source_position`, from which a row was read.",
    )
    measures: tuple[ColumnName, ...] = Field(
        min_length=1, description="Entity columns that are aggregated; see `additive`."
    )
    load: Literal["partition_replace", "upsert", "truncate_and_load"] = Field(
        "partition_replace",
        description="How the warehouse loads it. partition_replace: the days of a run are "
        "replaced, in a table partitioned by month. upsert: the rows of these days that differ are "
        "written, in a table whose primary key is date_key and the grain (`columns` must contain "
        "the grain). truncate_and_load: all days are rewritten, in one table.",
    )
    keep_months: int | None = Field(
        None,
        ge=1,
        description="Months that the warehouse keeps, including the current one; "
        "`headrace warehouse retain` drops older ones. Without it, all. Needs "
        "`load: partition_replace`.",
    )
    owners: tuple[Owner, ...] = Field((), description=OWNERS_DESCRIPTION)
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description=TAGS_DESCRIPTION)

    @property
    def is_snapshot(self) -> bool:
        """Whether a row is the state at a day's end rather than an event."""
        return self.kind == "periodic_snapshot"

    @property
    def accumulates(self) -> bool:
        """Whether a day's rows depend on the rows of all days before it."""
        return self.is_snapshot and self.snapshot_of != "states"

    @property
    def levels(self) -> tuple[ColumnName, ...]:
        """Semi-additive measures: they must not be summed over days."""
        return tuple(m for m in self.measures if self.is_snapshot and m not in self.additive)


class StarConfig(StrictModel):
    """The whole star."""

    dimensions: tuple[DimensionConfig, ...] = Field((), description="The dimensions.")
    calendar: CalendarConfig = Field(description="The date dimension.")
    facts: tuple[FactConfig, ...] = Field(min_length=1, description="The facts.")
    row_access: tuple[RowAccess, ...] = Field(
        (), description="Row-level security: roles that read only some rows."
    )

    @model_validator(mode="after")
    def _facts_name_columns_once(self) -> Self:
        dimensions = {dimension.name: dimension for dimension in self.dimensions}
        for i, fact in enumerate(self.facts):
            keys = [
                join.key_column(dimensions[join.dimension])
                for join in fact.dimensions
                if join.dimension in dimensions
            ]
            if problem := _named_twice(fact, keys) or key_of_a_column(fact, keys):
                raise ValueError(f"facts[{i}].{problem}")
        return self

    @model_validator(mode="after")
    def _access_is_by_columns_that_exist(self) -> Self:
        known = {dim.name: {*dim.natural_key, *dim.shown} for dim in self.dimensions}
        for i, rule in enumerate(self.row_access):
            place = f"row_access[{i}]"
            if rule.dimension not in known:
                raise ValueError(f"{place}.dimension: {unknown_name(rule.dimension, known)}")
            if rule.column not in known[rule.dimension]:
                names = known[rule.dimension]
                near = did_you_mean(rule.column, names) or f"; it has {', '.join(sorted(names))}"
                raise ValueError(
                    f"{place}.column: {rule.dimension} has no column '{rule.column}'{near}"
                )
        return self

    def uses_of(self, entity: str) -> EntityUses | None:
        """What the star needs of `source.entity`; None if it has no requirements."""
        dimensions = [dim for dim in self.dimensions if entity in dim.entities]
        snapshots = tuple(
            FullSnapshot(
                dimension=dim.name,
                key=tuple(dim.natural_key.values()),
                max_vanished_share=dim.max_vanished_share,
            )
            for dim in dimensions
            if dim.infers_deletes
        )
        order = next((dim.tie_breakers for dim in dimensions if dim.tie_breakers), ())
        if not (snapshots or order):
            return None
        return EntityUses(full_snapshots=snapshots, source_order=order)

    def dimension(self, name: str) -> DimensionConfig:
        """The dimension called `name`; KeyError if there is none."""
        return {dimension.name: dimension for dimension in self.dimensions}[name]


def _repeated_column(dimension: DimensionConfig) -> str | None:
    """A column that a dimension would have twice, after the key that names it again."""
    own = {dimension.key_column: "its surrogate key"}
    own |= dict.fromkeys(_VALIDITY, "a column of every dimension")
    named: dict[str, str] = {}
    for place in ("natural_key", "attributes", "untracked", "type1"):
        for name in getattr(dimension, place):
            if name in own:
                return f"{place}.{name}: '{name}' is {own[name]}: give the column another name"
            if (other := named.setdefault(name, place)) != place:
                return f"{place}.{name}: columns named twice: {name} is in {other} too: keep one"
    return None


def _named_twice(fact: FactConfig, keys: Sequence[str]) -> str | None:
    """A column that a fact would have twice, after the key of the fact that names it again."""
    named = {"date_key": "every fact"}
    places = {"dimensions": keys, "dates": [*fact.dates]}
    places |= {"columns": fact.columns, "measures": fact.measures}
    for place, names in places.items():
        for name in names:
            other = named.setdefault(name, place)
            if names.count(name) > 1 or other != place:
                where = "" if other == place else f" ({other} has it too)"
                remedy = "a dimension that is joined twice needs a role"
                if other == "every fact":
                    remedy = "give the entity's column another name"
                elif place != "dimensions":
                    remedy = "keep one of them"
                return f"{place}: columns named twice: {name}{where}: {remedy}"
    return None


def key_of_a_column(fact: FactConfig, keys: Sequence[str]) -> str | None:
    """A column of the entity that has the name of a key that is made from it or from another."""
    taken = {*keys, *fact.dates, "date_key"}
    places = {"grain": [*fact.grain], "dates": [*fact.dates.values()]}
    places["event_time"] = [fact.event_time] if fact.event_time else []
    places["dimensions"] = [
        name
        for join in fact.dimensions
        for name in (*join.natural_key.values(), join.event_time)
        if name
    ]
    for place, names in places.items():
        if found := [name for name in names if name in taken]:
            return (
                f"{place}: {found[0]}: a column of the entity has a key's name: give the join a "
                "role, or the key another name"
            )
    return None
