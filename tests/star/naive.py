"""The naive dimension: lists and dicts, one member after the other, no engine, obviously right."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.config.sources.file_source import FileEntity
from headrace.config.star.models import DimensionConfig
from headrace.engine.values.types import spark_schema
from headrace.schema import Column, TableSchema
from headrace.standardize.schemas import processed_schema
from headrace.star.scd2.change_events import BEGINNING, REFERENCE_TIME
from headrace.star.scd2.dimensions import Versions, dimension_schema

ENTITY = FileEntity.model_validate(
    {
        "name": "products",
        "extract": {"mode": "files", "path": "p-{date:%Y-%m-%d}.csv"},
        "key": ["_source_position"],
        "columns": [
            {"name": "shop", "type": "string"},
            {"name": "sku", "type": "bigint"},
            {"name": "brand", "type": "string"},
            {"name": "note", "type": "string"},
            {"name": "gone", "type": "boolean"},
            {"name": "since", "type": "timestamp"},
            {"name": "seq", "type": "int"},
            {"name": "price", "type": "int"},
        ],
    }
)
# Tells of the same products, and of no notes.
OTHER_ENTITY = ENTITY.model_copy(
    update={"columns": tuple(c for c in ENTITY.columns if c.name != "note")}
)
_MENTION = TableSchema(
    (Column("shop", "string"), Column("sku", "bigint"), Column(REFERENCE_TIME, "timestamp"))
)
_SEEN = TableSchema(
    (Column("shop", "string"), Column("sku", "bigint"), Column("_partition_date", "date"))
)
FIRST = date(2017, 1, 1)
NEVER = datetime(9999, 12, 31)
BEGIN = datetime.fromisoformat(BEGINNING)
Key = tuple[str, int]
Mention = tuple[str, int, datetime]


def at(day: float) -> datetime:
    """Midnight of a day of the tests' calendar, or later on it."""
    return datetime.combine(FIRST, datetime.min.time()) + timedelta(days=day)


@dataclass(frozen=True)
class State:
    """What one line of a day's file says of one product."""

    shop: str | None
    sku: int | None
    day: int
    brand: str | None = None
    line: int = 1
    note: str | None = None
    gone: bool | None = None
    since: datetime | None = None
    seq: int | None = None
    quarantined: bool = False
    price: int | None = None
    # Position of the entity that its file is of.
    entity: int = 0

    @property
    def order_in_day(self) -> tuple[float, int, int]:
        """What was told last on a day has the largest."""
        return (0 if self.seq is None else 1, self.seq or 0, self.line)

    @property
    def event_order(self) -> tuple[float, int, int, int]:
        """What was told last of an instant has the largest."""
        return (*self.order_in_day[:2], self.day, self.line)


@dataclass(frozen=True)
class SnapshotDays:
    """The days of snapshots, and those on which a row of one member was quarantined."""

    snapshots: set[int]
    seen: set[int]


# By instant: its raw time, what orders it, and the row.
Ordered = dict[datetime, list[tuple[datetime, tuple[float, int, int, int], State]]]


@dataclass(frozen=True)
class Version:
    """A row of the dimension, its surrogate key left out."""

    shop: str
    sku: int
    brand: str | None
    valid_from: datetime
    valid_to: datetime | None
    note: str | None = None
    price: int | None = None
    is_deleted: bool = False
    is_inferred: bool = False


def naive_dimension(
    config: DimensionConfig,
    states: Sequence[State],
    mentions: Iterable[Mention] = (),
    now: datetime = NEVER,
) -> set[Version]:
    """All versions but the unknown member; `now` is the end of the last day that was run."""
    told: dict[Key, list[State]] = {}
    seen: dict[Key | None, set[int]] = {}
    for state in states:
        if state.quarantined:
            if state.shop is not None and state.sku is not None:
                seen.setdefault((state.shop, state.sku), set()).add(state.day)
            continue
        if state.shop is not None and state.sku is not None:
            shown = state if config.attributes else replace(state, brand=None)
            told.setdefault((state.shop, state.sku), []).append(shown)
    is_delete = _is_delete(config)
    # Of rows that have times, a deleted one too says that its day has a snapshot.
    rows = [s for some in told.values() for s in some]
    snapshots = {s.day for s in rows if config.has_timed_snapshots or not is_delete(s)}
    snapshots = snapshots if config.full_snapshot else set()
    named: dict[Key, list[datetime]] = {}
    for shop, sku, moment in mentions if config.missing == "inferred" else ():
        if moment >= BEGIN:
            named.setdefault((shop, sku), []).append(moment)
    versions: set[Version] = set()
    for key in {*told, *named}:
        events = _events(config, told.get(key, []), SnapshotDays(snapshots, seen.get(key, set())))
        versions |= _versions_of(config, key, events, named.get(key, []), now)
    return versions


def _is_delete(config: DimensionConfig) -> Callable[[State], bool]:
    tells = config.deleted_when is not None
    return lambda state: tells and bool(state.gone)


def _versions_of(
    config: DimensionConfig,
    key: Key,
    events: Sequence[tuple[datetime, list[State]]],
    mentions: Sequence[datetime],
    now: datetime,
) -> set[Version]:
    found: list[Version] = []
    notes: list[tuple[datetime, str | None]] = []
    for moment, told in _with_kept_values(config, events):
        is_gone = not told or bool(told[-1].gone)
        # Of the states of one instant the last counts, though a delete may follow it.
        state = next((state for state in reversed(told) if not state.gone), None)
        shows = config.first_version == "from_beginning" or config.delete_action == "flag"
        if state is not None and (found or shows or not is_gone):
            notes.append((moment, state.note))
        if not found:
            if state is not None and (shows or not is_gone):
                found = [_first(config, key, moment, state, is_gone=is_gone)]
        elif is_gone:
            found = _deleted(config, found, moment, state)
        else:
            assert state is not None
            found = _told(config, found, moment, state)
    # Today's; of a member of whom only the future is told, the first.
    past = [note for moment, note in notes if moment < now]
    note = past[-1] if past else notes[0][1] if notes else None
    if not found:
        note = _unknown(config, "note")
    if mentions and (not found or min(mentions) < found[0].valid_from):
        ends = found[0].valid_from if found else None
        brand = _unknown(config, "brand")
        found.append(Version(*key, brand, BEGIN, ends, is_inferred=True))
    return {replace(v, note=note if config.type1 else None) for v in found}


def _with_kept_values(
    config: DimensionConfig, events: Sequence[tuple[datetime, list[State]]]
) -> Iterator[tuple[datetime, list[State]]]:
    """A NULL that says nothing is what was told before; brands begin anew after a delete."""
    brand = note = None
    for moment, rows in events:
        brand = brand if rows else None
        told = []
        for row in rows:
            if row.gone:
                brand = None
                told.append(row)
                continue
            if row.brand is not None or "brand" not in config.ignore_nulls:
                brand = row.brand
            if row.note is not None or "note" not in config.ignore_nulls:
                note = row.note
            told.append(replace(row, brand=brand, note=note))
        yield moment, told


def _unknown(config: DimensionConfig, name: str) -> str | None:
    value = config.unknown_values.get(name)
    return None if value is None else str(value)


def _first(
    config: DimensionConfig, key: Key, moment: datetime, state: State, *, is_gone: bool
) -> Version:
    start = BEGIN if config.first_version == "from_beginning" else moment
    price = _price(config, state)
    if is_gone and config.delete_action == "close":
        return Version(*key, state.brand, start, moment, price=price)
    return Version(*key, state.brand, start, None, price=price, is_deleted=is_gone)


def _price(config: DimensionConfig, state: State) -> int | None:
    """The untracked column: a version keeps what it began with."""
    return state.price if config.untracked else None


def _deleted(
    config: DimensionConfig, found: list[Version], moment: datetime, state: State | None
) -> list[Version]:
    """What a delete leaves; `state` is what was told at its instant before it."""
    last = found[-1]
    if last.is_deleted or last.valid_to is not None:
        return found
    ended = [*found[:-1], replace(last, valid_to=moment)]
    if config.delete_action == "flag":
        brand = last.brand if state is None else state.brand
        price = last.price if state is None else _price(config, state)
        gone = replace(last, brand=brand, price=price, valid_from=moment, is_deleted=True)
        ended.append(gone)
    return ended


def _told(
    config: DimensionConfig, found: list[Version], moment: datetime, state: State
) -> list[Version]:
    last = found[-1]
    price = _price(config, state)
    version = Version(last.shop, last.sku, state.brand, moment, None, price=price)
    if last.valid_to is not None:
        return [*found, version]
    if last.brand == state.brand and not last.is_deleted:
        return found
    return [*found[:-1], replace(last, valid_to=moment), version]


def _events(
    config: DimensionConfig, states: Sequence[State], days: SnapshotDays
) -> list[tuple[datetime, list[State]]]:
    """What was told of each instant, in time; nothing is a snapshot without the member."""
    rows = [s for s in states if not (s.gone and config.delete_action == "keep")]
    if config.deleted_when is None:
        rows = [replace(s, gone=None) for s in states]
    if config.has_timed_snapshots:
        return _timed_events(config, rows, days)
    ordered: Ordered = {}
    for state in rows:
        raw = _instant(config, state, rows)
        moment = max(raw, BEGIN + timedelta(microseconds=1) if state.gone else BEGIN)
        order = state.event_order if config.tie_breakers else (0, 0, state.day, state.line)
        # A number says which came last, a time only when.
        raw = moment if config.sequence else raw
        ordered.setdefault(moment, []).append((raw, order, state))
    if config.sequence:
        ordered = _without_outdated(ordered)
    events = {
        moment: [row for *_, row in sorted(told, key=lambda one: (one[0], one[2].entity, one[1]))]
        for moment, told in ordered.items()
    }
    if rows and config.delete_action != "keep":
        first = min((state.day for state in rows if not state.gone), default=0)
        told = {state.day for state in rows} | days.seen
        absent = {day for day in days.snapshots if day > first} - told
        events |= {at(day): [] for day in absent}
    return sorted(events.items(), key=lambda event: event[0])


def _timed_events(
    config: DimensionConfig, rows: Sequence[State], days: SnapshotDays
) -> list[tuple[datetime, list[State]]]:
    """What each snapshot said of the times of its rows, and which members each one lacked.

    A snapshot overrules what earlier ones said of the times after its row's.
    """
    first = min((row.day for row in rows if not row.gone), default=None)
    lacked: datetime | None = None
    again: datetime | None = None
    told: list[tuple[datetime, tuple[Any, ...], State]] = []
    for day in sorted(days.snapshots):
        if config.delete_action != "keep" and first is not None and day > first:
            if day not in {row.day for row in rows} | days.seen:
                gone = State("", 0, day, gone=True)
                lacked, again = at(day), None
                told.append((at(day), (day, BEGIN, gone.event_order), gone))
                continue
            again = again or at(day)
        for row in rows:
            if row.day == day:
                raw = _instant(config, row, rows)
                moment = max(raw, BEGIN + timedelta(microseconds=1) if row.gone else BEGIN)
                if lacked is not None and again is not None and moment < lacked:
                    moment = again
                order = row.event_order if config.tie_breakers else (0, 0, row.day, row.line)
                told.append((moment, (day, raw, order), row))
    kept = [
        (moment, order, row)
        for moment, order, row in told
        if not any(m < moment and o[0] > order[0] for m, o, _ in told)
    ]
    events: dict[datetime, list[State]] = {}
    for moment, _, row in sorted(kept, key=lambda one: one[:2]):
        events.setdefault(moment, []).append(row)
    return sorted(events.items())


def _without_outdated(ordered: Ordered) -> Ordered:
    """What was told without rows that come after one with a larger number."""
    largest: tuple[float, int] | None = None
    kept: Ordered = {}
    for moment in sorted(ordered):
        numbers = [order[:2] for _, order, _ in ordered[moment]]
        kept[moment] = [one for one in ordered[moment] if not largest or one[1][:2] >= largest]
        largest = max([*numbers, *([largest] if largest else [])])
    return {moment: told for moment, told in kept.items() if told}


def _instant(config: DimensionConfig, state: State, rows: Sequence[State]) -> datetime:
    """When a row holds from: its own time, or midnight, but not before what its day told first."""
    midnight = at(state.day)
    if not config.effective_time:
        return midnight
    if state.since:
        return state.since

    def order(one: State) -> tuple[float, int, int]:
        return one.order_in_day if config.tie_breakers else (0, 0, one.line)

    file = [one for one in rows if (one.day, one.entity) == (state.day, state.entity)]
    before = (one.since for one in file if order(one) < order(state))
    return max([midnight, *filter(None, before)])


def quarantined_keys(spark: SparkSession, states: Sequence[State]) -> DataFrame:
    """The natural keys of quarantined lines."""
    lines = [state for state in states if state.quarantined]
    columns = {
        "shop": [state.shop for state in lines],
        "sku": [state.sku for state in lines],
        "_partition_date": [FIRST + timedelta(days=state.day) for state in lines],
    }
    return frame(spark, pa.table(columns, schema=_SEEN.arrow()), _SEEN)


def processed(
    spark: SparkSession, states: Sequence[State], entity: EntityConfig = ENTITY
) -> DataFrame:
    """The good lines as processed rows of their days."""
    states = [state for state in states if not state.quarantined]
    stamp = datetime(2017, 6, 1, tzinfo=UTC)
    schema = processed_schema(entity)
    columns = {
        **{n: [getattr(s, n) for s in states] for n in (c.name for c in entity.columns)},
        "_captured_at": [stamp] * len(states),
        "_delivery_order": ["20170601T000000000000 file"] * len(states),
        "_source_object": ["file"] * len(states),
        "_operation": [None] * len(states),
        "_source_position": [s.line for s in states],
        "_processed_at": [stamp] * len(states),
        "_run_id": ["run"] * len(states),
        "_code_version": ["code"] * len(states),
        "_partition_date": [FIRST + timedelta(days=s.day) for s in states],
    }
    return frame(spark, pa.table(columns, schema=schema.arrow()), schema)


def mentioned(spark: SparkSession, mentions: Sequence[Mention]) -> DataFrame:
    """Mentions as facts give them."""
    rows = [dict(zip(_MENTION.names, mention, strict=True)) for mention in mentions]
    return frame(spark, pa.Table.from_pylist(rows, _MENTION.arrow()), _MENTION)


def frame(spark: SparkSession, table: pa.Table, schema: TableSchema) -> DataFrame:
    """An Arrow table as a frame, also when it is empty."""
    if not table.num_rows:
        return spark.createDataFrame([], spark_schema(schema))
    # Without the schema, times without a zone would become times with one.
    return spark.createDataFrame(table, spark_schema(schema))


def published_rows(versions: Versions, config: DimensionConfig, entity: EntityConfig) -> DataFrame:
    """All versions in the columns of the published dimension."""
    names = dimension_schema(config, entity).names
    return versions.latest.select(*names).unionByName(versions.history.select(*names))
