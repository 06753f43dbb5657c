"""Change events of a dimension's members: from rows, deletes, fact references, full snapshots."""

from collections.abc import Callable, Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig
from headrace.engine import functions as parse
from headrace.engine.times import date_key_of, moment_of
from headrace.engine.types import sql_type
from headrace.schema import PARTITION_COLUMN
from headrace.sources.lineage import SOURCE_ORDER
from headrace.star.scd2.entity_union import ENTITY_RANK, IS_DELETE, is_delete

# More than a cluster runs in parallel, and few enough that each has thousands of members.
_PARTITIONS = 64


class MemberWindow:
    """A window over the ordered rows of each member, partitioned coarser than by member.

    Args:
        key: Columns of the natural key, without NULLs.
        order: Order of a member's rows.
    """

    def __init__(self, key: Sequence[str], order: Sequence[Column]) -> None:
        self._key = key
        # The engines' hashes may differ: they only distribute members.
        bucket = F.pmod(F.xxhash64(*key), F.lit(_PARTITIONS))
        self._window: WindowSpec = Window.partitionBy(bucket).orderBy(*key, *order)

    def lag(self, column: str) -> Column:
        """The column's value in the member's previous row; NULL in its first row."""
        return self._same(F.lag, 1, column)

    def lead(self, column: str, rows: int = 1) -> Column:
        """The column's value `rows` rows later; NULL if the member has fewer rows."""
        return self._same(F.lead, rows, column)

    def last_value(self, value: Column) -> Column:
        """The last non-NULL value among the member's rows up to this one."""
        # With the key, because the last value in the window may belong to another member.
        named = F.struct(*(F.col(name) for name in self._key), value.alias("_value"))
        so_far = self._window.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        found = F.last(F.when(value.isNotNull(), named), ignorenulls=True).over(so_far)
        is_same = F.lit(True)
        for name in self._key:
            is_same = is_same & (found.getField(name) == F.col(name))
        return F.when(is_same, found.getField("_value"))

    def _same(self, look: Callable[[str, int], Column], rows: int, column: str) -> Column:
        is_same = F.lit(True)
        for name in self._key:
            is_same = is_same & (look(name, rows).over(self._window) == F.col(name))
        return F.when(is_same, look(column, rows).over(self._window))


# Earlier than any event of a source, and a date that every database supports.
BEGINNING = "1900-01-01 00:00:00"
# A deleted member existed before its delete.
_FIRST_DELETE = "1900-01-01 00:00:00.000001"

# Kinds of events: a row's state of a member; its delete; a fact's reference to it; its published
# version, which stands for all earlier events; and the presence of a quarantined row in a full
# snapshot.
STATE, DELETE, REFERENCE, PUBLISHED = "state", "delete", "reference", "published"
PRESENT = "present"

# Event time of a fact's reference. Only internal columns begin with an underscore.
REFERENCE_TIME = "_event_time"

# Time assigned to a row without one: that of the row before it.
_PLACED = "_placed"
# Order of events at one instant; the last one wins.
_EVENT_ORDER = ("_row_time", PARTITION_COLUMN, *SOURCE_ORDER)


def value_types(config: DimensionConfig, entity: EntityConfig) -> dict[str, str]:
    """Type of each attribute; type 1 attributes are last."""
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
        rows = rows.transform(_with_times, config, entity)
        row_time = F.greatest(row_time, F.col(_PLACED))
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
    return _first_and_last(events, config, entity) if is_constant(config) else events


def presence_events(keys: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """One event a quarantined row whose natural key parses.

    Args:
        keys: The entity's columns of the natural key, typed, and the partition's day.
        config: The natural key.
        entity: Types of the columns.
    """
    for source in config.natural_key.values():
        keys = keys.where(F.col(source).isNotNull())
    at = F.greatest(day_start(entity), instant(BEGINNING))
    given = {name: F.col(source) for name, source in config.natural_key.items()}
    given |= {"_kind": F.lit(PRESENT), "_at": at, "_changed_at": at, "_deleted": F.lit(False)}
    if config.has_timed_snapshots:
        given["_sequence"] = day_number()
    return as_events(keys, {**given, PARTITION_COLUMN: F.col(PARTITION_COLUMN)}, config, entity)


def snapshot_days(events: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """`_day`: the distinct midnights of days with a state, in any order.

    With timed snapshots also `_number`, and days with any row.
    """
    if config.has_timed_snapshots:
        rows = events.where(F.col("_kind").isin(STATE, DELETE))
        day = day_start(entity).alias("_day")
        return rows.select(day, day_number().alias("_number")).distinct()
    return events.where(F.col("_kind") == STATE).select(F.col("_at").alias("_day")).distinct()


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
    first = known.groupBy(*keys).agg(F.min(at).alias("_mentioned_at"))
    given = {name: F.col(name) for name in (*keys, "_mentioned_at")}
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
        _changed_at: Time of the last change that the event stands for.
        _known_from: For a published version, start of the member's first version.
        _mentioned_at: Earliest time of a fact's reference to the member.
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
        "_mentioned_at": "timestamp",
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
    """Columns that order the events of one instant; the last event wins."""
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
        Events, and `_has_values`: whether a delete has the values of a state at its instant, which
        no other event shows. `_sequence` is the member's largest.
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

    Also adds `_largest`, the member's largest number, because the row that has it may be a repeated
    delete, which is left out.
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
    """Fill NULLs of `ignore_nulls` columns with the last value before."""
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
    # Lags instead of the last state so far, which takes ten times as long over 400,000 events.
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


def with_absences(
    events: DataFrame,
    days: DataFrame,
    presence: DataFrame | None,
    config: DimensionConfig,
    entity: EntityConfig,
) -> DataFrame:
    """`events` and the deletes of members that a snapshot lacks (`absences`).

    Returns:
        Events, and `_has_values`. `_changed_at` of a member is no earlier than its last row of a
        snapshot, a quarantined one included.
    """
    found = events
    if presence is not None:
        found = _changed_when_present(events, _in_snapshots(presence, days), config)
    absent = absences(events, days, presence, config, entity)
    return found.unionByName(absent.withColumn("_has_values", F.lit(False)))


def absences(
    events: DataFrame,
    days: DataFrame,
    presence: DataFrame | None,
    config: DimensionConfig,
    entity: EntityConfig,
) -> DataFrame:
    """The deletes of members that a snapshot lacks.

    Only the first snapshot that lacks a member produces a delete.

    Args:
        events: Events of members, one at an instant.
        days: `_day`: midnight of each day that has a snapshot. If events of kind PUBLISHED stand
            for earlier events, BEGINNING stands for the earlier snapshots.
        presence: Events of kind PRESENT, in any number; None: no row was quarantined.
        config: The natural key.
        entity: Types of the columns.
    """
    if presence is not None:
        events = events.drop("_has_values").unionByName(_in_snapshots(presence, days))
    # One row a day. An explicit partition avoids the engines' warning about unpartitioned windows.
    following = F.lead("_day").over(Window.partitionBy(F.lit(0)).orderBy("_day"))
    snapshots = days.select("_day", following.alias("_next_day"))
    in_time = MemberWindow([*config.natural_key], [F.col("_at").asc_nulls_first()])
    # An open published version was present in the last snapshot before.
    before = instant(BEGINNING)
    last_present = F.when(F.col("_kind") == PUBLISHED, before).otherwise(F.col("_at"))
    present = (
        events.withColumn("_again", in_time.lead("_at"))
        .withColumn("_day", last_present)
        .where((F.col("_kind") != REFERENCE) & ~F.col("_deleted"))
    )
    is_absent = F.col("_again").isNull() | (F.col("_next_day") < F.col("_again"))
    # Days on the left: Sail builds the hash table from that side and streams the other.
    absent = snapshots.join(present, "_day").where(F.col("_next_day").isNotNull() & is_absent)
    given = {name: F.col(name) for name in config.natural_key}
    # No row states the delete, so `_changed_at` stays that of the last row.
    given |= {"_kind": F.lit(DELETE), "_at": F.col("_next_day"), "_deleted": F.lit(True)}
    return as_events(absent, given, config, entity)


def _in_snapshots(presence: DataFrame, days: DataFrame) -> DataFrame:
    # A day without a good row is no snapshot, so its quarantined rows do not count.
    return days.join(presence.withColumn("_day", F.col("_at")), "_day").select(*presence.columns)


def _changed_when_present(
    events: DataFrame, presence: DataFrame, config: DimensionConfig
) -> DataFrame:
    keys = [*config.natural_key]
    last = presence.groupBy(*keys).agg(F.max("_at").alias("_present_at"))
    # The few quarantined keys on the left: Sail builds the hash table from that side.
    joined = last.join(events, keys, "right")
    changed = F.greatest(F.col("_changed_at"), F.col("_present_at"))
    return joined.withColumn("_changed_at", changed).select(*events.columns)


def _with_times(rows: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """Add `_placed`: for a row without a time, the latest time before it on its day.

    Otherwise such a row would count from midnight, before the changes that it follows.
    """
    time = F.col(str(config.effective_time))
    none = F.lit(None).cast("timestamp_ntz")
    required = {*entity.key, *(c.name for c in entity.processed_columns if c.has_always_a_value)}
    if config.effective_time in required:
        return rows.withColumn(_PLACED, none)
    key = [*config.natural_key.values(), PARTITION_COLUMN]
    if config.further_entities:
        key.append(ENTITY_RANK)
    order = [F.col(name).asc_nulls_first() for name in (*config.tie_breakers, *SOURCE_ORDER)]
    before = Window.partitionBy(*key).orderBy(*order).rowsBetween(Window.unboundedPreceding, -1)
    # Few rows lack a time: only their members' days go through the window.
    lacking = rows.where(time.isNull()).select(*key).distinct()
    days = lacking.join(rows, key).select(*rows.columns)
    latest = F.max(moment(entity, str(config.effective_time))).over(before)
    placed = days.withColumn(_PLACED, latest)
    timed = rows.where(time.isNotNull()).withColumn(_PLACED, none)
    return timed.unionByName(placed.where(time.isNull()))


def is_constant(config: DimensionConfig) -> bool:
    """Whether members have no attributes and are never deleted, so that they cannot change."""
    return not config.shown and config.delete_action == "keep"


def _first_and_last(events: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """One event a member, with the first and last time of its rows.

    Such a dimension is often built from facts, with millions of rows for some hundred members.
    """
    found = events.groupBy(*config.natural_key).agg(
        F.min("_at").alias("_at"), F.max("_changed_at").alias("_changed_at")
    )
    given = {name: F.col(name) for name in (*config.natural_key, "_at", "_changed_at")}
    given |= {"_kind": F.lit(STATE), "_deleted": F.lit(False)}
    return as_events(found, given, config, entity)
