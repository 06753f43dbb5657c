"""Planning: which files of a snapshot hold the rows that are asked for.

Belongs here: choosing files by day and by their statistics, from the table's metadata alone.
Elsewhere: reading them (headrace.lake.scan), replacing them (headrace.lake.publication).
"""

from collections.abc import Mapping
from datetime import date
from itertools import chain

from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    GreaterThanOrEqual,
    LessThanOrEqual,
)
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import ManifestGroupPlanner, Table

from headrace.errors import IncompatibleSchemaError
from headrace.lake.files import day_of
from headrace.lake.schema import partition_column
from headrace.staged import StagedFile

EVERYTHING: BooleanExpression = AlwaysTrue()


def planned_files(
    table: Table, days: frozenset[date] | None, where: BooleanExpression = EVERYTHING
) -> list[DataFile]:
    """The files of the current snapshot that hold rows of `days`, or all of them.

    Files that by their statistics have no row of `where` are left out.

    Raises:
        IncompatibleSchemaError: Another program marked single rows as deleted, which reading the
            files themselves would bring back.
    """
    snapshot = table.current_snapshot()
    if snapshot is None or (days is not None and not days):
        return []
    wanted = And(_between(table, days), where)
    # A scan's own plan also says what is left to filter in each file: 5 ms a file, for nothing.
    planner = ManifestGroupPlanner(table.metadata, table.io, wanted)
    entries = planner.plan_manifest_entries(snapshot.manifests(table.io))
    files = [entry.data_file for entry in chain.from_iterable(entries)]
    if any(file.content != DataFileContent.DATA for file in files):
        _refuse_deletes(table, wanted, days)
        files = [file for file in files if file.content == DataFileContent.DATA]
    return [file for file in files if days is None or partition_day(file) in days]


def _refuse_deletes(table: Table, wanted: BooleanExpression, days: frozenset[date] | None) -> None:
    """Rows deleted before a file was written are no matter: PyIceberg knows which those are."""
    for task in table.scan(row_filter=wanted).plan_files():
        if task.delete_files and (days is None or partition_day(task.file) in days):
            raise IncompatibleSchemaError(
                f"{'.'.join(table.name())}: {task.file.file_path} has rows deleted by reference",
                fix="rewrite the table's data files with the program that deleted the rows",
            )


def _between(table: Table, days: frozenset[date] | None) -> BooleanExpression:
    # The outer bounds suffice to skip manifests, and cost the same for 2 days as for 366; the
    # caller then picks exactly.
    column = partition_column(table)
    if days is None or column is None:
        return AlwaysTrue()
    return And(
        GreaterThanOrEqual(term=column, value=min(days).isoformat()),
        LessThanOrEqual(term=column, value=max(days).isoformat()),
    )


def partition_day(file: DataFile) -> date | None:
    """The day whose rows a file has; None in a table without partitions."""
    partition = file.partition
    return day_of(partition[0]) if len(partition) else None


def staged_file(file: DataFile, names: Mapping[int, str]) -> StagedFile:
    """A published file as the platform names files.

    Args:
        file: As Iceberg lists it.
        names: Columns by their number in the table.
    """
    nulls = file.null_value_counts or {}
    return StagedFile(
        path=file.file_path,
        rows=file.record_count,
        size_bytes=file.file_size_in_bytes,
        null_counts={name: nulls[number] for number, name in names.items() if number in nulls},
    )
