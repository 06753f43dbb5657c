"""Classification of members by their changes: untouched, one change, several changes, late."""

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.engine import functions as parse
from headrace.schema import PARTITION_COLUMN
from headrace.star.scd2.change_events import (
    DELETE,
    PRESENT,
    STATE,
    event_order,
    events_schema,
    instant,
    reference_events,
    row_events,
    value_types,
    with_outdated,
    with_tie,
)
from headrace.star.scd2.full_snapshots import presence_events, snapshot_days
from headrace.star.scd2.timed_snapshots import may_be_retracted


@dataclass(frozen=True)
class DimensionChanges:
    """Rows added and removed since the published state was built; rows in both cancel out.

    Attributes:
        added: Processed rows of added files.
        removed: Processed rows of removed files; None without any.
        references_added: Natural key and `_event_time` of added facts.
        references_removed: The same of removed facts.
        quarantined_added: Added keys of quarantined rows, as in `DimensionInputs`.
        quarantined_removed: The same of removed keys.
    """

    added: DataFrame
    removed: DataFrame | None = None
    references_added: DataFrame | None = None
    references_removed: DataFrame | None = None
    quarantined_added: DataFrame | None = None
    quarantined_removed: DataFrame | None = None


@dataclass(frozen=True)
class TimeLimits:
    """What decides, besides the changes, which members can be updated from their latest version.

    Attributes:
        now: As in `DimensionInputs`, for the next state.
        unknown_deletes_until: Time of the latest delete that left no version (`unknown_deletes`).
            A new member with an earlier change is late. None without such deletes.
        unknown_deletes_sequence: Largest number of such a delete, if numbers order the changes.
            With timed snapshots, the number of the last one.
    """

    now: datetime | None = None
    unknown_deletes_until: datetime | None = None
    unknown_deletes_sequence: int | None = None


def net_events(
    changes: DimensionChanges, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Events of added (`_count` > 0) and removed rows (`_count` < 0); rows in both are left out."""
    added = row_events(changes.added, config, entity)
    removed = None if changes.removed is None else row_events(changes.removed, config, entity)
    if config.infers_deletes:
        if changes.quarantined_added is not None:
            added = added.unionByName(presence_events(changes.quarantined_added, config, entity))
        if changes.quarantined_removed is not None:
            presence = presence_events(changes.quarantined_removed, config, entity)
            removed = presence if removed is None else removed.unionByName(presence)
    added = added.withColumn("_count", F.lit(1))
    if removed is None:
        return added
    both = added.unionByName(removed.withColumn("_count", F.lit(-1)))
    grouped = both.groupBy(*events_schema(config, entity))
    return grouped.agg(F.sum("_count").alias("_count")).where(F.col("_count") != 0)


def classified_members(
    members: DataFrame,
    events: DataFrame,
    changes: DimensionChanges,
    limits: TimeLimits,
    config: DimensionConfig,
    entity: EntityConfig,
) -> DataFrame:
    """Classify every member that is published or has changes.

    Args:
        members: Latest versions, without the unknown member.
        events: Events of `net_events`.
        changes: Its references of facts are read.
        limits: Times that make a member late.
        config: How versions begin and end.
        entity: Types of the columns.

    Returns:
        One row a member: the columns of its latest version (NULL for new members), those of
        `_touched` (NULL without changes), and three flags, of which at most one is true and none is
        NULL: `_is_late` (needs all of its rows), `_is_single` (one change after its latest
        version), `_is_several` (several changes after it).
    """
    # The few touched members on the left: Sail builds the hash table from that side.
    touched = _touched(events, changes, limits, config, entity)
    if config.has_timed_snapshots:
        members = members.transform(_with_new_days, events, config, entity)
    classified = touched.join(members, [*config.natural_key], "full")
    if config.has_timed_snapshots:
        classified = classified.withColumn("_repeats", _repeats())
    late, single = F.col("_is_late"), F.col("_is_single")
    return (
        classified.withColumn("_is_late", _is_late(limits, config, entity))
        .withColumn("_is_single", ~late & _is_single(limits, config))
        .withColumn("_is_several", ~late & ~single & _is_touched(config))
    )


def _with_new_days(
    members: DataFrame, events: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Add `_all_days` and `_first_day` of the added snapshots."""
    added = events.where(F.col("_count") > 0)
    days = snapshot_days(added, config, entity).agg(
        F.count(F.lit(1)).alias("_all_days"), F.min("_day").alias("_first_day")
    )
    # Joined before the members are joined: otherwise Sail 0.7 drops filters of the result.
    return days.crossJoin(members)


def _repeats() -> Column:
    """Whether all added rows repeat the member's last row."""
    last = F.col("_row_hash")
    is_last = (F.col("_least_hash") == last) & (F.col("_most_hash") == last)
    return _true(is_last) & ~_true(F.col("_was_removed"))


def new_column(name: str) -> str:
    """Column with a value of a member's single change.

    With two underscores: `_new_hash` is another column, and an attribute may be called `hash`.
    """
    return f"_new__{name}"


def _is_late(limits: TimeLimits, config: DimensionConfig, entity: EntityConfig) -> Column:
    """Whether a member has to be rebuilt from all of its rows."""
    late = F.col("_was_removed") | _true(F.col("_first_at") <= F.col("_changed_at"))
    if config.has_timed_snapshots:
        late = F.col("_was_removed") | _breaks_snapshots(config)
    if config.has_future and limits.now is not None:
        # A future change has become effective.
        late = late | _true(F.col("_next_change_at") < instant(limits.now.isoformat(" ")))
    if limits.unknown_deletes_until is not None:
        until = instant(limits.unknown_deletes_until.isoformat(" "))
        late = late | (F.col("_known_from").isNull() & _true(F.col("_first_at") <= until))
    if config.has_sequence:
        late = late | _true(F.col("_first_sequence") <= F.col("_sequence"))
        if limits.unknown_deletes_sequence is not None:
            until = F.lit(limits.unknown_deletes_sequence)
            late = late | (F.col("_known_from").isNull() & _true(F.col("_first_sequence") <= until))
    if config.type1:
        late = late | _changes_history(config, entity)
    lost = _true(F.col("_reference_removed") <= F.col("_referenced_at"))
    replaced = _true(F.col("_reference_added") <= F.col("_referenced_at"))
    return F.coalesce(late, F.lit(False)) | (lost & ~replaced)


def _changes_history(config: DimensionConfig, entity: EntityConfig) -> Column:
    """Whether a type 1 value changes in a member that has earlier versions."""
    has_inferred = F.col("_known_from").isNotNull() & F.col("_referenced_at").isNotNull()
    has_history = has_inferred | _true(F.col("_known_from") < F.col("valid_from"))
    changes = _true(F.col("_new_hash") != _type1_hash(config, entity))
    for name in _type1_ignoring_nulls(config):
        changes = changes | _true(F.col(_last_column(name)) != F.col(name))
        changes = changes | (F.col(_last_column(name)).isNotNull() & F.col(name).isNull())
    return changes & has_history


def _breaks_snapshots(config: DimensionConfig) -> Column:
    """Whether the added snapshots cannot be applied to a member's latest version alone.

    A repeated row changes nothing. The versions of a member that returns, or that some of the
    snapshots lack, may depend on rows before its last one.
    """
    is_new, has_rows = F.col("_known_from").isNull(), F.col("_first_at").isNotNull()
    is_earlier = ~F.col("_repeats") & _true(F.col("_first_at") <= F.col("_changed_at"))
    if not config.infers_deletes:
        return is_earlier
    returns = ~is_new & F.col("_row_hash").isNull() & has_rows
    is_ahead = _true(F.col("_changed_at") >= F.col("_first_day"))
    lacks = ~is_new & (F.coalesce(F.col("_days"), F.lit(0)) < F.col("_all_days"))
    return is_earlier | returns | (lacks & (has_rows | is_ahead))


def _is_touched(config: DimensionConfig) -> Column:
    if config.infers_deletes:
        # A full snapshot affects every member.
        return F.lit(True)
    return F.col("_first_at").isNotNull() | _has_new_reference(config)


def _is_single(limits: TimeLimits, config: DimensionConfig) -> Column:
    if config.infers_deletes or config.has_timed_snapshots:
        return F.lit(False)
    is_inferred = F.col(config.key_column).isNotNull() & F.col("_known_from").isNull()
    is_single = F.col("_events") == 1
    if limits.now is not None:
        is_single = is_single & (F.col("_first_at") < instant(limits.now.isoformat(" ")))
    return _true(is_single) & ~is_inferred & ~_has_new_reference(config)


def _has_new_reference(config: DimensionConfig) -> Column:
    """Whether an added reference changes the member's inferred version."""
    unknown = F.col("_known_from").isNull()
    if config.first_version == "at_effective_time":
        unknown = unknown | (F.col("_reference_added") < F.col("_known_from"))
    is_earlier = F.col("_referenced_at").isNull() | (
        F.col("_reference_added") < F.col("_referenced_at")
    )
    return _true(F.col("_reference_added").isNotNull() & unknown & is_earlier)


def _true(condition: Column) -> Column:
    """The condition, with false for NULL."""
    return F.coalesce(condition, F.lit(False))


def _touched(
    events: DataFrame,
    changes: DimensionChanges,
    limits: TimeLimits,
    config: DimensionConfig,
    entity: EntityConfig,
) -> DataFrame:
    """One row a member with added or removed events or references.

    Returns:
        Natural key, and: `_first_at` (time of its first change), `_events` (their number),
        `_first_sequence`, `_last_delete` and `_last_delete_sequence` (of added deletes),
        `_was_removed` (whether a row was removed), `_reference_added` and `_reference_removed`
        (earliest time of a fact's reference), `_new_hash` and `_last__<column>` (type 1 values of
        the last state), the values of its only change (`new_column`), and with timed snapshots the
        columns of `_of_snapshots`.
    """
    keys = [*config.natural_key]
    first_at = F.min("_at")
    if config.has_timed_snapshots:
        # Presence events have no effective time.
        first_at = F.min(F.when(F.col("_kind") != PRESENT, F.col("_at")))
    is_delete = (F.col("_kind") == DELETE) & (F.col("_count") > 0)
    is_last_state = F.col("_rank") == 1
    last_values = [_last_column(name) for name in _type1_ignoring_nulls(config)]
    values = ("_kind", "_changed_at", "_sequence", *value_types(config, entity))
    touched = (
        _ranked(events, limits, config, entity)
        .groupBy(*keys)
        .agg(
            first_at.alias("_first_at"),
            F.count(F.lit(1)).alias("_events"),
            F.max(F.when(is_delete, F.col("_at"))).alias("_last_delete"),
            F.max(F.when(is_delete, F.col("_sequence"))).alias("_last_delete_sequence"),
            F.min("_sequence").alias("_first_sequence"),
            (F.min("_count") < 0).alias("_was_removed"),
            F.max(F.when(is_last_state, F.col("_hash"))).alias("_new_hash"),
            *(F.max(F.when(is_last_state, F.col(name))).alias(name) for name in last_values),
            *(_of_snapshots(entity) if config.has_timed_snapshots else ()),
            *(F.first(name).alias(new_column(name)) for name in values),
        )
    )
    return touched.transform(
        _with_references, "_reference_added", changes.references_added, config, entity
    ).transform(_with_references, "_reference_removed", changes.references_removed, config, entity)


def _of_snapshots(entity: EntityConfig) -> list[Column]:
    """Aggregates of a member's rows in timed snapshots.

    `_days`: number of added snapshots that have it; `_least_hash`, `_most_hash`: of its rows;
    `_states`: 1 if one of the added rows is a state; `_retractable`: 1 if the next snapshot may
    retract one; `_last_sequence`: number of its last snapshot.
    """
    is_added, is_state = F.col("_count") > 0, F.col("_kind") == STATE
    return [
        F.countDistinct(F.when(is_added, F.col(PARTITION_COLUMN))).alias("_days"),
        F.min("_row_hash").alias("_least_hash"),
        F.max("_row_hash").alias("_most_hash"),
        F.max((is_added & is_state).cast("int")).alias("_states"),
        F.max((is_added & may_be_retracted(entity)).cast("int")).alias("_retractable"),
        F.max("_sequence").alias("_last_sequence"),
    ]


def _with_references(
    touched: DataFrame,
    column: str,
    references: DataFrame | None,
    config: DimensionConfig,
    entity: EntityConfig,
) -> DataFrame:
    """Add a member's earliest reference as `column`, and members with references only."""
    if references is None or not config.infers_members:
        return touched.withColumn(column, F.lit(None).cast("timestamp_ntz"))
    keys = [*config.natural_key]
    first = reference_events(references, config, entity)
    return touched.join(first.select(*keys, F.col("_referenced_at").alias(column)), keys, "full")


def _ranked(
    events: DataFrame, limits: TimeLimits, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Add `_rank`, which is 1 for a member's last state that is not in the future.

    Also adds `_hash` of a state's type 1 values, and for type 1 columns with `ignore_nulls` the
    member's last value as `_last__<column>`.
    """
    if not config.type1:
        none = F.lit(None).cast("bigint")
        return events.withColumn("_hash", none).withColumn("_rank", F.lit(0))
    is_state = (F.col("_kind") == STATE) & (F.col("_count") > 0) & ~F.col("_is_outdated")
    if limits.now is not None:
        is_state = is_state & (F.col("_at") < instant(limits.now.isoformat(" ")))
    order = [F.when(is_state, 0).otherwise(1)]
    order += [F.col(name).desc_nulls_last() for name in ("_at", *event_order(config))]
    window = Window.partitionBy(*config.natural_key).orderBy(*order)
    every = window.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    last = {
        _last_column(n): F.first(F.when(is_state, F.col(n)), ignorenulls=True).over(every)
        for n in _type1_ignoring_nulls(config)
    }
    return (
        with_tie(with_outdated(events, config), config, entity)
        .withColumn("_hash", F.when(is_state, _type1_hash(config, entity)))
        .withColumns({"_rank": F.row_number().over(window), **last})
    )


def _type1_hash(config: DimensionConfig, entity: EntityConfig) -> Column:
    """Hash of the type 1 columns without `ignore_nulls`."""
    values = [
        (F.col(n), entity.column(s).type)
        for n, s in config.type1.items()
        if n not in config.ignore_nulls
    ]
    return parse.hash_key(values) if values else F.lit(0).cast("bigint")


def _type1_ignoring_nulls(config: DimensionConfig) -> list[str]:
    """Type 1 columns with `ignore_nulls`."""
    return [name for name in config.ignore_nulls if name in config.type1]


def _last_column(name: str) -> str:
    return f"_last__{name}"
