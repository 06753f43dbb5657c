"""Schemas of processed and quarantine tables: declared columns, then lineage and audit columns."""

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.lineage_schema import LINEAGE
from headrace.schema import PARTITION_COLUMN, TableSchema
from headrace.schema import Column as SchemaColumn

_AUDIT = (
    SchemaColumn("_processed_at", "timestamptz", False, "When the run that wrote the row began."),
    SchemaColumn("_run_id", "string", False, "Run that wrote the row."),
    SchemaColumn("_code_version", "string", False, "Version of code and rules that wrote it."),
    SchemaColumn(PARTITION_COLUMN, "date", False, "Day of the row."),
)


@dataclass(frozen=True)
class RunStamp:
    """The run, as recorded in audit columns: its id, code version and start (ISO, UTC)."""

    run_id: str
    code_version: str
    started_at: str


def processed_schema(entity: EntityConfig) -> TableSchema:
    """The entity's columns, then lineage and audit columns."""
    return entity.declared_schema().plus((*LINEAGE, *_AUDIT))


def quarantine_schema(entity: EntityConfig) -> TableSchema:
    """The reasons, the captured text of every column, then lineage and audit columns."""
    text = (SchemaColumn(c.name, "string", True, c.description) for c in entity.columns)
    return TableSchema(
        (
            SchemaColumn(
                "_reasons", "string", False, "Every rule that the row breaks, separated by '; '."
            ),
            *text,
            SchemaColumn("_corrupt_record", "string", True, "The line, if it does not parse."),
            *LINEAGE,
            *_AUDIT,
        )
    )


def lineage_columns() -> list[Column]:
    """The lineage columns of a captured row."""
    return [F.col(column.name) for column in LINEAGE]


def audit_columns(stamp: RunStamp) -> list[Column]:
    """The audit columns of a row that the run writes."""
    return [
        F.lit(stamp.started_at).cast("timestamp").alias("_processed_at"),
        F.lit(stamp.run_id).alias("_run_id"),
        F.lit(stamp.code_version).alias("_code_version"),
        F.col(PARTITION_COLUMN),
    ]
