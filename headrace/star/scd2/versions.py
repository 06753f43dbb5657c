"""Type 2 versions with validity intervals, from the events of members in time order."""

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.engine import functions as parse
from headrace.star.scd2.change_events import (
    BEGINNING,
    DELETE,
    PUBLISHED,
    REFERENCE,
    STATE,
    instant,
    is_constant,
    value_types,
)
from headrace.star.scd2.member_window import MemberWindow

# The state of a deleted member; hashes of states are not negative.
_DELETED = -1


def build_versions(
    events: DataFrame, now: datetime | None, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Versions of the events' members (type 2 of Kimball & Ross, 3rd ed.).

    - Consecutive equal states are one version, unless a delete lies between them.
    - A delete without an earlier state is ignored.
    - A member with a fact before its first version gets an inferred version in front.

    Args:
        events: All events of these members, one at an instant (scd2/change_events.py).
        now: `is_current` refers to the moment before this; None: no event lies in the future.
        config: How versions begin and end.
        entity: Types of the columns.

    Returns:
        Natural key, attributes, valid_from, valid_to, is_current, is_latest, is_deleted,
        is_inferred; then `_changed_at`, `_known_from`, `_referenced_at`, `_next_change_at`,
        `_sequence` and `_row_hash`, which are NULL in all versions but the member's latest.
    """
    return (
        events.transform(_with_states, config, entity)
        .transform(_with_member_columns, now, config)
        .transform(_since_first_state, now, config)
        .transform(_with_latest_values, now, config)
        .where(_begins_version(config))
        .transform(_closed, now, config, entity)
    )


def _in_time(config: DimensionConfig) -> MemberWindow:
    return MemberWindow([*config.natural_key], [F.col("_at").asc_nulls_first()])


def _is(kind: str) -> Column:
    return F.col("_kind") == kind


def _with_states(events: DataFrame, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """Add `_state`, a hash of the member's attributes, and `_before`, that of the event before."""
    types = value_types(config, entity)
    values = [(F.col(name), types[name]) for name in config.attributes]
    state = parse.hash_key(values) if values else F.lit(0).cast("bigint")
    is_deleted = _is(DELETE)
    if config.delete_action == "flag":
        is_deleted = is_deleted | F.col("_deleted")
    deleted = F.lit(_DELETED).cast("bigint")
    # A reference has no state. It comes first, so the first row has no state before it.
    own_state = F.when(is_deleted, deleted).when(~_is(REFERENCE), state)
    before = _in_time(config).lag("_state")
    return events.withColumn("_state", own_state).withColumn("_before", before)


def _start(config: DimensionConfig) -> Column:
    """Start of the version that an event would begin."""
    beginning = instant(BEGINNING)
    start = F.col("_at")
    if config.first_version == "from_beginning":
        start = F.when(F.col("_is_first") & ~_is(PUBLISHED), beginning).otherwise(start)
    return start


def _is_past(now: datetime | None) -> Column:
    return F.lit(True) if now is None else F.col("_at") < instant(now.isoformat(" "))


def _with_member_columns(
    events: DataFrame, now: datetime | None, config: DimensionConfig
) -> DataFrame:
    """Add columns that are equal in all events of a member, such as `_first_state_at`."""
    member = Window.partitionBy(*config.natural_key)
    is_state = _is(STATE) | _is(PUBLISHED)
    if config.delete_action == "flag" or config.first_version == "from_beginning":
        # A delete with values is a state, too, where a version can show it.
        is_state = is_state | F.col("_has_values")
    # The inferred version of such a member is published already.
    has_inferred = _is(PUBLISHED) & F.col("_referenced_at").isNotNull()
    is_future = (_is(STATE) | _is(DELETE)) & ~_is_past(now)
    if is_constant(config):
        # Future events cannot change such members.
        is_future = F.lit(False)
    future_change = F.least(F.col("_next_change_at"), F.when(is_future, F.col("_at")))
    none = F.lit(None)
    next_change = F.min(future_change).over(member) if config.has_future else none
    last_sequence = F.max("_sequence").over(member) if config.has_sequence else none
    row_hash = F.max("_row_hash").over(member) if config.has_timed_snapshots else none
    return events.withColumns(
        {
            "_next_change_at": next_change.cast("timestamp_ntz"),
            "_first_state_at": F.min(F.when(is_state, F.col("_at"))).over(member),
            "_published_from": F.min("_known_from").over(member),
            "_last_sequence": last_sequence.cast("bigint"),
            "_last_row_hash": row_hash.cast("bigint"),
            "_last_change": F.max("_changed_at").over(member),
            "_first_reference": F.min("_referenced_at").over(member),
            "_has_inferred": F.max(has_inferred.cast("int")).over(member),
        }
    )


def _since_first_state(
    events: DataFrame, now: datetime | None, config: DimensionConfig
) -> DataFrame:
    """Drop deletes before the member's first state, and add the start of versions."""
    first_at, published_from = F.col("_first_state_at"), F.col("_published_from")
    is_known = _is(REFERENCE) | F.coalesce(F.col("_at") >= first_at, F.lit(False))
    first_start = instant(BEGINNING) if config.first_version == "from_beginning" else first_at
    first_start = F.coalesce(published_from, F.when(first_at.isNotNull(), first_start))
    # Of a member without a state, no later version depends on a delete, future ones included.
    next_change = F.when(first_at.isNotNull(), F.col("_next_change_at"))
    if now is not None:
        is_new = published_from.isNull() & (first_at >= instant(now.isoformat(" ")))
        next_change = F.when(is_new, first_at).otherwise(next_change)
    return (
        events.where(is_known)
        .withColumns(
            {
                "_is_first": F.coalesce(F.col("_at") == first_at, F.lit(False)) & ~_is(REFERENCE),
                "_first_start": first_start,
                "_next_change_at": next_change,
            }
        )
        .withColumn("_start", _start(config))
    )


def _with_latest_values(
    events: DataFrame, now: datetime | None, config: DimensionConfig
) -> DataFrame:
    """Type 1: give every event of a member the values of its latest state before `now`.

    Deletes change no values. If all states of a member lie in the future, its first one counts.
    """
    if not config.type1:
        return events
    member = Window.partitionBy(*config.natural_key)
    has_value = ~_is(REFERENCE) & (~_is(DELETE) | F.col("_has_values"))
    latest_at = F.max(F.when(has_value & _is_past(now), F.col("_at"))).over(member)
    if now is not None:
        latest_at = F.coalesce(latest_at, F.min(F.when(has_value, F.col("_at"))).over(member))
    timed = events.withColumn("_latest_at", latest_at)
    # A member has one such event, so `max` returns the value of that event, NULL included.
    is_latest = has_value & (F.col("_at") == F.col("_latest_at"))
    return timed.withColumns(
        {n: F.max(F.when(is_latest, F.col(n))).over(member) for n in config.type1}
    )


def _begins_version(config: DimensionConfig) -> Column:
    """Whether an event begins a version; a reference does if an inferred version is needed."""
    differs = F.col("_is_first") | (F.col("_before") != F.col("_state"))
    known, referenced = F.col("_first_start"), F.col("_first_reference")
    needed = known.isNull()
    if config.first_version == "at_effective_time":
        needed = needed | ((referenced < known) & (F.col("_has_inferred") == 0))
    return F.when(_is(REFERENCE), F.coalesce(needed, F.lit(False))).otherwise(
        F.when(_is(PUBLISHED), F.lit(True)).otherwise(differs)
    )


def _closed(
    events: DataFrame, now: datetime | None, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Versions with their validity intervals: each ends where the next event begins."""
    in_time, closes = _in_time(config), config.delete_action == "close"
    types = value_types(config, entity)
    next_at = in_time.lead("_at")
    next_is_delete = F.coalesce(in_time.lead("_kind") == DELETE, F.lit(False))
    is_last = next_at.isNull()
    if closes:
        is_last = is_last | (next_is_delete & in_time.lead("_at", 2).isNull())
    versioned = (*config.attributes, *config.untracked)
    before = {f"_before_{n}": in_time.lag(n) for n in versioned}
    rows = events.withColumns(
        {
            "_next_at": next_at,
            "_is_latest": F.when(_is(REFERENCE), F.col("_first_start").isNull()).otherwise(is_last),
            **(before if config.delete_action == "flag" else {}),
        }
    )
    if closes:
        rows = rows.where(~_is(DELETE) | F.col("_is_first"))
    valid_to = F.col("_next_at")
    if closes:
        valid_to = F.when(_is(DELETE), F.col("_at")).otherwise(valid_to)
    valid_to = F.when(_is(REFERENCE), F.col("_first_start")).otherwise(valid_to)
    valid_from = F.when(_is(REFERENCE), instant(BEGINNING)).otherwise(F.col("_start"))
    return rows.select(
        *config.natural_key,
        *(_value(name, types[name], config).alias(name) for name in types),
        valid_from.alias("valid_from"),
        valid_to.alias("valid_to"),
        _is_current(valid_from, valid_to, now).alias("is_current"),
        F.col("_is_latest").alias("is_latest"),
        F.coalesce(F.col("_deleted"), F.lit(False)).alias("is_deleted"),
        _is(REFERENCE).alias("is_inferred"),
        *_columns_of_latest(config),
    )


def _is_current(valid_from: Column, valid_to: Column, now: datetime | None) -> Column:
    if now is None:
        return valid_to.isNull()
    today = instant(now.isoformat(" "))
    return (valid_from < today) & F.coalesce(valid_to >= today, F.lit(True))


def _value(name: str, type_name: str, config: DimensionConfig) -> Column:
    """An attribute's value: of a delete, the state's before it; of an inferred version, unknown."""
    unknown = parse.cast_to(F.lit(config.unknown_values.get(name)), type_name)
    value = F.col(name)
    if name in config.type1:
        return F.when(F.col("_first_start").isNull(), unknown).otherwise(value)
    if config.delete_action == "flag":
        repeated = _is(DELETE) & ~F.col("_has_values")
        value = F.when(repeated, F.col(f"_before_{name}")).otherwise(value)
    return F.when(_is(REFERENCE), unknown).otherwise(value)


def _columns_of_latest(config: DimensionConfig) -> list[Column]:
    """The columns that the next update needs, which only a member's latest version has."""
    known, referenced = F.col("_first_start"), F.col("_first_reference")
    is_inferred = known.isNull()
    if config.first_version == "at_effective_time":
        is_inferred = is_inferred | (referenced < known)
    columns = {
        "_changed_at": F.when(known.isNotNull(), F.col("_last_change")),
        "_known_from": known,
        "_referenced_at": F.when(is_inferred, referenced),
        "_next_change_at": F.col("_next_change_at"),
        "_sequence": F.when(known.isNotNull(), F.col("_last_sequence")),
        "_row_hash": F.when(known.isNotNull(), F.col("_last_row_hash")),
    }
    return [F.when(F.col("_is_latest"), c).alias(name) for name, c in columns.items()]
