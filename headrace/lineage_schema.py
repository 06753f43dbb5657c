"""Lineage columns of raw, processed and quarantine tables: where and when a row was read."""

from headrace.schema import Column, TableSchema

SOURCE_OBJECT = "_source_object"
POSITION = "_source_position"
OPERATION = "_operation"
DELIVERY_ORDER = "_delivery_order"
CAPTURED_AT = "_captured_at"

# In OPERATION: the row of this key is no more; its other columns are as they were before.
DELETE = "delete"

# Where a row was read. An entity may add them to its key, if its source repeats the key.
PLACE = (SOURCE_OBJECT, POSITION)
# The order of rows with one key: by delivery, whichever run captured it; within a file, by line.
SOURCE_ORDER = (DELIVERY_ORDER, *PLACE)

LINEAGE = TableSchema(
    (
        Column(CAPTURED_AT, "timestamptz", False, "When the source was read."),
        Column(DELIVERY_ORDER, "string", True, "Orders deliveries: time of the file, then path."),
        Column(SOURCE_OBJECT, "string", True, "File, table or topic partition."),
        Column(POSITION, "bigint", True, "Line, row, offset or LSN in it."),
        Column(
            OPERATION,
            "string",
            True,
            "insert, update or delete of a change feed; NULL: a row as it was found.",
        ),
    )
)
