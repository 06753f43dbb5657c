"""How a table is captured: mode, cursor and partition, by catalog, sample and names of columns."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace.assess.name_words import (
    is_identifier,
    is_insert,
    is_rate,
    is_state,
    is_time,
    is_update,
)
from headrace.assess.profile import EntityProfile, Sample
from headrace.assess.sample_source import Catalog, FoundEntity
from headrace.config.entities.columns import TIMES

# A table of so few rows is read whole at each run, which also finds deleted rows.
_FEW_ROWS = 100_000
_OVERLAP, _OVERLAP_IDS = "1h", 1000
_NUMBERS = ("int", "bigint", "double", "decimal")
_ENOUGH_ROWS = 50


@dataclass(frozen=True)
class ProfiledTable:
    """A sampled table, with what was proposed for it before.

    Attributes:
        found: The table as its database has it.
        profile: Its sampled rows.
        key: Columns of its natural key.
        columns: Options of each column as YAML has them, `type` among them.
    """

    found: FoundEntity
    profile: EntityProfile
    key: tuple[str, ...]
    columns: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class CaptureMode:
    """How a table is captured.

    Attributes:
        mode: `full`, `full_snapshot`, `watermark` or `increasing_id`.
        evidence: Why, one sentence each.
        cursor: Of the modes that have one.
        overlap: Where the default will not do.
        partition_by: Column that says a row's day.
        partition_evidence: Why.
        doubts: What somebody has to decide.
    """

    mode: str
    evidence: tuple[str, ...]
    cursor: str | None = None
    overlap: str | int | None = None
    partition_by: str | None = None
    partition_evidence: str = ""
    doubts: tuple[str, ...] = ()

    def as_extract(self) -> dict[str, str | int]:
        """What `extract` has of it, but for `partition_by`."""
        found = {"mode": self.mode, "cursor": self.cursor, "overlap": self.overlap}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class _Cursor:
    """A time that changes set, and what speaks for it."""

    column: str
    evidence: tuple[str, ...]
    doubt: str = ""


def capture_mode(table: ProfiledTable, sample: Sample) -> CaptureMode:
    """How a table is captured, by its key and columns."""
    catalog = table.found.catalog or Catalog()
    rows = _rows_of(table, catalog)
    event_time = _event_time(table, catalog)
    cursor = _update_time(table, sample, catalog)
    has_key = bool(table.key) and not any(name.startswith("_") for name in table.key)
    found = None
    if cursor and has_key and (event_time or rows > _FEW_ROWS):
        found = _by_watermark(cursor, event_time, catalog)
    elif event_time and has_key and _is_numbered(table, catalog):
        found = _by_id(table.key[0], catalog)
    if found is None:
        found = _in_full(rows, event_time, catalog)
    if event_time:
        why = "it is in each row" if not is_insert(event_time) else "a row's first time"
        found = replace(found, partition_by=event_time, partition_evidence=f"{why}, and stays")
    return _with_overlap(found, catalog, table)


def _rows_of(table: ProfiledTable, catalog: Catalog) -> int:
    return max(catalog.rows or 0, table.profile.rows)


def _by_watermark(cursor: _Cursor, event_time: str | None, catalog: Catalog) -> CaptureMode:
    evidence = [f"{cursor.column} says when a row changed: {'; '.join(cursor.evidence)}"]
    if cursor.column not in catalog.indexed:
        evidence.append("no index begins with it, so each capture reads the whole table")
    if not event_time:
        evidence.append("each change is a row of the day of its change; deletes are not seen")
    doubts = (cursor.doubt,) if cursor.doubt else ()
    return CaptureMode("watermark", tuple(evidence), cursor.column, doubts=doubts)


def _by_id(column: str, catalog: Catalog) -> CaptureMode:
    evidence = [f"a sequence numbers {column}, and no column says when a row changed"]
    doubts = []
    if catalog.is_appended:
        evidence.append("the server has counted inserts, and neither updates nor deletes")
    else:
        doubts.append("rows that change or are deleted are not seen: if there are any, mode: full")
    return CaptureMode("increasing_id", tuple(evidence), column, doubts=tuple(doubts))


def _in_full(rows: int, event_time: str | None, catalog: Catalog) -> CaptureMode:
    if event_time:
        why = "no column says when a row changed: a run reads all rows of its days again"
        return CaptureMode("full", (why,))
    if rows <= _FEW_ROWS:
        why = f"{rows:,} rows, which are read at each run"
        if not catalog.key:
            return CaptureMode("full", (why,))
        return CaptureMode("full_snapshot", (f"{why}: a key that is missing was deleted",))
    why = "no column says when a row changed, and none says a row's day"
    doubt = f"about {rows:,} rows are read at each run: is there a time that changes set?"
    return CaptureMode("full", (why,), doubts=(doubt,))


def _with_overlap(found: CaptureMode, catalog: Catalog, table: ProfiledTable) -> CaptureMode:
    """The mode with what local times, and transactions that the user does not see, need."""
    doubts = [*found.doubts]
    if found.cursor and table.columns[found.cursor]["type"] == "timestamp":
        doubts.append(f"{found.cursor} has no zone: declare timezone if its times are not UTC")
    if found.cursor and catalog.least_overlap:
        doubts.append(
            f"overlap: {catalog.least_overlap} must be longer than any write takes to be seen: "
            "clocks of clients, transactions, the lag of a replica"
        )
        return replace(found, overlap=catalog.least_overlap, doubts=tuple(doubts))
    if not (found.cursor and catalog.blind_spot):
        return replace(found, doubts=tuple(doubts))
    is_time = found.mode == "watermark"
    what = "longer than" if is_time else "more ids than are given out during"
    doubts.append(
        f"overlap must be {what} any transaction that writes the table, since the user does not "
        f"see those of others; or {catalog.blind_spot}, and drop overlap"
    )
    return replace(found, overlap=_OVERLAP if is_time else _OVERLAP_IDS, doubts=tuple(doubts))


def _event_time(table: ProfiledTable, catalog: Catalog) -> str | None:
    """The time of what a row tells; None of a table of things, such as customers."""
    if catalog.is_referenced and not catalog.references:
        return None
    profiles = table.profile.columns
    measures = [
        name
        for name, column in table.columns.items()
        if column["type"].partition("(")[0] in _NUMBERS
        and not is_identifier(name)
        and not is_rate(name)
    ]
    times = [
        name
        for name, column in table.columns.items()
        if _is_time_there(table, name)
        and profiles[name].given == profiles[name].rows > 0
        and not is_update(name)
        and not column.get("optional")
    ]
    events = [name for name in times if not is_state(name)]
    if not events and catalog.references:
        events = [name for name in times if is_insert(name)]
    if not events or not (measures or catalog.references):
        return None
    return max(events, key=lambda n: (table.columns[n]["type"] != "date", is_time(n)))


def _update_time(table: ProfiledTable, sample: Sample, catalog: Catalog) -> _Cursor | None:
    """The time that each change sets, if something speaks for it that it does."""
    found = []
    for name in table.columns:
        if _is_time_there(table, name) and is_update(name):
            cursor = _maintained(name, table, sample, catalog)
            found += [cursor] if cursor else []
    return min(found, key=lambda cursor: bool(cursor.doubt)) if found else None


def _maintained(
    name: str, table: ProfiledTable, sample: Sample, catalog: Catalog
) -> _Cursor | None:
    if catalog.filled.get(name) == "update":
        return _Cursor(name, ("the database sets it at each update",))
    evidence = []
    profile = table.profile.columns[name]
    inserts = [n for n in table.columns if is_insert(n) and _is_time_there(table, n)]
    if inserts:
        share = sample.share_later(name, inserts[0])
        if share:
            evidence.append(f"later than {inserts[0]} in {share:.0%} of the rows")
        elif profile.rows >= _ENOUGH_ROWS:
            return None  # Nothing ever sets it after the insert.
    if name in catalog.indexed:
        evidence.append("an index begins with it")
    if catalog.filled.get(name) == "insert":
        evidence.append("an insert sets it by default")
    if not evidence or not profile.given:
        return None
    doubt = f"nothing in the database sets {name} at an update: each program that writes must"
    return _Cursor(name, tuple(evidence), doubt)


def _is_numbered(table: ProfiledTable, catalog: Catalog) -> bool:
    """Whether the key is an integer that a sequence fills, of a table that may be only added to."""
    if len(table.key) != 1 or catalog.is_appended is False:
        return False
    column = table.columns[table.key[0]]
    return catalog.filled.get(table.key[0]) == "sequence" and column["type"] in ("int", "bigint")


def _is_time_there(table: ProfiledTable, name: str) -> bool:
    """Whether a column is a time in the database, too: rows can be selected by it."""
    return any(f.name == name and f.type in TIMES for f in table.found.fields)
