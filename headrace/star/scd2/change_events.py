"""Change events of a dimension's members, and their order; the last one of an instant counts."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.engine import functions as parse
from headrace.engine.values.times import date_key_of, moment_of
from headrace.engine.values.types import sql_type
from headrace.lineage_schema import SOURCE_ORDER
from headrace.schema import PARTITION_COLUMN
from headrace.star.scd2.entity_union import ENTITY_RANK, IS_DELETE, is_delete
from headrace.star.scd2.member_window import MemberWindow

# Earlier than any event of a source; every database supports this date.
BEGINNING = "1900-01-01 00:00:00"
# The earliest time of a delete: its member existed before.
_FIRST_DELETE = "1900-01-01 00:00:00.000001"

# Kinds of events: a row states a member's attributes; a row or a full snapshot states its delete; a
# fact refers to it; its published version, which stands for all earlier events; a quarantined row
# shows that a full snapshot has it.
STATE, DELETE, REFERENCE, PUBLISHED = "state", "delete", "reference", "published"
PRESENT = "present"

# Event time of a fact's reference. Only internal columns begin with an underscore.
REFERENCE_TIME = "_event_time"

# For a row without an effective time: that of the row before it.
_ASSIGNED_TIME = "_assigned_time"
# Order of events at one instant; the last one counts.
_EVENT_ORDER = ("_row_time", PARTITION_COLUMN, *SOURCE_ORDER)


def value_types(config: DimensionConfig, entity: EntityConfig) -> dict[str, str]:
    """Type of each attribute that the dimension shows; type 1 attributes are last."""
    return {name: entity.column(source).type for name, source in config.shown.items()}


def key_types(config: DimensionConfig, entity: EntityConfig) -> dict[str, str]:
    """Type of each column of the natural key."""
    return {name: entity.column(source).type for name, source in config.natural_key.items()}


def instant(text: str) -> Column:
    """A literal wall-clock time."""
    return F.lit(text).cast("timestamp_ntz")


def moment(entity: EntityConfig, column: str) -> Column:
    """A date or time of an entity for comparisons: a local time, in UTC if there is a zone."""
    return moment_of(F.col(column), entity.column(column).type, entity.timezone)


def day_start(entity: EntityConfig) -> Column:
    """Start of a row's day, for comparisons."""
    return moment_of(F.col(PARTITION_COLUMN), "date", entity.timezone)


def day_number() -> Column:
    """A row's day as a number yyyymmdd."""
    return date_key_of(F.col(PARTITION_COLUMN)).cast("bigint")


def row_events(rows: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """One event a processed row; rows with NULL in the natural key are left out.

    Args:
        rows: Processed rows of the entity; of several entities, their `union_of_entities`.
        config: Natural key, attributes, effective time, and the condition for deletes.
        entity: Types of the columns.

    Returns:
        Columns of `events_schema`; a member may have several events at one instant.
    """
    named = {**config.natural_key, **config.shown}
    for source in config.natural_key.values():
        rows = rows.where(F.col(source).isNotNull())
    row_time = day_start(entity)
    if config.effective_time is not None:
        rows = rows.transform(_with_assigned_times, config, entity)
        row_time = F.greatest(row_time, F.col(_ASSIGNED_TIME))
        row_time = F.coalesce(moment(entity, config.effective_time), row_time)
    deletes = F.col(IS_DELETE) if config.further_entities else is_delete(config)
    beginning = F.when(deletes, instant(_FIRST_DELETE)).otherwise(instant(BEGINNING))
    at = F.greatest(row_time, beginning)
    given = {name: F.col(source) for name, source in named.items()}
    given |= {
        "_kind": F.when(deletes, F.lit(DELETE)).otherwise(F.lit(STATE)),
        "_at": at,
        "_changed_at": at,
        "_deleted": deletes,
        "_row_time": row_time,
        **{name: F.col(name) for name in (PARTITION_COLUMN, *SOURCE_ORDER)},
        **{f"_order_{i}": F.col(source) for i, source in enumerate(config.tie_breakers)},
    }
    if config.further_entities:
        given[ENTITY_RANK] = F.col(ENTITY_RANK)
    if config.sequence is not None:
        # A row without a number precedes all rows with one.
        given["_sequence"] = F.coalesce(F.col(config.sequence).cast("bigint"), F.lit(-(2**63)))
    if config.has_timed_snapshots:
        given["_sequence"] = day_number()
        values = [(F.col(named[n]), kind) for n, kind in value_types(config, entity).items()]
        stamp = [(row_time, "timestamp"), (deletes.cast("int"), "int")]
        given["_row_hash"] = parse.hash_key([*stamp, *values])
    events = as_events(rows, given, config, entity)
    if config.delete_action == "keep":
        events = events.where(F.col("_kind") == STATE)
    return _one_per_member(events, config, entity) if is_constant(config) else events


def reference_events(
    references: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """One event a member that facts refer to, with the earliest time of a reference.

    Args:
        references: The dimension's natural key columns and `_event_time`.
        config: The natural key.
        entity: Types of the columns.
    """
    keys = key_types(config, entity)
    at = F.col(REFERENCE_TIME).cast("timestamp_ntz")
    # A fact before BEGINNING has no version, not even an inferred one.
    known = references.where(at >= instant(BEGINNING))
    for name in keys:
        known = known.where(F.col(name).isNotNull())
    first = known.groupBy(*keys).agg(F.min(at).alias("_referenced_at"))
    given = {name: F.col(name) for name in (*keys, "_referenced_at")}
    return as_events(first, {**given, "_kind": F.lit(REFERENCE)}, config, entity)


def as_events(
    frame: DataFrame, given: Mapping[str, Column], config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """The frame in the columns of events; columns that are not `given` are NULL."""
    types = events_schema(config, entity)
    return frame.select(
        *(given.get(n, F.lit(None)).cast(sql_type(kind)).alias(n) for n, kind in types.items())
    )


def events_schema(config: DimensionConfig, entity: EntityConfig) -> dict[str, str]:
    """Columns of events and their types.

    Attributes:
        _kind: STATE, DELETE, REFERENCE, PUBLISHED or PRESENT.
        _at: Effective time; NULL for a reference.
        _changed_at: Effective time of the last row that the event stands for.
        _known_from: For a published version, start of the member's first version.
        _referenced_at: Earliest time of a fact's reference to the member.
        _next_change_at: For a published version, its first change that lay in the future.
        _sequence: Number by which the source orders changes; for a published version, the largest.
        _row_hash: With timed snapshots: hash of the row's time and values; for a published
            version, of its last row, or NULL if the last snapshot lacks the member.
        _deleted: Whether the member is deleted after the event.
    """
    order = {f"_order_{i}": entity.column(s).type for i, s in enumerate(config.tie_breakers)}
    if config.further_entities:
        order = {ENTITY_RANK: "int", **order}
    return {
        **key_types(config, entity),
        **value_types(config, entity),
        "_kind": "string",
        "_at": "timestamp",
        "_changed_at": "timestamp",
        "_known_from": "timestamp",
        "_referenced_at": "timestamp",
        "_next_change_at": "timestamp",
        "_sequence": "bigint",
        "_row_hash": "bigint",
        "_deleted": "boolean",
        "_row_time": "timestamp",
        **order,
        PARTITION_COLUMN: "date",
        "_delivery_order": "string",
        "_source_object": "string",
        "_source_position": "bigint",
    }


def event_order(config: DimensionConfig) -> list[str]:
    """Columns that order the events of one instant; the last event counts."""
    order = [f"_order_{i}" for i in range(len(config.tie_breakers))]
    first = ["_sequence"] if config.has_sequence else []
    # Neither files nor lines of several entities have a common order.
    rank = [ENTITY_RANK] if config.further_entities else []
    return [*first, _EVENT_ORDER[0], *rank, *order, *_EVENT_ORDER[1:], "_tie"]


def with_tie(events: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """Add `_tie`, which orders events that are equal in all order columns."""
    values = [(F.col(n), kind) for n, kind in value_types(config, entity).items()]
    return events.withColumn("_tie", parse.row_hash([*values, (F.col("_kind"), "string")]))


def last_event_per_instant(
    events: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Keep the last event of a member at each instant, by source order.

    Returns:
        Events, and `_has_values`: whether the event is a delete, and has the values of a state at
        the same instant, which is dropped. `_sequence` is the member's largest.
    """
    order = [F.col(name).asc_nulls_first() for name in ("_at", *event_order(config))]
    in_order = MemberWindow([*config.natural_key], order)
    current = with_outdated(events, config).where(~F.col("_is_outdated")).drop("_is_outdated")
    if config.has_timed_snapshots:
        current = current.where(F.col("_kind") != PRESENT)
    current = with_tie(current, config, entity)
    current = current.transform(_with_carried_values, in_order, config, entity)
    if _may_follow_states(config):
        current = _with_states_of_deletes(current, in_order, config, entity)
    else:
        current = current.withColumn("_has_values", F.lit(False))
    with_next = current.withColumn("_next_at", in_order.lead("_at"))
    differs = F.col("_next_at").isNull() | (F.col("_at") != F.col("_next_at"))
    found = with_next.where((F.col("_kind") == REFERENCE) | differs).drop("_tie", "_next_at")
    if not config.has_sequence:
        return found
    return found.withColumn("_sequence", F.col("_largest")).drop("_largest")


def with_outdated(events: DataFrame, config: DimensionConfig) -> DataFrame:
    """Add `_is_outdated`: whether a row with a larger number has an earlier effective time.

    Also adds `_largest`, the member's largest sequence number: the row that has it may be dropped
    later, as a repeated delete.
    """
    if not config.has_sequence:
        return events.withColumn("_is_outdated", F.lit(False))
    member = Window.partitionBy(*config.natural_key)
    until_now = member.orderBy("_at", "_sequence").rowsBetween(Window.unboundedPreceding, -1)
    # Presence events have no effective time.
    before = F.max(F.when(F.col("_kind") != PRESENT, F.col("_sequence"))).over(until_now)
    is_row = F.col("_kind").isin(STATE, DELETE)
    is_outdated = F.coalesce(is_row & (before > F.col("_sequence")), F.lit(False))
    largest = F.max("_sequence").over(member)
    return events.withColumns({"_is_outdated": is_outdated, "_largest": largest})


def _may_follow_states(config: DimensionConfig) -> bool:
    """Whether a delete may have the same effective time as the state before it."""
    if config.delete_action == "keep":
        return False
    return config.has_timed_snapshots or bool(config.deleted_when)


def _with_carried_values(
    events: DataFrame, in_order: MemberWindow, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Fill NULLs of `ignore_nulls` columns with the member's last value before."""
    types, is_state = value_types(config, entity), F.col("_kind") == STATE
    carried = {}
    for name in config.ignore_nulls:
        has_value = (is_state & F.col(name).isNotNull()) | (F.col("_kind") == PUBLISHED)
        value = F.when(has_value, F.struct(F.col(name).alias("_value")))
        if name not in config.type1:
            nothing = F.lit(None).cast(sql_type(types[name]))
            value = F.when(F.col("_deleted"), F.struct(nothing.alias("_value"))).otherwise(value)
        last = in_order.last_value(value).getField("_value")
        carried[name] = F.when(is_state, last).otherwise(F.col(name))
    return events.withColumns(carried) if carried else events


def _with_states_of_deletes(
    events: DataFrame, in_order: MemberWindow, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Drop repeated deletes, and give a delete the values of a state at the same instant."""
    # By lag: the last state so far takes ten times as long over 400,000 events.
    follows = in_order.lag("_at") == F.col("_at")
    is_delete = F.col("_kind") == DELETE
    repeats = F.coalesce(is_delete & follows & (in_order.lag("_kind") == DELETE), F.lit(False))
    once = events.withColumn("_repeats", repeats).where(~F.col("_repeats")).drop("_repeats")
    names = [*value_types(config, entity)]
    before = {
        "_has_values": is_delete & follows & (in_order.lag("_kind") == STATE),
        **{f"_state_{name}": in_order.lag(name) for name in names},
    }
    found = once.withColumns(before)
    has_values = F.coalesce(F.col("_has_values"), F.lit(False))
    values = {
        name: F.when(has_values, F.col(f"_state_{name}")).otherwise(F.col(name)) for name in names
    }
    shown = found.withColumns({"_has_values": has_values, **values})
    return shown.drop(*(f"_state_{name}" for name in names))


def _with_assigned_times(
    rows: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Add `_assigned_time`: for a row without a time, the latest time before it on its day.

    Otherwise such a row would take effect at midnight, before the rows that it follows.
    """
    time = F.col(str(config.effective_time))
    none = F.lit(None).cast("timestamp_ntz")
    required = {*entity.key, *(c.name for c in entity.processed_columns if c.has_always_a_value)}
    if config.effective_time in required:
        return rows.withColumn(_ASSIGNED_TIME, none)
    key = [*config.natural_key.values(), PARTITION_COLUMN]
    if config.further_entities:
        key.append(ENTITY_RANK)
    order = [F.col(name).asc_nulls_first() for name in (*config.tie_breakers, *SOURCE_ORDER)]
    before = Window.partitionBy(*key).orderBy(*order).rowsBetween(Window.unboundedPreceding, -1)
    # Few rows lack a time: only their members' days go through the window.
    lacking = rows.where(time.isNull()).select(*key).distinct()
    days = lacking.join(rows, key)
    latest = F.max(moment(entity, str(config.effective_time))).over(before)
    assigned = days.withColumn(_ASSIGNED_TIME, latest).where(time.isNull())
    timed = rows.where(time.isNotNull()).withColumn(_ASSIGNED_TIME, none)
    return timed.unionByName(assigned)


def is_constant(config: DimensionConfig) -> bool:
    """Whether members have no attributes and are never deleted, so that they cannot change."""
    return not config.shown and config.delete_action == "keep"


def _one_per_member(events: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """One event a member, with the first and last time of its rows.

    Only for members that cannot change. Such a dimension is often built from facts, with millions
    of rows for some hundred members.
    """
    found = events.groupBy(*config.natural_key).agg(
        F.min("_at").alias("_at"), F.max("_changed_at").alias("_changed_at")
    )
    given = {name: F.col(name) for name in (*config.natural_key, "_at", "_changed_at")}
    given |= {"_kind": F.lit(STATE), "_deleted": F.lit(False)}
    return as_events(found, given, config, entity)
