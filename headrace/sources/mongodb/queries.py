"""Filters and projections that select documents, from what is declared of an entity."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from bson.objectid import ObjectId

from headrace.config.sources.mongodb_source import CollectionEntity
from headrace.config.sources.table_source import CursorExtract
from headrace.sources.documents.json_paths import list_path
from headrace.sources.documents.rows import column_path
from headrace.sources.tables.database import Days, Position, Selection

# What Python holds; later and earlier dates are no day of a partition.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)

Filter = Mapping[str, Any]


def filter_of(entity: CollectionEntity, selection: Selection) -> Filter:
    """The documents of a selection."""
    conditions: list[Filter] = []
    extract = entity.extract
    if selection.since is not None and isinstance(extract, CursorExtract):
        conditions.append(_since(entity, extract.cursor, selection.since))
    if selection.days is not None:
        conditions.append(_within(entity, selection.days, with_undated=selection.with_undated))
    return {"$and": conditions} if len(conditions) > 1 else (conditions or [{}])[0]


def projection_of(entity: CollectionEntity, columns: Sequence[str]) -> Mapping[str, int] | None:
    """The fields that some columns need, by their first names; None: whole documents."""
    fields: set[str] = {"_id"}
    if entity.extract.children is not None:
        prefix = list_path(entity.extract.children).prefix
        fields.add(str(prefix[0]) if prefix else "")
    for name in columns:
        for source_name in entity.column(name).source_names:
            path = column_path(source_name)
            is_of_document = path.root == "$" or entity.extract.children is None
            if path.root != "{" and is_of_document:
                fields.add(str(path.steps[0]) if path.steps else "")
    # A dot or a dollar would mean a path, or an operator.
    is_plain = all(field and "." not in field and not field.startswith("$") for field in fields)
    return dict.fromkeys(sorted(fields), 1) if is_plain else None


def field_of(entity: CollectionEntity, column: str) -> str:
    """The path of a column in MongoDB's notation."""
    path = column_path(entity.column(column).source_name)
    return ".".join(map(str, path.steps))


def _since(entity: CollectionEntity, cursor: str, since: Position) -> Filter:
    """Documents whose cursor is at or after a position, or is no such value at all.

    `$not` with `$lt` is true of values of other types and where there is none; an index serves it.
    """
    bound: Any = since
    if isinstance(since, datetime):
        bound = since
        if entity.captured_type(entity.column(cursor)) == "string":
            bound = first_id(since)
    return {field_of(entity, cursor): {"$not": {"$lt": bound}}}


def first_id(at: datetime) -> ObjectId:
    """The least ObjectId of a second."""
    seconds = min(max(int(at.timestamp()), 0), 2**32 - 1)
    return ObjectId(seconds.to_bytes(4, "big") + bytes(8))


def _within(entity: CollectionEntity, days: Sequence[Days], *, with_undated: bool) -> Filter:
    name = str(entity.extract.partition_by)
    field = field_of(entity, name)
    zone = zone_of(entity, name)
    ranges: list[Filter] = [
        {field: {"$gte": _midnight(start, zone), "$lt": _midnight(end, zone)}}
        for start, end in days
    ]
    if with_undated:
        ranges.append({field: {"$not": {"$gte": _FIRST, "$lt": _LAST}}})
    return ranges[0] if len(ranges) == 1 else {"$or": ranges or [{"_id": {"$in": []}}]}


def zone_of(entity: CollectionEntity, column: str) -> ZoneInfo:
    """The zone in which a BSON date of a column has its day: raw knows dates as UTC."""
    is_instant = entity.captured_type(entity.column(column)) == "timestamptz"
    return ZoneInfo((entity.timezone if is_instant else None) or "UTC")


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
