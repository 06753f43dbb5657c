"""Incremental update: a dimension's next state from the published one and the changed files."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import TypeVar

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.sources import EntityConfig
from headrace.config.star import DimensionConfig
from headrace.star.scd2.change_events import (
    BEGINNING,
    DELETE,
    PRESENT,
    PUBLISHED,
    REFERENCE,
    as_events,
    events_schema,
    instant,
    presence_events,
    snapshot_days,
)
from headrace.star.scd2.dimensions import (
    UNKNOWN_KEY,
    DimensionInputs,
    Versions,
    build_dimension,
    history_versions,
    keyed_versions,
    lake_dimension_schema,
    latest_versions,
    member_versions,
    unknown_deletes,
    unknown_member,
)
from headrace.star.scd2.late_changes import (
    DimensionChanges,
    TimeLimits,
    classified_members,
    net_events,
)
from headrace.star.scd2.single_versions import ended_versions, next_latest_versions
from headrace.star.scd2.timed_snapshots import END_OF_TIME

T = TypeVar("T", int, datetime)


@dataclass(frozen=True)
class DimensionUpdate:
    """The next state of a dimension, in lazy frames.

    Attributes:
        latest: The latest version of every member.
        history: Rows to add to the history, or the whole history if it is replaced.
        replaces_history: Whether the history is replaced.
        late_members: Number of members that were rebuilt from their history.
        limits: Time limits of the next update.
    """

    latest: DataFrame
    history: DataFrame
    replaces_history: bool
    late_members: int
    limits: TimeLimits


def update_dimension(
    published: Versions,
    changes: DimensionChanges,
    limits: TimeLimits,
    everything: Callable[[], DimensionInputs],
    config: DimensionConfig,
    entity: EntityConfig,
) -> DimensionUpdate | None:
    """Compute the result of `build_dimension` from the published state and the changed rows.

    None if the changes affect no member.

    A member whose changes all follow its last one needs its latest version only. A member is late,
    and rebuilt from its history, if a change is at or before its last one, if a row of it was
    removed, if a type 1 value of earlier versions changed, or if the fact was removed with which
    its inferred version begins. A late full snapshot affects every member: then all are rebuilt.
    One small query decides; the frames are lazy.

    Args:
        published: The published state, built by the same code and configuration.
        changes: Rows added and removed since.
        limits: The current time, and deletes that left no version.
        everything: Returns all current inputs; called only if there are late members.
        config: As in `build_dimension`.
        entity: Types of the columns.
    """
    net = net_events(changes, config, entity)
    members = published.latest.where(F.col(config.key_column) != UNKNOWN_KEY)
    classified = classified_members(members, net, changes, limits, config, entity)
    found = _counts(classified, limits, config)
    if not found.touched:
        return None
    limits_after = replace(
        limits,
        unknown_deletes_until=_latest(limits.unknown_deletes_until, found.unknown_delete),
        unknown_deletes_sequence=_latest(limits.unknown_deletes_sequence, found.unknown_sequence),
    )
    if config.infers_deletes and found.has_late_rows:
        inputs = everything()
        versions = build_dimension(inputs, config, entity)
        until = _latest(limits_after.unknown_deletes_until, found.last)
        if config.has_timed_snapshots:
            until, last = unknown_deletes(inputs.rows, config, entity)
            limits_after = replace(limits_after, unknown_deletes_sequence=last)
        return DimensionUpdate(
            versions.latest,
            versions.history,
            replaces_history=True,
            late_members=found.members,
            limits=replace(limits_after, unknown_deletes_until=until),
        )
    schema = lake_dimension_schema(config, entity)
    is_published = F.col(config.key_column).isNotNull()
    untouched = is_published & ~F.col("_is_late") & ~F.col("_is_several")
    simple = classified.where(F.col("_is_single") | untouched)
    latest = [
        next_latest_versions(simple, schema, config, entity),
        unknown_member(classified.sparkSession, config, entity),
    ]
    history = []
    if not (config.infers_deletes or config.has_timed_snapshots):
        history.append(ended_versions(classified.where("_is_single"), schema, config, entity))
    late = classified.where("_is_late").select(*config.natural_key)
    if found.several:
        changed = _changed(classified, net, (changes, limits), config, entity)
        latest.append(latest_versions(changed, config, entity))
        history.append(history_versions(changed, config, entity))
    if found.late:
        rebuilt = member_versions(everything(), config, entity, late)
        latest.append(latest_versions(rebuilt, config, entity))
        history.append(history_versions(rebuilt, config, entity))
        history.append(_without(published.history, late, config).select(*schema.names))
    return DimensionUpdate(
        reduce(DataFrame.unionByName, latest),
        reduce(DataFrame.unionByName, history),
        replaces_history=bool(found.late),
        late_members=found.late,
        limits=limits_after,
    )


@dataclass(frozen=True)
class _Counts:
    members: int
    touched: int
    late: int
    several: int
    has_late_rows: bool
    last: datetime | None
    unknown_delete: datetime | None
    unknown_sequence: int | None


def _counts(classified: DataFrame, limits: TimeLimits, config: DimensionConfig) -> _Counts:
    is_touched = F.col("_is_late") | F.col("_is_single") | F.col("_is_several")
    # A member whose states were removed may have only a delete left, which leaves no version.
    last_removed = F.when(F.col("_was_removed"), F.col("_changed_at"))
    unknown = F.when(F.col("_known_from").isNull(), F.col("_last_delete"))
    # With a sequence number any delete counts: earlier states may be outdated.
    sequences = [F.lit(None).cast("bigint")]
    if "_sequence" in classified.columns:
        sequences = [
            F.greatest(
                F.col("_last_delete_sequence"), F.when(F.col("_was_removed"), F.col("_sequence"))
            )
        ]
    risky = F.lit(None).cast("int")
    if config.has_timed_snapshots:
        sequences = [F.col("_last_sequence")]
        has_delete = F.col("_last_delete").isNotNull()
        withdrawn = (F.col("_retractable") == 1) | ((F.col("_states") == 1) & has_delete)
        withdrawn = withdrawn & F.col("_known_from").isNull()
        risky = (F.coalesce(withdrawn, F.lit(False)) | (F.col("_is_late") & has_delete)).cast("int")
    first_number = "_first_sequence" if config.has_timed_snapshots else "_events"
    found = classified.agg(
        F.count(F.lit(1)).alias("members"),
        F.sum(is_touched.cast("bigint")).alias("touched"),
        F.sum(F.col("_is_late").cast("bigint")).alias("late"),
        F.sum(F.col("_is_several").cast("bigint")).alias("several"),
        F.max("_changed_at").alias("last"),
        F.min("_first_at").alias("first"),
        F.max(F.col("_was_removed").cast("int")).alias("removed"),
        F.max(F.greatest(last_removed, F.when(F.col("_was_removed"), F.col("_last_delete")))).alias(
            "last_removed"
        ),
        F.max(unknown).alias("unknown"),
        F.max(F.coalesce(*sequences)).alias("sequence"),
        F.max(risky).alias("risky"),
        F.min(first_number).alias("first_number"),
    ).collect()[0]
    first, last = found["first"], found["last"]
    is_before = first is not None and last is not None and first <= last
    if config.has_timed_snapshots:
        first, last_number = found["first_number"], limits.unknown_deletes_sequence
        is_before = None not in (first, last_number) and first <= last_number
    has_late_rows = is_before or bool(found["removed"])
    unknown_until = _latest(found["last_removed"], found["unknown"])
    if config.has_timed_snapshots:
        unknown_until = END_OF_TIME if found["risky"] else None
    return _Counts(
        found["members"],
        found["touched"] or 0,
        found["late"] or 0,
        found["several"] or 0,
        has_late_rows,
        last,
        unknown_until,
        found["sequence"],
    )


def _latest(one: T | None, other: T | None) -> T | None:
    return one if other is None or (one is not None and one >= other) else other


def _changed(
    classified: DataFrame,
    net: DataFrame,
    given: tuple[DimensionChanges, TimeLimits],
    config: DimensionConfig,
    entity: EntityConfig,
) -> DataFrame:
    """Versions, from the published one on, of members with several changes."""
    changes, limits = given
    keys = [*config.natural_key]
    several = classified.where("_is_several")
    is_new = (F.col("_count") > 0) & (F.col("_kind") != PRESENT)
    added = net.where(is_new).select(*events_schema(config, entity))
    # The few members on the left: Sail builds the hash table from that side, streams the other.
    repeats = F.col("_repeats") if config.has_timed_snapshots else F.lit(False)
    members = several.select(*keys, repeats.alias("_repeats"))
    # A repeated row only shows that its member is present.
    kind = F.when(F.col("_repeats"), F.lit(PRESENT)).otherwise(F.col("_kind"))
    theirs = members.join(added, keys).withColumn("_kind", kind).select(*added.columns)
    events = theirs.unionByName(_published_events(several, config, entity))
    # Added snapshots, and BEGINNING for the earlier ones.
    before = classified.sparkSession.range(1).select(instant(BEGINNING).alias("_day"))
    if config.has_timed_snapshots:
        before = before.withColumn("_number", F.lit(0).cast("bigint"))
    presence = None
    if changes.quarantined_added is not None:
        # Including keys that were removed and added again: other rows of the day may be new.
        presence = presence_events(changes.quarantined_added, config, entity)
    days = snapshot_days(added, config, entity).unionByName(before)
    return keyed_versions(events, (days, presence), limits.now, config, entity)


def _published_events(
    touched: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Events that stand for a member's published state: version, end, and reference of a fact."""
    known = F.col("_known_from").isNotNull()
    is_closed = F.coalesce(F.col("valid_to").isNotNull(), F.lit(False)) & known
    # An inferred version is a reference only; a known member's reference is in its version event.
    before = F.when(~known, F.col("_mentioned_at"))
    reference = F.least(F.col("_reference_added"), before) if config.infers_members else before
    kinds = [
        F.when(known, F.lit(PUBLISHED)),
        F.when(is_closed, F.lit(DELETE)),
        F.when(reference.isNotNull(), F.lit(REFERENCE)),
    ]
    rows = (
        touched.withColumn("_reference", reference)
        .withColumn("_kind", F.explode(F.array(*kinds)))
        .where(F.col("_kind").isNotNull())
    )
    is_version = F.col("_kind") == PUBLISHED
    is_reference = F.col("_kind") == REFERENCE
    deleted = is_closed | (F.col("is_deleted") if config.delete_action == "flag" else F.lit(False))
    given: dict[str, Column] = {name: F.col(name) for name in config.natural_key}
    given |= {n: F.when(is_version, F.col(n)) for n in config.shown}
    given |= {
        "_kind": F.col("_kind"),
        "_at": F.when(is_version, F.col("valid_from")).when(~is_reference, F.col("valid_to")),
        "_changed_at": F.when(is_version, F.col("_changed_at")),
        "_known_from": F.when(is_version, F.col("_known_from")),
        "_mentioned_at": F.when(is_reference, F.col("_reference")).when(
            is_version, F.col("_mentioned_at")
        ),
        "_deleted": F.when(~is_reference, deleted | ~is_version),
    }
    if config.has_timed_snapshots:
        given["_row_hash"] = F.when(is_version, F.col("_row_hash"))
    if config.has_sequence:
        given["_sequence"] = F.when(is_version, F.col("_sequence"))
    if config.has_future:
        given["_next_change_at"] = F.when(is_version, F.col("_next_change_at"))
    return as_events(rows, given, config, entity)


def _without(rows: DataFrame, late: DataFrame, config: DimensionConfig) -> DataFrame:
    # A semi-join would build its hash table from the many rows on the left.
    marked = late.withColumn("_late", F.lit(True))
    joined = marked.join(rows, [*config.natural_key], "right").where(F.col("_late").isNull())
    return joined.select(*rows.columns)


__all__ = [
    "DimensionChanges",
    "DimensionInputs",
    "DimensionUpdate",
    "TimeLimits",
    "Versions",
    "update_dimension",
]
