"""One frame of the processed rows of all entities that a dimension is made from."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.models import DimensionConfig
from headrace.engine.values.types import sql_type
from headrace.lineage_schema import SOURCE_ORDER
from headrace.schema import PARTITION_COLUMN

# Position of a row's entity in the dimension's list. At one instant, the last entity counts.
ENTITY_RANK = "_entity_rank"
# Whether a row states a delete, by the columns of its own entity.
IS_DELETE = "_is_delete"


def union_of_entities(
    frames: Sequence[tuple[DataFrame, str, EntityConfig]],
    config: DimensionConfig,
    united: EntityConfig,
) -> DataFrame:
    """The rows of all frames, in the columns that the dimension reads.

    With one entity, the rows are unchanged. With several, a column that an entity lacks is NULL in
    its rows, and `ENTITY_RANK` and `IS_DELETE` are added.

    Args:
        frames: Processed rows, the name of their `source.entity`, and its columns; at least one
            frame, and any number of frames of an entity.
        config: The dimension.
        united: Types of the columns (`united_entity`).
    """
    if not config.further_entities:
        return reduce(DataFrame.unionByName, [rows for rows, _, _ in frames])
    lineage = (PARTITION_COLUMN, *SOURCE_ORDER)
    ranks = {name: rank for rank, name in enumerate(config.entities)}

    def of_entity(rows: DataFrame, name: str, entity: EntityConfig) -> DataFrame:
        has = {column.name for column in entity.processed_columns}
        values = [
            (F.col(column) if column in has else F.lit(None))
            .cast(sql_type(united.column(column).type))
            .alias(column)
            for column in config.entity_columns
        ]
        return rows.select(
            *values,
            *lineage,
            F.lit(ranks[name]).cast("int").alias(ENTITY_RANK),
            is_delete(config).alias(IS_DELETE),
        )

    return reduce(DataFrame.unionByName, [of_entity(*each) for each in frames])


def is_delete(config: DimensionConfig) -> Column:
    """Whether a row of an entity states a delete; never NULL."""
    if config.deleted_when is None:
        return F.lit(False)
    # Not `coalesce`: Sail's plans disagree on whether its result can be NULL, and fail on it.
    return F.when(F.expr(f"({config.deleted_when})"), F.lit(True)).otherwise(F.lit(False))
