"""Incremental update: a dimension's next state from the published one and the changed rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import TypeVar

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.star.scd2.change_events import (
    BEGINNING,
    DELETE,
    PRESENT,
    PUBLISHED,
    REFERENCE,
    as_events,
    events_schema,
    instant,
)
from headrace.star.scd2.dimensions import (
    UNKNOWN_KEY,
    DimensionInputs,
    Versions,
    all_versions,
    keyed_versions,
    lake_dimension_schema,
    member_versions,
    unknown_deletes,
    unknown_member,
)
from headrace.star.scd2.full_snapshots import presence_events, snapshot_days
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
    """The next state of a dimension.

    Attributes:
        versions: The latest version of every member (`is_latest`), and the rows to add to the
            history, or the whole history if it is replaced. One lazy frame: it is computed once,
            however it is split.
        replaces_history: Whether the history is replaced.
        late_members: Number of members that were rebuilt from all of their rows.
        limits: Time limits of the next update.
    """

    versions: DataFrame
    replaces_history: bool
    late_members: int
    limits: TimeLimits


@dataclass(frozen=True)
class _Summary:
    """Numbers of classified members, and what follows from them.

    Attributes:
        members: All members.
        touched: Those with changes.
        late: Those that are rebuilt from all of their rows.
        several: Those with several changes after their last one.
        has_late_rows: Whether rows were removed, or added at or before the last published change.
        last_change: Time of the last published change.
        limits: Limits of the next update.
    """

    members: int
    touched: int
    late: int
    several: int
    has_late_rows: bool
    last_change: datetime | None
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

    If all changes of a member follow its last one, its latest version suffices. A member is late,
    and rebuilt from all of its rows, if a change is at or before its last one, if a row of it was
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
    found = _summary(classified, limits, config)
    if not found.touched:
        return None
    if config.infers_deletes and found.has_late_rows:
        return _rebuilt(everything(), found, config, entity)
    schema = lake_dimension_schema(config, entity)
    versions = [
        next_latest_versions(_single_or_untouched(classified, config), schema, config, entity),
        unknown_member(classified.sparkSession, config, entity),
    ]
    if not (config.infers_deletes or config.has_timed_snapshots):
        versions.append(ended_versions(classified.where("_is_single"), schema, config, entity))
    if found.several:
        presence = changes.quarantined_added
        versions.append(
            _with_several_changes(classified, net, presence, limits.now, config, entity)
        )
    if found.late:
        keys = classified.where("_is_late").select(*config.natural_key)
        versions.append(member_versions(everything(), config, entity, keys))
        versions.append(_without(published.history, keys, schema.names, config))
    return DimensionUpdate(
        reduce(DataFrame.unionByName, versions),
        replaces_history=bool(found.late),
        late_members=found.late,
        limits=found.limits,
    )


def _rebuilt(
    inputs: DimensionInputs, found: _Summary, config: DimensionConfig, entity: EntityConfig
) -> DimensionUpdate:
    """The whole dimension, after a late full snapshot."""
    versions = all_versions(inputs, config, entity)
    limits = found.limits
    until = _latest(limits.unknown_deletes_until, found.last_change)
    if config.has_timed_snapshots:
        until, last = unknown_deletes(inputs.rows, config, entity)
        limits = replace(limits, unknown_deletes_sequence=last)
    return DimensionUpdate(
        versions,
        replaces_history=True,
        late_members=found.members,
        limits=replace(limits, unknown_deletes_until=until),
    )


def _summary(classified: DataFrame, limits: TimeLimits, config: DimensionConfig) -> _Summary:
    is_timed = config.has_timed_snapshots
    is_touched = F.col("_is_late") | F.col("_is_single") | F.col("_is_several")
    found = classified.agg(
        F.count(F.lit(1)).alias("members"),
        *(
            F.sum(condition.cast("bigint")).alias(name)
            for name, condition in (
                ("touched", is_touched),
                ("late", F.col("_is_late")),
                ("several", F.col("_is_several")),
                ("removed", F.col("_was_removed")),
            )
        ),
        # Timed snapshots are ordered by their days, other changes by effective times.
        F.min("_first_sequence" if is_timed else "_first_at").alias("first"),
        F.max("_changed_at").alias("last_change"),
        F.max(_unknown_delete(config)).alias("unknown_delete"),
        F.max(_unknown_sequence(config)).alias("unknown_sequence"),
    ).collect()[0]
    first = found["first"]
    last = limits.unknown_deletes_sequence if is_timed else found["last_change"]
    is_before = first is not None and last is not None and first <= last
    until = found["unknown_delete"]
    if is_timed:
        until = END_OF_TIME if until else None
    return _Summary(
        found["members"],
        found["touched"] or 0,
        found["late"] or 0,
        found["several"] or 0,
        has_late_rows=is_before or bool(found["removed"]),
        last_change=found["last_change"],
        limits=replace(
            limits,
            unknown_deletes_until=_latest(limits.unknown_deletes_until, until),
            unknown_deletes_sequence=_latest(
                limits.unknown_deletes_sequence, found["unknown_sequence"]
            ),
        ),
    )


def _unknown_delete(config: DimensionConfig) -> Column:
    """Time of a member's delete that may leave no version; with timed snapshots, 1 if there is one.

    See `unknown_deletes` and `retraction_limits`.
    """
    is_new, last_delete = F.col("_known_from").isNull(), F.col("_last_delete")
    if config.has_timed_snapshots:
        has_delete = last_delete.isNotNull()
        may_be_retracted = (F.col("_retractable") == 1) | ((F.col("_states") == 1) & has_delete)
        without_version = F.coalesce(is_new & may_be_retracted, F.lit(False))
        return (without_version | (F.col("_is_late") & has_delete)).cast("int")
    was_removed = F.col("_was_removed")
    return F.greatest(
        # A member whose states were removed may have only a delete left.
        F.when(was_removed, F.col("_changed_at")),
        F.when(was_removed, last_delete),
        F.when(is_new, last_delete),
    )


def _unknown_sequence(config: DimensionConfig) -> Column:
    """Number of a member's last delete; of timed snapshots, of its last row."""
    if config.has_timed_snapshots:
        return F.col("_last_sequence")
    if not config.has_sequence:
        return F.lit(None).cast("bigint")
    # Not only of deletes without a version: the states before a delete may become outdated.
    removed = F.when(F.col("_was_removed"), F.col("_sequence"))
    return F.greatest(F.col("_last_delete_sequence"), removed)


def _latest(one: T | None, other: T | None) -> T | None:
    return one if other is None or (one is not None and one >= other) else other


def _single_or_untouched(classified: DataFrame, config: DimensionConfig) -> DataFrame:
    is_published = F.col(config.key_column).isNotNull()
    is_untouched = is_published & ~F.col("_is_late") & ~F.col("_is_several")
    return classified.where(F.col("_is_single") | is_untouched)


def _with_several_changes(
    classified: DataFrame,
    net: DataFrame,
    quarantined: DataFrame | None,
    now: datetime | None,
    config: DimensionConfig,
    entity: EntityConfig,
) -> DataFrame:
    """Versions of members with several changes, from the published one on.

    Args:
        classified: Of `classified_members`.
        net: Of `net_events`.
        quarantined: Added keys of quarantined rows. They include keys that were removed and added
            again, because other rows of their day may be new.
        now: As in `DimensionInputs`.
        config: As in `build_dimension`.
        entity: Types of the columns.
    """
    several = classified.where("_is_several")
    is_new = (F.col("_count") > 0) & (F.col("_kind") != PRESENT)
    columns = [*events_schema(config, entity)]
    added = net.where(is_new).select(*columns)
    repeats = F.col("_repeats") if config.has_timed_snapshots else F.lit(False)
    members = several.select(*config.natural_key, repeats.alias("_repeats"))
    # A repeated row only shows that its member is present.
    kind = F.when(F.col("_repeats"), F.lit(PRESENT)).otherwise(F.col("_kind"))
    # The few members on the left: Sail builds the hash table from that side, streams the other.
    joined = members.join(added, [*config.natural_key]).withColumn("_kind", kind)
    events = joined.select(*columns).unionByName(_published_events(several, config, entity))
    # The added snapshots, and BEGINNING for the earlier ones.
    earlier = classified.sparkSession.range(1).select(instant(BEGINNING).alias("_day"))
    if config.has_timed_snapshots:
        earlier = earlier.withColumn("_number", F.lit(0).cast("bigint"))
    days = snapshot_days(added, config, entity).unionByName(earlier)
    presence = None if quarantined is None else presence_events(quarantined, config, entity)
    return keyed_versions(events, (days, presence), now, config, entity)


def _published_events(
    touched: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Events that stand for a published member: its version, its end, a fact's reference to it."""
    known = F.col("_known_from").isNotNull()
    is_closed = F.coalesce(F.col("valid_to").isNotNull(), F.lit(False)) & known
    # An inferred version becomes a reference; the event of another version has its reference.
    before = F.when(~known, F.col("_referenced_at"))
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
        "_referenced_at": F.when(is_reference, F.col("_reference")).when(
            is_version, F.col("_referenced_at")
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


def _without(
    rows: DataFrame, late: DataFrame, columns: Sequence[str], config: DimensionConfig
) -> DataFrame:
    """Columns of the rows of all other members."""
    # Not a semi-join, which would build its hash table from the many rows on the left.
    marked = late.withColumn("_late", F.lit(True))
    joined = marked.join(rows, [*config.natural_key], "right").where(F.col("_late").isNull())
    return joined.select(*columns)
