"""`headrace quarantine`: rows that broke a rule, with their reasons."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import islice
from typing import Any

from headrace.cli.output import print_json, print_table, say
from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError
from headrace.grain import Grain
from headrace.project.connections import lake_of
from headrace.schema import PARTITION_COLUMN

_COLUMNS = (PARTITION_COLUMN, "_source_object", "_source_position", "_reasons")
_CORRUPT = "_corrupt_record"


@dataclass(frozen=True)
class QuarantinedRow:
    """One quarantined row.

    Attributes:
        entity: Its entity, as source.entity.
        partition: First day of its partition.
        file: `_source_object`: a path in the landing zone, a table or a topic partition.
        line: `_source_position`: the line of a file (1 is the header), a row number, LSN or offset.
        reasons: All reasons, separated by '; '.
        row: Its columns as captured; `_corrupt_record` alone for a record without columns.
        grain: Grain of the partition.
    """

    entity: str
    partition: date
    file: str
    line: int
    reasons: str
    row: dict[str, str | None]
    grain: str = "day"


def read_quarantine(
    entity: str | None, start: date | None, end: date | None, limit: int
) -> list[QuarantinedRow]:
    """The first `limit` quarantined rows by entity, in the order of the configuration, and day.

    Args:
        entity: source.entity, or all of them.
        start: First day; None: from the first.
        end: Last day, included; None: to the last.
        limit: Largest number of rows, over all entities; bounds memory.

    Returns:
        Rows by entity, day, file and line.

    Raises:
        ConfigError: The entity does not exist.
    """
    project = load_project()
    known = list(project.entities())
    if entity is not None and entity not in known:
        raise ConfigError(f"'{entity}' is not an entity", fix=f"use one of {', '.join(known)}")
    chosen = known if entity is None else [entity]
    found = islice(_rows(project, chosen, start or date.min, end or date.max), limit)
    return sorted(found, key=lambda row: (known.index(row.entity), row.partition, row.line))


def print_quarantine(found: Sequence[QuarantinedRow], *, as_json: bool) -> None:
    """Print where each row is and why it was quarantined; its values only as JSON."""
    if as_json:
        print_json([asdict(row) for row in found])
        return
    if not found:
        say("no quarantined rows")
        return
    columns = ("entity", "partition", "file", "line", "because")
    rows = [(r.entity, Grain(r.grain).label(r.partition), r.file, r.line, r.reasons) for r in found]
    print_table(columns, rows)


def _rows(
    project: Project, entities: Sequence[str], start: date, end: date
) -> Iterator[QuarantinedRow]:
    lake = lake_of(project)
    for entity in entities:
        table = lake.table("quarantine", entity.replace(".", "_"))
        if not table.exists():
            continue
        scan, grain = table.scan(), project.entities()[entity][1].grain
        days = [day for day in scan.days if grain.start_of(start) <= day <= end]
        # The columns that are configured now; older rows may lack some.
        columns = [c.name for c in project.entities()[entity][1].columns]
        names = [name for name in columns if name in scan.schema.names]
        for batch in scan.batches(days, [*_COLUMNS, *names, _CORRUPT]):
            for found in batch.to_pylist():
                yield _quarantined(entity, grain, names, found)


def _quarantined(
    entity: str, grain: Grain, names: Sequence[str], found: dict[str, Any]
) -> QuarantinedRow:
    day, file, line, reasons = (found[name] for name in _COLUMNS)
    shown = [_CORRUPT] if found[_CORRUPT] is not None else names
    row = {name: found[name] for name in shown}
    return QuarantinedRow(entity, day, file, line, reasons, row, grain)
