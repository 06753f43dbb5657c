"""Full snapshots whose rows say since when they hold.

Values follow from the times of rows, presence from the days of snapshots. The day is also the
number that orders rows: what a later snapshot says of the time from its row on overrules what
earlier ones said of it.
"""

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig
from headrace.engine.times import moment_of
from headrace.standardize.schemas import PARTITION_COLUMN
from headrace.star.scd2.change_events import (
    BEGINNING,
    DELETE,
    PUBLISHED,
    SEEN,
    STATE,
    Neighbours,
    as_events,
    day_start,
    instant,
)

END_OF_TIME = datetime(9999, 12, 31)  # noqa: DTZ001 - wall-clock time, as all times of versions


def with_presence(
    events: DataFrame, days: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Events in the times from which they count, and the deletes of members that a snapshot lacks.

    A row of a member that was absent in between counts from the midnight of the day that has the
    member again, unless its own time lies at or after the last snapshot that lacked it.

    Args:
        events: Of whole members, in any order; a version of kind PUBLISHED stands for all that was
            told before.
        days: `_day` and `_number` of each snapshot; BEGINNING and 0 stand for those before.
        config: The natural key.
        entity: The zone of its days.

    Returns:
        Events in the columns given. `_row_hash` is that of the member's last row, and NULL in all
        its events if the last snapshot lacks the member.
    """
    keys, columns = [*config.natural_key], events.columns
    placed = _in_snapshots(events, days, entity)
    if not config.snapshots_tell_deletes:
        everywhere = placed.withColumn("_vanishes", F.lit(None).cast("boolean"))
        return everywhere.transform(_with_last_row, config).select(*columns)
    in_order = Neighbours(keys, [F.col("_day").asc_nulls_first()])
    member = Window.partitionBy(*keys)
    is_told = (F.col("_kind") == STATE) | (F.col("_kind") == PUBLISHED)
    before, after = in_order.before("_day"), in_order.after("_day")
    first = F.min(F.when(is_told, F.col("_day"))).over(member)
    lacked_before = (before < F.col("_last_day")) & (first < F.col("_last_day"))
    lacks_next = (after.isNull() | (F.col("_next_day") < after)) & F.col("_next_day").isNotNull()
    found = placed.withColumns(
        {
            "_returns": F.coalesce(lacked_before, F.lit(False)),
            "_vanishes": F.coalesce(lacks_next & F.col("_day").isNotNull(), F.lit(False)),
        }
    )
    given = {name: F.col(name) for name in keys}
    # No row told of it: `_changed_at` stays the instant of the last that did.
    given |= {"_kind": F.lit(DELETE), "_at": F.col("_next_day"), "_gone": F.lit(True)}
    given |= {"_sequence": F.col("_next_number")}
    absences = as_events(found.where("_vanishes"), given, config, entity)
    rows = found.transform(_since_return, config).transform(_with_last_row, config)
    return rows.select(*columns).unionByName(absences.select(*columns))


def withdrawn_until(
    rows: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> tuple[datetime | None, int | None]:
    """Until when a member without a version may have been there, and the last snapshot's number.

    A state of the future leaves no version if the next snapshot lacks its member, nor does one that
    ended before it began; both matter once the member comes back. That is rare, so that the limit
    is the end of time.

    Args:
        rows: Events of rows, before `with_presence`.
        config: The natural key.
        entity: The zone of its days.
    """
    members = rows.groupBy(*config.natural_key).agg(
        F.min(F.when(_is_ripe(entity), F.col("_at"))).alias("_first_state"),
        F.min(F.when(F.col("_kind") == DELETE, F.col("_at"))).alias("_first_delete"),
        F.max((F.col("_kind") == STATE).cast("int")).alias("_told"),
        F.max("_sequence").alias("_sequence"),
    )
    is_ripe = F.col("_first_state").isNotNull()
    may_lack = (F.col("_told") == 1) & (
        ~is_ripe | F.coalesce(F.col("_first_delete") <= F.col("_first_state"), F.lit(False))
    )
    found = members.agg(
        F.max(may_lack.cast("int")).alias("may_lack"), F.max("_sequence").alias("last")
    ).collect()[0]
    return (END_OF_TIME if found["may_lack"] else None), found["last"]


def may_be_withdrawn(entity: EntityConfig) -> Column:
    """Whether the next snapshot may take a row back before it holds."""
    return (F.col("_kind") == STATE) & ~_is_ripe(entity)


def _is_ripe(entity: EntityConfig) -> Column:
    """Whether a state holds by the end of its day."""
    end = moment_of(F.date_add(F.col(PARTITION_COLUMN), 1), "date", entity.timezone)
    return (F.col("_kind") == STATE) & (F.col("_at") < end)


def _in_snapshots(events: DataFrame, days: DataFrame, entity: EntityConfig) -> DataFrame:
    """Events with `_day`, on which they show that their member is there, and its neighbours."""
    in_order = Window.partitionBy(F.lit(0)).orderBy("_day")
    snapshots = days.select(
        "_day",
        F.lit(1).alias("_is_snapshot"),
        F.lag("_day").over(in_order).alias("_last_day"),
        F.lead("_day").over(in_order).alias("_next_day"),
        F.lead("_number").over(in_order).alias("_next_number"),
    )
    # A published version without a row's hash is of a member that the last snapshot lacks.
    was_there = (F.col("_kind") == PUBLISHED) & F.col("_row_hash").isNotNull()
    day = F.when(F.col("_kind").isin(STATE, DELETE, SEEN), day_start(entity))
    day = F.when(was_there, instant(BEGINNING)).otherwise(day)
    # The days on the left: Sail keeps that side in memory and streams the other.
    placed = snapshots.join(events.withColumn("_day", day), "_day", "right")
    # A day without a good row is no snapshot: what was quarantined on it says nothing either.
    return placed.where((F.col("_kind") != SEEN) | F.col("_is_snapshot").isNotNull())


def _since_return(events: DataFrame, config: DimensionConfig) -> DataFrame:
    """Rows of members that came back do not count from before the last snapshot without them."""
    # A day's first event is marked as the one that returns: it stays the first.
    order = [F.col("_day").asc_nulls_first(), F.col("_returns").desc()]
    since = F.struct(F.col("_last_day").alias("_lacked"), F.col("_day").alias("_again"))
    last = Neighbours([*config.natural_key], order).latest(F.when(F.col("_returns"), since))
    found = events.withColumn("_return", last)
    is_row = F.col("_kind").isin(STATE, DELETE) & F.col("_day").isNotNull()
    is_before = is_row & F.coalesce(F.col("_at") < F.col("_return._lacked"), F.lit(False))
    at = F.when(is_before, F.col("_return._again")).otherwise(F.col("_at"))
    changed = F.when(is_before, at).otherwise(F.col("_changed_at"))
    return found.withColumns({"_at": at, "_changed_at": changed})


def _with_last_row(events: DataFrame, config: DimensionConfig) -> DataFrame:
    member = Window.partitionBy(*config.natural_key)
    is_row = F.col("_kind") != SEEN
    last = F.max(F.when(is_row, F.col("_sequence"))).over(member)
    vanished = F.max(F.when(F.col("_vanishes"), F.col("_sequence"))).over(member)
    found = events.withColumns({"_last_number": last, "_vanished_number": vanished})
    is_last = is_row & (F.col("_sequence") == F.col("_last_number"))
    row_hash = F.max(F.when(is_last, F.col("_row_hash"))).over(member)
    is_there = F.coalesce(F.col("_vanished_number") < F.col("_last_number"), F.lit(True))
    return found.withColumn("_row_hash", F.when(is_there, row_hash))
