"""Timed snapshots: full snapshots whose rows have effective times.

The values of a row take effect at its effective time. Which members exist follows from the days of
the snapshots. A row of a later snapshot overrides earlier snapshots from its effective time on.
"""

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.engine.values.times import moment_of
from headrace.schema import PARTITION_COLUMN
from headrace.star.scd2.change_events import (
    BEGINNING,
    DELETE,
    PRESENT,
    PUBLISHED,
    STATE,
    as_events,
    day_start,
    events_schema,
    instant,
)
from headrace.star.scd2.member_window import MemberWindow

END_OF_TIME = datetime(9999, 12, 31)  # noqa: DTZ001 - wall-clock time, as all times of versions


def with_presence(
    events: DataFrame, days: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Adjust the times of events, and add the deletes of members that a snapshot lacks.

    A row of a member that returns after an absence takes effect at the midnight of the day of its
    return, unless its own time is at or after the last snapshot that lacked the member.

    Args:
        events: All events of some members, in any order; an event of kind PUBLISHED stands for all
            earlier ones.
        days: `_day` and `_number` of each snapshot; BEGINNING and 0 stand for earlier ones.
        config: The natural key.
        entity: The zone of its days.

    Returns:
        Events with the same columns. `_row_hash` is that of the member's last row, and NULL in all
        its events if the last snapshot lacks the member.
    """
    keys, columns = [*config.natural_key], [*events_schema(config, entity)]
    placed = _in_snapshots(events, days, entity)
    if not config.infers_deletes:
        never_lacked = placed.withColumn("_lacked_next", F.lit(None).cast("boolean"))
        return never_lacked.transform(_with_last_row, config).select(*columns)
    in_order = MemberWindow(keys, [F.col("_day").asc_nulls_first()])
    member = Window.partitionBy(*keys)
    is_row = (F.col("_kind") == STATE) | (F.col("_kind") == PUBLISHED)
    before, after = in_order.lag("_day"), in_order.lead("_day")
    first = F.min(F.when(is_row, F.col("_day"))).over(member)
    lacked_before = (before < F.col("_last_day")) & (first < F.col("_last_day"))
    lacks_next = (after.isNull() | (F.col("_next_day") < after)) & F.col("_next_day").isNotNull()
    found = placed.withColumns(
        {
            "_returns": F.coalesce(lacked_before, F.lit(False)),
            "_lacked_next": F.coalesce(lacks_next & F.col("_day").isNotNull(), F.lit(False)),
        }
    )
    given = {name: F.col(name) for name in keys}
    # No row states the delete, so `_changed_at` stays that of the last row.
    given |= {"_kind": F.lit(DELETE), "_at": F.col("_next_day"), "_deleted": F.lit(True)}
    given |= {"_sequence": F.col("_next_number")}
    absences = as_events(found.where("_lacked_next"), given, config, entity)
    rows = found.transform(_since_return, config).transform(_with_last_row, config)
    return rows.select(*columns).unionByName(absences.select(*columns))


def retraction_limits(
    rows: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> tuple[datetime | None, int | None]:
    """The limits of the next update, as `TimeLimits` has them.

    A member may have rows and no version: if the next snapshot lacks it before its state takes
    effect, or if its state ends before it begins. When such a member returns, its versions depend
    on these rows. This is rare: if there may be one, the limit is the end of time, so that every
    new member is built from all of its rows.

    Args:
        rows: Events of rows, before `with_presence`.
        config: The natural key.
        entity: The zone of its days.

    Returns:
        END_OF_TIME or None, and the number of the last snapshot.
    """
    members = rows.groupBy(*config.natural_key).agg(
        F.min(F.when(_holds_by_day_end(entity), F.col("_at"))).alias("_first_state"),
        F.min(F.when(F.col("_kind") == DELETE, F.col("_at"))).alias("_first_delete"),
        F.max((F.col("_kind") == STATE).cast("int")).alias("_has_state"),
        F.max("_sequence").alias("_sequence"),
    )
    is_effective = F.col("_first_state").isNotNull()
    may_lack = (F.col("_has_state") == 1) & (
        ~is_effective | F.coalesce(F.col("_first_delete") <= F.col("_first_state"), F.lit(False))
    )
    found = members.agg(
        F.max(may_lack.cast("int")).alias("may_lack"), F.max("_sequence").alias("last")
    ).collect()[0]
    return (END_OF_TIME if found["may_lack"] else None), found["last"]


def may_be_retracted(entity: EntityConfig) -> Column:
    """Whether a row is a state that the next snapshot may retract before it takes effect."""
    return (F.col("_kind") == STATE) & ~_holds_by_day_end(entity)


def _holds_by_day_end(entity: EntityConfig) -> Column:
    """Whether a state takes effect by the end of its day."""
    end = moment_of(F.date_add(F.col(PARTITION_COLUMN), 1), "date", entity.timezone)
    return (F.col("_kind") == STATE) & (F.col("_at") < end)


def _in_snapshots(events: DataFrame, days: DataFrame, entity: EntityConfig) -> DataFrame:
    """Add `_day`, the snapshot in which an event shows its member, and the adjacent snapshots."""
    in_order = Window.partitionBy(F.lit(0)).orderBy("_day")
    snapshots = days.select(
        "_day",
        F.lit(1).alias("_is_snapshot"),
        F.lag("_day").over(in_order).alias("_last_day"),
        F.lead("_day").over(in_order).alias("_next_day"),
        F.lead("_number").over(in_order).alias("_next_number"),
    )
    # The last snapshot lacks the member of a published version without a row hash.
    was_present = (F.col("_kind") == PUBLISHED) & F.col("_row_hash").isNotNull()
    day = F.when(F.col("_kind").isin(STATE, DELETE, PRESENT), day_start(entity))
    day = F.when(was_present, instant(BEGINNING)).otherwise(day)
    # Days on the left: Sail builds the hash table from that side and streams the other.
    placed = snapshots.join(events.withColumn("_day", day), "_day", "right")
    # A day that has quarantined rows only has no snapshot.
    return placed.where((F.col("_kind") != PRESENT) | F.col("_is_snapshot").isNotNull())


def _since_return(events: DataFrame, config: DimensionConfig) -> DataFrame:
    """Move rows that lie before the last absence of their member to the day of its return."""
    # The first event of the day of return has `_returns`, and stays the first by this order.
    order = [F.col("_day").asc_nulls_first(), F.col("_returns").desc()]
    since = F.struct(F.col("_last_day").alias("_lacked"), F.col("_day").alias("_again"))
    last = MemberWindow([*config.natural_key], order).last_value(F.when(F.col("_returns"), since))
    found = events.withColumn("_return", last)
    is_row = F.col("_kind").isin(STATE, DELETE) & F.col("_day").isNotNull()
    is_before = is_row & F.coalesce(F.col("_at") < F.col("_return._lacked"), F.lit(False))
    at = F.when(is_before, F.col("_return._again")).otherwise(F.col("_at"))
    changed = F.when(is_before, at).otherwise(F.col("_changed_at"))
    return found.withColumns({"_at": at, "_changed_at": changed})


def _with_last_row(events: DataFrame, config: DimensionConfig) -> DataFrame:
    """Set `_row_hash` of all events of a member to that of its last row; NULL if it is absent."""
    member = Window.partitionBy(*config.natural_key)
    is_row = F.col("_kind") != PRESENT
    last = F.max(F.when(is_row, F.col("_sequence"))).over(member)
    lacked = F.max(F.when(F.col("_lacked_next"), F.col("_sequence"))).over(member)
    found = events.withColumns({"_last_number": last, "_lacked_after": lacked})
    is_last = is_row & (F.col("_sequence") == F.col("_last_number"))
    row_hash = F.max(F.when(is_last, F.col("_row_hash"))).over(member)
    is_present = F.coalesce(F.col("_lacked_after") < F.col("_last_number"), F.lit(True))
    return found.withColumn("_row_hash", F.when(is_present, row_hash))
