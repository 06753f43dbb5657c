"""The fast path of the update: members with one change after their last one, most of a day's."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.engine import functions as parse
from headrace.schema import TableSchema
from headrace.star.scd2.change_events import BEGINNING, DELETE, instant, key_types, value_types
from headrace.star.scd2.late_changes import new_column

_AT = "_first_at"


def next_latest_versions(
    classified: DataFrame, schema: TableSchema, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """The next latest version of each member, untouched members included.

    A new member with only a delete has none.

    Args:
        classified: Members with one change and untouched ones, of `classified_members`.
        schema: Columns of the lake's table.
        config: How versions begin and end.
        entity: Types of the columns.
    """
    begins, is_new = F.col("_begins"), ~F.col("_exists")
    start = F.when(is_new, _first_start(config)).otherwise(F.col(_AT))
    valid_to = F.when(F.col("_ends"), F.col(_AT)).when(~begins, F.col("valid_to"))
    columns = {
        **{name: F.col(name) for name in config.natural_key},
        **{name: _attribute(name, config) for name in (*config.attributes, *config.untracked)},
        **{name: _type1_value(name, config) for name in config.type1},
        "valid_from": F.when(begins, start).otherwise(F.col("valid_from")),
        "valid_to": valid_to,
        # A member with a single change has no future changes.
        "is_current": F.when(F.col("_is_single"), valid_to.isNull()).otherwise(F.col("is_current")),
        "is_latest": F.lit(True),
        "is_deleted": F.when(begins, _is_delete()),
        "is_inferred": F.when(begins, F.lit(False)),
        "_changed_at": F.when(F.col("_is_single"), F.col(new_column("_changed_at"))),
        "_known_from": F.when(is_new, start),
        "_sequence": F.when(F.col("_is_single"), F.col(new_column("_sequence"))),
    }
    for name in ("is_deleted", "is_inferred", "_changed_at", "_known_from", "_sequence"):
        if name in schema.names:
            columns[name] = F.coalesce(columns[name], F.col(name))
    keys = [(F.col(name), kind) for name, kind in key_types(config, entity).items()]
    key = parse.hash_key([*keys, (columns["valid_from"], "timestamp")])
    columns[config.key_column] = F.when(begins, key).otherwise(F.col(config.key_column))
    rows = classified.transform(_with_outcome, config, entity).where("_exists or _begins")
    return rows.select(
        *(parse.cast_to(columns.get(c.name, F.col(c.name)), c.type).alias(c.name) for c in schema)
    )


def ended_versions(
    classified: DataFrame, schema: TableSchema, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """The published versions that a single change closes, as rows of the history.

    Args:
        classified: Members with one change.
        schema: Columns of the lake's table.
        config: How versions begin and end.
        entity: Types of the columns.
    """
    columns = {
        **{name: _type1_value(name, config) for name in config.type1},
        "valid_to": F.coalesce(F.col("valid_to"), F.col(_AT)),
        "is_current": F.lit(False),
        "is_latest": F.lit(False),
        **{name: F.lit(None) for name in ("_changed_at", "_known_from", "_referenced_at")},
        "_next_change_at": F.lit(None),
        "_sequence": F.lit(None),
    }
    rows = classified.transform(_with_outcome, config, entity).where("_begins and _exists")
    return rows.select(
        *(parse.cast_to(columns.get(c.name, F.col(c.name)), c.type).alias(c.name) for c in schema)
    )


def _with_outcome(
    classified: DataFrame, config: DimensionConfig, entity: EntityConfig
) -> DataFrame:
    """Add what a single change does: begins a version (`_begins`), or ends one only (`_ends`).

    `_exists` says whether the member has a published version.
    """
    exists = F.col(config.key_column).isNotNull()
    types = value_types(config, entity)
    old = parse.hash_key([(F.col(name), types[name]) for name in config.attributes])
    new = parse.hash_key([(_new(n, config), types[n]) for n in config.attributes])
    differs = old != new if config.attributes else F.lit(False)
    single, is_live = F.col("_is_single"), _is_live(config)
    flags = F.lit(config.delete_action == "flag")
    on_state = ~is_live | differs
    on_delete = flags & is_live
    begins = F.when(_is_delete(), on_delete).otherwise(on_state)
    return classified.withColumns(
        {
            "_exists": exists,
            "_begins": single & begins,
            "_ends": single & _is_delete() & is_live & ~flags,
        }
    )


def _is_delete() -> Column:
    return F.coalesce(F.col(new_column("_kind")) == DELETE, F.lit(False))


def _first_start(config: DimensionConfig) -> Column:
    return instant(BEGINNING) if config.first_version == "from_beginning" else F.col(_AT)


def _is_live(config: DimensionConfig) -> Column:
    """Whether the member is published and not deleted."""
    is_deleted = F.col("valid_to").isNotNull()
    if config.delete_action == "flag":
        is_deleted = F.coalesce(F.col("is_deleted"), F.lit(False))
    return F.col(config.key_column).isNotNull() & ~is_deleted


def _new(name: str, config: DimensionConfig) -> Column:
    """The value of the change; with `ignore_nulls`, the published value in place of NULL."""
    value = F.col(new_column(name))
    if name not in config.ignore_nulls:
        return value
    if name in config.type1:
        return F.coalesce(value, F.col(name))
    return F.coalesce(value, F.when(_is_live(config), F.col(name)))


def _attribute(name: str, config: DimensionConfig) -> Column:
    # A member flagged as deleted keeps its last values.
    shows_change = F.col("_begins") & ~(_is_delete() & F.col("_exists"))
    return F.when(shows_change, _new(name, config)).otherwise(F.col(name))


def _type1_value(name: str, config: DimensionConfig) -> Column:
    shows_change = F.col("_is_single") & ~(_is_delete() & F.col("_exists"))
    return F.when(shows_change, _new(name, config)).otherwise(F.col(name))
