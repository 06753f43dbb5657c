"""Which of the declared columns a file has, by its header.

Belongs here: columns that a file may lack, and columns that the source renamed.
Elsewhere: the header itself, and what it may not lack (headrace.ingestion.csv_header).
"""

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from headrace.config.columns import ColumnConfig
from headrace.config.sources import EntityConfig
from headrace.errors import SourceRejectedError
from headrace.ingestion.csv_header import plain


def entity_of_file(
    entity: EntityConfig, names: Sequence[str], day: date | None, path: str
) -> EntityConfig:
    """The entity as one file has it: without columns that it lacks, each by its name in this file.

    A column that the file must not lack stays.

    Args:
        entity: As declared.
        names: The fields of the file's header, `plain` ones.
        day: Day of all rows of the file; None if each row says its own.
        path: The file's name, for errors.

    Raises:
        SourceRejectedError: The file has a column by several of its names, or by none of them.
    """
    if not any(column.may_be_absent or len(column.source_names) > 1 for column in entity.columns):
        return entity
    found = [_named(column, {*names}, day, path) for column in entity.columns]
    return entity.model_copy(update={"columns": tuple(filter(None, found))})


def with_absent_columns(read: pa.RecordBatch, entity: EntityConfig) -> pa.RecordBatch:
    """The rows with all declared columns in their order; one that the file lacked is NULL."""
    declared = [column.name for column in entity.columns]
    known = dict(zip(read.schema.names, read.columns, strict=True))
    if all(name in known for name in declared):
        return read
    nothing = pa.nulls(len(read), pa.string())
    others = [name for name in known if name not in declared]
    columns = {name: known.get(name, nothing) for name in (*declared, *others)}
    return pa.RecordBatch.from_pydict(columns)


def _named(
    column: ColumnConfig, names: set[str], day: date | None, path: str
) -> ColumnConfig | None:
    known = [plain(name) for name in column.source_names]
    there = [name for name in known if name in names]
    if len(there) > 1:
        raise SourceRejectedError(
            f"{path}: the header has {' and '.join(there)}, both of which are '{column.name}'",
            fix="take one of them from its `from`, and declare it as a column of its own",
        )
    if there:
        return column.model_copy(update={"source": there[0]})
    if column.may_lack(day):
        return None
    if len(known) > 1:
        raise SourceRejectedError(
            f"{path}: the header has none of {', '.join(known)}, the names of '{column.name}'",
            fix="add the name that the file uses to its `from`",
        )
    return column
