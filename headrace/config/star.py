"""Models of `config/star.yaml`: the dimensions and facts of the star schema."""

from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

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
from headrace.config.outriggers import Outrigger


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


Scalar = str | int | bool
DeleteAction = Literal["close", "keep", "flag"]
Missing = Literal["inferred", "unknown", "refuse"]
FactKind = Literal["transaction", "periodic_snapshot"]
SnapshotOf = Literal["states", "changes", "movements"]

_MOST_YEARS = 400
_VALIDITY = ("valid_from", "valid_to", "is_current", "is_latest", "is_deleted", "is_inferred")


class DeletesConfig(StrictModel):
    """How a source says that a member is gone, and what becomes of it then."""

    when: str | None = Field(
        None,
        description="SQL condition over the entity's columns: a row for which it is true says that "
        "the member is deleted. May be left out where `snapshot` tells of deletes.",
        examples=["operation = 'D'", "deleted_at is not null"],
    )
    do: DeleteAction = Field(
        "close",
        description="close: the version ends, and none is current until the member comes back. "
        "keep: deletes are ignored. flag: a version begins that shows the member as it was last "
        "known, with is_deleted true.",
    )


class FullSnapshot(StrictModel):
    """A dimension that takes each day of its entity as all its members."""

    dimension: str = Field(description="Its name.")
    key: tuple[str, ...] = Field(description="The entity's columns of its natural key.")
    max_vanished_share: float | None = Field(description="As the dimension declares it.")


class EntityUses(StrictModel):
    """What the star asks of an entity's processed rows.

    Attributes:
        source_order: Columns that settle which of the rows of one key and day came last.
    """

    full_snapshots: tuple[FullSnapshot, ...] = Field((), description="Dimensions made from it.")
    source_order: tuple[str, ...] = Field((), description="As its dimensions declare it.")


class DimensionConfig(StrictModel):
    """A dimension with history (type 2), built from one entity's versions."""

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
        description="Dimension column: entity column. A change of one of them begins a version "
        "(type 2).",
    )
    overwritten: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="Dimension column: entity column. A change of one of them begins no version: "
        "every version of the member shows the latest value (type 1).",
    )
    untracked: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="Dimension column: entity column. A change of one of them begins no version: "
        "each version keeps the value of the row that it began with.",
    )
    ignore_nulls: tuple[ColumnName, ...] = Field(
        (),
        description="Columns of `attributes` or `overwritten` of which a NULL says nothing, as in "
        "sources that deliver changed columns only: the value told before stays. A member that was "
        "deleted begins anew, but for its `overwritten` columns.",
    )
    outriggers: tuple[Outrigger, ...] = Field(
        (), description="Other dimensions that this one's columns name, such as a store's region."
    )
    effective_time: ColumnName | None = Field(
        None,
        description="Entity column that says when a version begins; without it, and where a row "
        "lacks it, midnight of the partition's day. Times before 1900 count as 1900-01-01. A "
        "version "
        "that begins after the last day that the dimension was run for is one of the future: facts "
        "of its time find it, and it is not `is_current` until that day is run.",
    )
    sequence: ColumnName | None = Field(
        None,
        description="Entity column with a whole number that grows with every change of a member, "
        "such as a version or a log position. Then the number says which change came later, and "
        "the time only when: a row that comes with a smaller number than one that holds already "
        "changes nothing.",
    )
    source_order: tuple[ColumnName, ...] = Field(
        (),
        description="Entity columns that settle which of several changes of a member at one "
        "instant came last: the largest, NULL being smallest. After them: the partition's day, "
        "when it was captured, the file and the line. They also settle which of the rows of a day "
        "that agree in the entity's key is kept.",
    )
    deletes: DeletesConfig | None = Field(
        None, description="How deletes are told and what they do; without it, none are told."
    )
    snapshot: bool = Field(
        False,
        description="Whether each day brings all members: one that a day lacks was deleted at that "
        "day's midnight (`deletes.do`, by default close). A member whose row is quarantined was "
        "there all the same. A day without a good row says nothing. With `effective_time`, changes "
        "take the times of their rows, and a later day's row overrules what earlier days said of "
        "the time from its own on.",
    )
    max_vanished_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of a snapshot's members that the next one may lack; a day that lacks "
        "more is held. By default half, where there are ten members or more: a file that was cut "
        "off would otherwise delete everybody behind the cut. 1 turns it off.",
    )
    first_version: Literal["from_beginning", "at_effective_time"] = Field(
        "from_beginning",
        description="Whether a member's first version also covers the time before it.",
    )
    missing: Missing = Field(
        "inferred",
        description="What a fact gets whose member is not known at its event time. inferred: the "
        "member gets a row with its natural key, filled in when the source tells of it. unknown: "
        "the fact gets key -1. refuse: the fact's day is held. A fact that names no member, or one "
        "that was deleted then, gets key -1 unless it is refused.",
    )
    unknown: dict[ColumnName, Scalar] | Literal[False] = Field(
        default_factory=dict,
        description="Attribute values of the unknown member (key -1), and of inferred ones. Its "
        "natural key is -1, Unknown, true or 1900-01-01, by type; a member of the source may have "
        "the same. false: there is no unknown member, and a fact that would point to it holds its "
        "day.",
    )
    load: Literal["upsert", "truncate_and_load"] = Field(
        "upsert",
        description="How the warehouse takes it: `upsert` writes the rows that differ, "
        "`truncate_and_load` all rows anew.",
    )
    owners: tuple[Owner, ...] = Field((), description=OWNERS_DESCRIPTION)
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description=TAGS_DESCRIPTION)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        columns = [self.key_column, *self.natural_key, *self.attributes]
        columns += [*self.untracked, *self.overwritten]
        columns += _VALIDITY
        if repeated := sorted({name for name in columns if columns.count(name) > 1}):
            raise ValueError(f"columns named twice: {', '.join(repeated)}")
        if strangers := sorted({*self.unknown_values} - {*self.shown}):
            near = did_you_mean(strangers[0], self.shown)
            raise ValueError(f"unknown: {', '.join(strangers)}: not among the attributes{near}")
        if self.unknown is False and self.missing == "unknown":
            raise ValueError("missing: unknown needs the unknown member: drop `unknown: false`")
        if self.max_vanished_share is not None and not self.snapshot:
            raise ValueError("max_vanished_share is for dimensions with `snapshot: true` only")
        if self.deletes is not None and self.deletes.when is None and not self.snapshot:
            raise ValueError("deletes needs `when`: which rows tell of a delete?")
        return self

    @model_validator(mode="after")
    def _has_entities_that_go_together(self) -> Self:
        if repeated := sorted({e for e in self.entities if self.entities.count(e) > 1}):
            raise ValueError(f"further_entities: {', '.join(repeated)} stands there twice")
        if self.further_entities and self.snapshot:
            raise ValueError(
                "further_entities: goes without `snapshot`, as a member may lack in one "
                "entity and be in another: let one entity read the files of all, or tell deletes "
                "by `deletes.when`"
            )
        if self.further_entities and self.sequence is not None:
            raise ValueError(
                "further_entities: goes without `sequence`, as numbers of several entities "
                "have no common order: use `effective_time`"
            )
        return self

    @model_validator(mode="after")
    def _orders_and_keeps_what_it_has(self) -> Self:
        told = {*self.attributes, *self.overwritten}
        if strangers := sorted({*self.ignore_nulls} - told):
            near = did_you_mean(strangers[0], told)
            raise ValueError(
                f"ignore_nulls: {', '.join(strangers)}: not among attributes and overwritten{near}"
            )
        if self.sequence is not None and self.snapshot:
            raise ValueError("sequence: a snapshot's rows are in the order of their days")
        return self

    @property
    def key_column(self) -> str:
        """Surrogate key: dim_customer has customer_key."""
        return f"{self.name.removeprefix('dim_')}_key"

    @property
    def entities(self) -> tuple[str, ...]:
        """All entities that tell of its members, in the order in which they are declared."""
        return (self.entity, *self.further_entities)

    @property
    def entity_columns(self) -> tuple[str, ...]:
        """Columns that it reads of each entity, each once; `deletes.when` may read others."""
        names = [*self.natural_key.values(), *self.shown.values(), *self.told_by]
        return tuple(dict.fromkeys([*names, *filter(None, [self.effective_time])]))

    @property
    def told_by(self) -> tuple[str, ...]:
        """Entity columns that order a member's rows at one instant."""
        return (*([self.sequence] if self.sequence else []), *self.source_order)

    @property
    def shown(self) -> dict[str, str]:
        """Dimension column: entity column, of all that is shown beside the natural key."""
        return {**self.attributes, **self.untracked, **self.overwritten}

    @property
    def unknown_values(self) -> dict[str, Scalar]:
        """Attribute values of members of whom nothing is known."""
        return self.unknown or {}

    @property
    def has_unknown_member(self) -> bool:
        """Whether there is a row with key -1."""
        return self.unknown is not False

    @property
    def delete_action(self) -> DeleteAction:
        """What a delete does; keep where none can be told."""
        if self.deletes is not None:
            return self.deletes.do
        return "close" if self.snapshot else "keep"

    @property
    def snapshots_tell_deletes(self) -> bool:
        """Whether a member that a day's snapshot lacks is deleted."""
        return self.snapshot and self.delete_action != "keep"

    @property
    def has_timed_snapshots(self) -> bool:
        """Whether each day brings all members, and each row says since when it holds."""
        return self.snapshot and self.effective_time is not None

    @property
    def has_sequence(self) -> bool:
        """Whether a number says which change came later: the source's, or the snapshot's day."""
        return self.sequence is not None or self.has_timed_snapshots

    @property
    def has_future(self) -> bool:
        """Whether rows may tell of times after their day."""
        return self.effective_time is not None

    @property
    def infers_members(self) -> bool:
        """Whether facts bring members of whom the source has not told."""
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
        description="Days outside of it that sources write for `never` or `for ever`: each is a "
        "row, so that keys of `dates` may point to it. To have NULL instead, name them in "
        "`null_texts` of the column.",
        examples=[["1900-01-01", "9999-12-31"]],
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"end: {self.end} lies before start, {self.start}")
        if self.end.year - self.start.year > _MOST_YEARS:
            raise ValueError(
                f"end: {self.end}: more than {_MOST_YEARS} years, a row a day; a date that stands "
                "for no date, such as 9999-12-31, needs no calendar that reaches it"
            )
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
        description="What the member is to the fact, where one dimension is joined several times: "
        "`billing_customer` gives the key billing_customer_key.",
    )
    event_time: ColumnName | None = Field(
        None,
        description="Entity column with the time as of which the member is joined; by default the "
        "fact's event_time.",
    )

    def key_column(self, dimension: DimensionConfig) -> str:
        """Name of the foreign key: the role's, or the dimension's own."""
        return f"{self.role}_key" if self.role else dimension.key_column


class FactConfig(StrictModel):
    """A fact table: rows of an entity, or its state on every day, with keys as of their time."""

    name: Name = Field(description="Name of the table.")
    kind: FactKind = Field(
        "transaction",
        description="transaction: one row a row of the entity, with keys as of its event time. "
        "periodic_snapshot: one row a day for each combination of the grain's values, with keys as "
        "of the day's end.",
    )
    snapshot_of: SnapshotOf = Field(
        "states",
        description="Where a periodic snapshot's rows come from. states: each day's rows are that "
        "day's state. changes: a key's row is its state until the day of its next one. movements: "
        "the measures are sums of all rows up to the day's end.",
    )
    additive: tuple[ColumnName, ...] = Field(
        (),
        description="Measures of a periodic snapshot of states that add up over days too, such as "
        "what was sold on the day. All its others are levels (semi-additive): they add up over "
        "everything but days.",
    )
    entity: EntityReference = Field(description="source.entity that its rows come from.")
    description: str = Field("", description="What one row stands for.")
    grain: tuple[KeyColumnName, ...] = Field(
        min_length=1, description="What one row stands for; most often the entity's key."
    )
    event_time: ColumnName | None = Field(
        None,
        description="Entity column that says when it happened: dimensions are joined as they were "
        "then. Every fact needs it but a periodic snapshot, which is joined as of the day's end.",
    )
    dates: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="More keys into the calendar, besides date_key: key column: entity column with "
        "a date or time. NULL where that is NULL.",
        examples=[{"ship_date_key": "shipped_at"}],
    )
    dimensions: tuple[FactDimension, ...] = Field((), description="Its foreign keys.")
    columns: tuple[KeyColumnName, ...] = Field(
        (),
        description="Columns kept as they are: degenerate dimensions, the event time, and "
        "`_source_object` and `_source_position`, where a row was read.",
    )
    measures: tuple[ColumnName, ...] = Field(
        min_length=1, description="Entity columns that are added up; see `additive`."
    )
    load: Literal["partition_replace", "upsert", "truncate_and_load"] = Field(
        "partition_replace",
        description="How the warehouse takes it: `partition_replace` the days of a run, in a "
        "table partitioned by month; `upsert` the rows of these days that differ, in one table "
        "with date_key and the grain, which `columns` must hold, as its primary key; "
        "`truncate_and_load` every day anew, in one table.",
    )
    keep_months: int | None = Field(
        None,
        ge=1,
        description="Months that the warehouse keeps, the current one among them; "
        "`headrace warehouse retain` drops older ones. Without it, all. Needs "
        "`load: partition_replace`.",
    )
    owners: tuple[Owner, ...] = Field((), description=OWNERS_DESCRIPTION)
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description=TAGS_DESCRIPTION)

    @property
    def is_snapshot(self) -> bool:
        """Whether a row is the state at a day's end, and not something that happened."""
        return self.kind == "periodic_snapshot"

    @property
    def accumulates(self) -> bool:
        """Whether a day's rows depend on the rows of all days before it."""
        return self.is_snapshot and self.snapshot_of != "states"

    @property
    def levels(self) -> tuple[ColumnName, ...]:
        """Measures that must not be added up over days."""
        return tuple(m for m in self.measures if self.is_snapshot and m not in self.additive)


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
    def _facts_name_columns_once(self) -> Self:
        dimensions = {dimension.name: dimension for dimension in self.dimensions}
        for fact in self.facts:
            keys = [
                join.key_column(dimensions[join.dimension])
                for join in fact.dimensions
                if join.dimension in dimensions
            ]
            columns = [*keys, *fact.dates, "date_key", *fact.columns, *fact.measures]
            if repeated := sorted({name for name in columns if columns.count(name) > 1}):
                raise ValueError(
                    f"{fact.name}: columns named twice: {', '.join(repeated)}; a dimension that is "
                    "joined twice needs a role"
                )
            sources = {*fact.grain, *fact.dates.values(), fact.event_time}
            for join in fact.dimensions:
                sources |= {*join.natural_key.values(), join.event_time}
            if taken := sorted({*filter(None, sources)} & {*keys, *fact.dates, "date_key"}):
                raise ValueError(
                    f"{fact.name}: {', '.join(taken)}: a column of the entity has a key's name; "
                    "give the join a role, or the key another name"
                )
        return self

    @model_validator(mode="after")
    def _access_is_by_columns_that_exist(self) -> Self:
        known = {dim.name: {*dim.natural_key, *dim.shown} for dim in self.dimensions}
        for rule in self.row_access:
            if rule.dimension not in known:
                raise ValueError(f"row_access: {unknown_name(rule.dimension, known)}")
            if rule.column not in known.get(rule.dimension, ()):
                near = did_you_mean(rule.column, known.get(rule.dimension, ()))
                raise ValueError(
                    f"row_access: {rule.dimension} has no column '{rule.column}'{near}"
                )
        return self

    def uses_of(self, entity: str) -> EntityUses | None:
        """What the star asks of `source.entity`; None if it takes the rows as they are."""
        dimensions = [dim for dim in self.dimensions if entity in dim.entities]
        snapshots = tuple(
            FullSnapshot(
                dimension=dim.name,
                key=tuple(dim.natural_key.values()),
                max_vanished_share=dim.max_vanished_share,
            )
            for dim in dimensions
            if dim.snapshots_tell_deletes
        )
        order = next((dim.told_by for dim in dimensions if dim.told_by), ())
        if not (snapshots or order):
            return None
        return EntityUses(full_snapshots=snapshots, source_order=order)

    def dimension(self, name: str) -> DimensionConfig:
        """The dimension called `name`; KeyError if there is none."""
        return {dimension.name: dimension for dimension in self.dimensions}[name]
