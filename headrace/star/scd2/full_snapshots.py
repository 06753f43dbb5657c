"""Full snapshots: which members they have, and the deletes of the members that they lack."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.schema import PARTITION_COLUMN
from headrace.star.scd2.change_events import (
    BEGINNING,
    DELETE,
    PRESENT,
    PUBLISHED,
    REFERENCE,
    STATE,
    as_events,
    day_number,
    day_start,
    instant,
)
from headrace.star.scd2.member_window import MemberWindow


def presence_events(keys: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """One event a quarantined row whose natural key could be read.

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
    """The days that have a snapshot: `_day`, the midnight of each day with a state, in any order.

    With timed snapshots, a delete counts like a state, and `_number` is the day as yyyymmdd.
    """
    if config.has_timed_snapshots:
        rows = events.where(F.col("_kind").isin(STATE, DELETE))
        day = day_start(entity).alias("_day")
        return rows.select(day, day_number().alias("_number")).distinct()
    return events.where(F.col("_kind") == STATE).select(F.col("_at").alias("_day")).distinct()


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
        found = _changed_when_present(events, _of_snapshots(presence, days), config)
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
        presence: Events of kind PRESENT; a member may have several. None: no row was quarantined.
        config: The natural key.
        entity: Types of the columns.
    """
    if presence is not None:
        events = events.drop("_has_values").unionByName(_of_snapshots(presence, days))
    # One row a day. The constant partition avoids the engines' warning about windows without one.
    following = F.lead("_day").over(Window.partitionBy(F.lit(0)).orderBy("_day"))
    snapshots = days.select("_day", following.alias("_next_day"))
    in_time = MemberWindow([*config.natural_key], [F.col("_at").asc_nulls_first()])
    # The member of an open published version was present in the last of the earlier snapshots.
    earlier = instant(BEGINNING)
    last_present = F.when(F.col("_kind") == PUBLISHED, earlier).otherwise(F.col("_at"))
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


def _of_snapshots(presence: DataFrame, days: DataFrame) -> DataFrame:
    """Events of days that have a snapshot: a day with quarantined rows only has none."""
    return days.join(presence.withColumn("_day", F.col("_at")), "_day").drop("_day")


def _changed_when_present(
    events: DataFrame, presence: DataFrame, config: DimensionConfig
) -> DataFrame:
    """Set `_changed_at` to the member's last presence if that is later."""
    keys = [*config.natural_key]
    last = presence.groupBy(*keys).agg(F.max("_at").alias("_present_at"))
    # The few quarantined keys on the left: Sail builds the hash table from that side.
    joined = last.join(events, keys, "right")
    changed = F.greatest(F.col("_changed_at"), F.col("_present_at"))
    return joined.withColumn("_changed_at", changed).drop("_present_at")
