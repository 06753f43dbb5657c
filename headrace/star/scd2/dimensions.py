"""Dimensions: schemas, and the full build from all rows, which is the oracle of the update."""

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.engine import functions as parse
from headrace.schema import Column as SchemaColumn
from headrace.schema import TableSchema
from headrace.star.scd2.change_events import (
    BEGINNING,
    DELETE,
    key_types,
    last_event_per_instant,
    reference_events,
    row_events,
)
from headrace.star.scd2.full_snapshots import (
    absences,
    presence_events,
    snapshot_days,
    with_absences,
)
from headrace.star.scd2.timed_snapshots import retraction_limits, with_presence
from headrace.star.scd2.versions import build_versions

UNKNOWN_KEY = -1
# Natural key of the unknown member by type; -1 for other types. A real member may have it, too.
_UNKNOWN_NAMES: dict[str, object] = {
    "string": "Unknown",
    "date": BEGINNING[:10],
    "timestamp": BEGINNING,
    "timestamptz": BEGINNING,
}
_MEMBER_COLUMNS = (
    SchemaColumn("_changed_at", "timestamp", True, "Last row of the member."),
    SchemaColumn("_known_from", "timestamp", True, "Start of its first version that has a row."),
    SchemaColumn("_referenced_at", "timestamp", True, "First fact of its inferred version."),
)


_SEQUENCE = SchemaColumn("_sequence", "bigint", True, "Largest number of its rows.")
_ROW_HASH = SchemaColumn(
    "_row_hash", "bigint", True, "Hash of its last row; NULL if the last snapshot lacks it."
)
_NEXT_CHANGE = SchemaColumn(
    "_next_change_at", "timestamp", True, "Its first change that lies in the future."
)


@dataclass(frozen=True)
class DimensionInputs:
    """All inputs of a dimension.

    Attributes:
        rows: All processed rows of its entity, in any order.
        references: Natural key and `_event_time` of facts; ignored unless the dimension infers
            members.
        quarantined_keys: Natural key (the entity's columns, typed) and day of quarantined rows;
            read for full snapshots.
        now: End of the last day that the dimension was run for, as a local time; `is_current`
            refers to the moment before. None: no event lies in the future.
    """

    rows: DataFrame
    references: DataFrame | None = None
    quarantined_keys: DataFrame | None = None
    now: datetime | None = None


@dataclass(frozen=True)
class Versions:
    """A dimension in the lake: two disjoint frames with the columns of `lake_dimension_schema`.

    Attributes:
        latest: The latest version of each member: deleted, inferred and unknown ones, too.
        history: All earlier versions.
    """

    latest: DataFrame
    history: DataFrame


def dimension_schema(config: DimensionConfig, entity: EntityConfig) -> TableSchema:
    """Surrogate key, natural key, attributes, validity interval; flags that can be true."""
    flags = []
    if config.delete_action == "flag":
        flags.append(SchemaColumn("is_deleted", "boolean", False, "Whether the source deleted it."))
    if config.infers_members:
        flags.append(
            SchemaColumn("is_inferred", "boolean", False, "Whether only facts refer to it so far.")
        )
    return TableSchema(
        (
            SchemaColumn(config.key_column, "bigint", False, "Surrogate key of the version."),
            *_business_columns(config, entity),
            SchemaColumn("valid_from", "timestamp", False, "Start of validity, included."),
            SchemaColumn("valid_to", "timestamp", True, "End of validity, excluded; NULL: open."),
            SchemaColumn("is_current", "boolean", False, "Whether it is valid today."),
            SchemaColumn(
                "is_latest", "boolean", False, "Whether it is the last version that is known."
            ),
            *flags,
        )
    )


def lake_dimension_schema(config: DimensionConfig, entity: EntityConfig) -> TableSchema:
    """`dimension_schema`, then the columns that the next update needs.

    Only a member's latest version has values in these columns: `_changed_at` is the time of its
    last row, even if that changed nothing; `_known_from` the start of its first version that has a
    row; `_referenced_at` the earliest event time of a fact if it has an inferred version;
    `_next_change_at` its first change that lies in the future.
    """
    more = [_NEXT_CHANGE] if config.has_future else []
    more += [_SEQUENCE] if config.has_sequence else []
    more += [_ROW_HASH] if config.has_timed_snapshots else []
    return dimension_schema(config, entity).plus([*_MEMBER_COLUMNS, *more])


def build_dimension(
    inputs: DimensionInputs, config: DimensionConfig, entity: EntityConfig
) -> Versions:
    """Build the whole dimension from all published rows of its entity.

    Depends on the set of rows only, not on the order of runs.

    Args:
        inputs: All inputs.
        config: Natural key, attributes, and how versions begin and end.
        entity: Types of the columns.
    """
    return split_versions(all_versions(inputs, config, entity))


def all_versions(
    inputs: DimensionInputs, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """`build_dimension` as one frame, so that one pass can write it."""
    versions = member_versions(inputs, config, entity)
    return versions.unionByName(unknown_member(inputs.rows.sparkSession, config, entity))


def split_versions(versions: DataFrame) -> Versions:
    """The latest version of each member, and all earlier ones."""
    is_latest = F.col("is_latest")
    return Versions(versions.where(is_latest), versions.where(~is_latest))


def member_versions(
    inputs: DimensionInputs,
    config: DimensionConfig,
    entity: EntityConfig,
    members: DataFrame | None = None,
) -> DataFrame:
    """Versions of all members but the unknown one, or of those whose natural keys are given.

    Args:
        inputs: All inputs: members that a snapshot lacks are found in the rows of others.
        config: As in `build_dimension`.
        entity: Types of the columns.
        members: Distinct natural keys of a part of the members; None: all.
    """
    all_events = row_events(inputs.rows, config, entity)
    events = _of_members(all_events, members, config)
    if inputs.references is not None and config.infers_members:
        some = _of_members(inputs.references, members, config)
        events = events.unionByName(reference_events(some, config, entity))
    presence = None
    if inputs.quarantined_keys is not None and config.infers_deletes:
        presence = presence_events(inputs.quarantined_keys, config, entity)
        presence = _of_members(presence, members, config)
    snapshots = (snapshot_days(all_events, config, entity), presence)
    return keyed_versions(events, snapshots, inputs.now, config, entity)


def keyed_versions(
    events: DataFrame,
    snapshots: tuple[DataFrame, DataFrame | None],
    now: datetime | None,
    config: DimensionConfig,
    entity: EntityConfig,
) -> DataFrame:
    """Versions of the events' members, with surrogate keys, in the lake's columns.

    Args:
        events: All events of these members, in any order, any number at an instant.
        snapshots: `days` and `presence` of `with_absences`; read for full snapshots only.
        now: As in `DimensionInputs`.
        config: How versions begin and end.
        entity: Types of the columns.
    """
    if config.has_timed_snapshots:
        days, presence = snapshots
        everything = events if presence is None else events.unionByName(presence)
        events = with_presence(everything, days, config, entity)
    elif config.infers_deletes and config.ignore_nulls:
        # These deletes must precede the filling of NULLs: after one, a member has no last value.
        one_each = last_event_per_instant(events, config, entity)
        events = events.unionByName(absences(one_each, *snapshots, config, entity))
    one_each = last_event_per_instant(events, config, entity)
    if config.infers_deletes and not config.has_timed_snapshots:
        one_each = with_absences(one_each, *snapshots, config, entity)
    versions = build_versions(one_each, now, config, entity)
    types = [(F.col(name), kind) for name, kind in key_types(config, entity).items()]
    key = parse.hash_key([*types, (F.col("valid_from"), "timestamp")])
    keyed = versions.withColumn(config.key_column, key)
    schema = lake_dimension_schema(config, entity)
    cast = [parse.cast_to(F.col(c.name), c.type).alias(c.name) for c in schema]
    return keyed.select(*cast)


def unknown_deletes(
    rows: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> tuple[datetime | None, int | None]:
    """The limits of the next update: latest time and largest number of deletes without a version.

    A delete of a member without an earlier state leaves no version, but counts once an earlier
    state arrives.
    """
    all_events = row_events(rows, config, entity)
    if config.has_timed_snapshots:
        return retraction_limits(all_events, config, entity)
    if config.delete_action == "keep" or config.deleted_when is None:
        return None, None
    is_delete = F.col("_kind") == DELETE
    members = all_events.groupBy(*config.natural_key).agg(
        F.min(F.when(is_delete, F.col("_at"))).alias("_first_delete"),
        F.max(F.when(is_delete, F.col("_at"))).alias("_last_delete"),
        F.min(F.when(~is_delete, F.col("_at"))).alias("_first_state"),
        F.max(F.when(is_delete, F.col("_sequence"))).alias("_sequence"),
    )
    is_unknown = F.col("_first_state").isNull() | (F.col("_first_delete") <= F.col("_first_state"))
    if config.sequence is not None:
        # With a sequence number any delete counts: the states before it may become outdated.
        is_unknown = F.col("_first_delete").isNotNull()
    latest = (F.max(name).alias(name) for name in ("_last_delete", "_sequence"))
    found = members.where(is_unknown).agg(*latest).collect()[0]
    return found["_last_delete"], found["_sequence"]


def unknown_member(spark: SparkSession, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """The row with key -1, to which facts without a match refer; none if so configured."""
    schema = lake_dimension_schema(config, entity)
    values: dict[str, object] = dict(config.unknown_values)
    values |= {
        name: _UNKNOWN_NAMES.get(kind, UNKNOWN_KEY)
        for name, kind in key_types(config, entity).items()
    }
    values |= {config.key_column: UNKNOWN_KEY, "valid_from": BEGINNING, "is_current": True}
    values |= {"is_latest": True, "is_deleted": False, "is_inferred": False}
    one = spark.range(1 if config.has_unknown_member else 0)
    return one.select(
        *(parse.cast_to(F.lit(values.get(c.name)), c.type).alias(c.name) for c in schema)
    )


def _of_members(frame: DataFrame, members: DataFrame | None, config: DimensionConfig) -> DataFrame:
    if members is None:
        return frame
    # The few members on the left: Sail builds the hash table from that side, streams the other.
    return members.join(frame, [*config.natural_key]).select(*frame.columns)


def _business_columns(config: DimensionConfig, entity: EntityConfig) -> list[SchemaColumn]:
    keys = [
        SchemaColumn(name, entity.column(source).type, False, entity.column(source).description)
        for name, source in config.natural_key.items()
    ]
    attributes = [
        SchemaColumn(name, entity.column(source).type, True, entity.column(source).description)
        for name, source in config.shown.items()
    ]
    return [*keys, *attributes]
