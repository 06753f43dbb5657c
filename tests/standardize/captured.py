"""An entity, and rows of it as capture leaves them, from texts alone."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.config.sources.file_source import FileEntity
from headrace.engine.values.types import spark_schema
from headrace.raw.capture import raw_schema
from headrace.standardize.schemas import RunStamp

DAY = date(2024, 1, 2)
CAPTURED = datetime(2024, 1, 3, tzinfo=UTC)
STAMP = RunStamp("run", "code", "2024-01-03T00:00:00+00:00")


def entity(*columns: Mapping[str, Any], **options: object) -> EntityConfig:
    """An entity of these columns, after `id`, which is its key."""
    return FileEntity.model_validate(
        {
            "name": "orders",
            "extract": {"mode": "files", "path": "orders-{date:%Y-%m-%d}.csv"},
            "key": ["id"],
            "columns": [{"name": "id", "type": "bigint"}, *columns],
            **options,
        }
    )


def capture(
    spark: SparkSession,
    configured: EntityConfig,
    rows: Sequence[Sequence[str | None]],
    day: date = DAY,
) -> DataFrame:
    """Rows from line 2 on, `id` being the line; None is a column that the file did not have."""
    place = {"_source_object": "orders.csv", "_captured_at": CAPTURED, "_partition_date": day}
    schema = raw_schema(configured)
    captured = []
    for line, texts in enumerate(rows, start=2):
        values = dict.fromkeys(schema.names) | place | {"id": str(line), "_source_position": line}
        names = [column.name for column in configured.columns if column.name != "id"]
        values |= dict(zip(names, texts, strict=True))
        captured.append(tuple(values.values()))
    return spark.createDataFrame(captured, spark_schema(schema))
