"""pandera schemas made from the columns that YAML declares, and the guard that uses them.

Belongs here: the second opinion on a published frame, by a library that knows nothing of ours.
Elsewhere: row rules on every row (headrace.quality.rules), counts (headrace.quality.partitions).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from headrace.errors import IncompatibleSchemaError
from headrace.schema import TableSchema, arrow_type

if TYPE_CHECKING:
    import pandera.pandas as pandera

SAMPLE_ROWS = 1_000


def frame_schema(
    name: str, schema: TableSchema, key: Sequence[str] = ()
) -> "pandera.DataFrameSchema":
    """A table's columns as pandera sees them: exact types, order, NULLs, unique key.

    Args:
        name: The table, for messages and the UI.
        schema: Its columns.
        key: Columns that identify a row among those validated together.
    """
    # Imports that a command which publishes nothing should not wait for.
    import pandas as pd  # noqa: PLC0415, TID251  # pandera's frames are pandas'

    from headrace.quality.lean_pandera import pandera  # noqa: PLC0415

    columns = {
        column.name: pandera.Column(
            pd.ArrowDtype(arrow_type(column.type)),
            nullable=column.nullable,
            description=column.description or None,
        )
        for column in schema
    }
    return pandera.DataFrameSchema(
        columns, name=name, strict=True, ordered=True, unique=list(key) or None
    )


def guard(frame: "pandera.DataFrameSchema", sample: pa.Table) -> None:
    """Validate staged rows before anybody can see them.

    Raises:
        IncompatibleSchemaError: They are not what the configuration declares; names column and
            check, never a value.
    """
    import pandas as pd  # noqa: PLC0415, TID251
    from pandera.errors import SchemaError, SchemaErrors  # noqa: PLC0415

    rows = sample.slice(0, SAMPLE_ROWS).to_pandas(types_mapper=pd.ArrowDtype)
    try:
        frame.validate(rows, lazy=True)
    except (SchemaErrors, SchemaError) as error:
        raise IncompatibleSchemaError(
            f"{frame.name}: staged rows break the declared schema: {_broken(error)}",
            fix="compare the entity's columns in config/ with what its transform returns",
        ) from None


def _broken(error: Exception) -> str:
    cases = getattr(error, "failure_cases", None)
    if cases is None or not hasattr(cases, "columns"):
        return type(error).__name__
    pairs = {(str(row.column), str(row.check)) for row in cases.itertuples()}
    return "; ".join(f"{column}: {check}" for column, check in sorted(pairs))
