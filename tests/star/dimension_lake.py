"""What is published of a dimension, followed from run to run, beside its naive answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.config.star.dimension_entities import united_entity
from headrace.config.star.models import DimensionConfig
from headrace.pipeline.curated.rekeying import changed_intervals
from headrace.star.scd2.dimensions import (
    UNKNOWN_KEY,
    DimensionInputs,
    Versions,
    build_dimension,
    lake_dimension_schema,
)
from headrace.star.scd2.entity_union import union_of_entities
from headrace.star.scd2.incremental import update_dimension
from headrace.star.scd2.late_changes import DimensionChanges, TimeLimits
from tests.star.naive import (
    BEGIN,
    ENTITY,
    NEVER,
    OTHER_ENTITY,
    Mention,
    State,
    Version,
    at,
    frame,
    mentioned,
    naive_dimension,
    processed,
    quarantined_keys,
)

T = TypeVar("T")
BASE: Mapping[str, Any] = {
    "name": "dim_product",
    "entity": "shop.products",
    "natural_key": {"shop": "shop", "sku": "sku"},
    "attributes": {"brand": "brand"},
    "unknown": {"brand": "Nobody's"},
}
GONE = "gone"
_TIMED: Mapping[str, Any] = {"full_snapshot": True, "effective_time": "since"}
_TWO: Mapping[str, Any] = {
    "further_entities": ["crm.products"],
    "type1": {"note": "note"},
    "ignore_nulls": ["note"],
}
_DIFFERENCES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "close": {"deleted_when": GONE, "effective_time": "since", "source_order": ["seq"]},
    "close_at_effective_time": {
        "deleted_when": GONE,
        "effective_time": "since",
        "first_version": "at_effective_time",
        "type1": {"note": "note"},
    },
    "flag": {
        "deleted_when": GONE,
        "on_delete": "flag",
        "type1": {"note": "note"},
        "first_version": "at_effective_time",
    },
    "partial": {
        "deleted_when": GONE,
        "type1": {"note": "note"},
        "untracked": {"price": "price"},
        "ignore_nulls": ["brand", "note"],
        "effective_time": "since",
    },
    "sequence": {
        "deleted_when": GONE,
        "sequence": "seq",
        "effective_time": "since",
        "type1": {"note": "note"},
    },
    "partial_flag": {
        "deleted_when": GONE,
        "on_delete": "flag",
        "untracked": {"price": "price"},
        "ignore_nulls": ["brand"],
    },
    "keep": {"deleted_when": GONE, "on_delete": "keep", "missing": "unknown"},
    "without_attributes": {
        "attributes": {},
        "unknown": {},
        "effective_time": "since",
        "first_version": "at_effective_time",
    },
    "snapshot": {"full_snapshot": True, "deleted_when": GONE, "type1": {"note": "note"}},
    "snapshot_flag": {
        "full_snapshot": True,
        "on_delete": "flag",
        "first_version": "at_effective_time",
        "unknown": False,
    },
    "snapshot_partial": {
        "full_snapshot": True,
        "deleted_when": GONE,
        "type1": {"note": "note"},
        "ignore_nulls": ["brand", "note"],
    },
    "two_entities": {
        **_TWO,
        "deleted_when": GONE,
        "effective_time": "since",
        "untracked": {"price": "price"},
    },
    "two_entities_flag": {
        **_TWO,
        "deleted_when": GONE,
        "on_delete": "flag",
        "source_order": ["seq"],
        "first_version": "at_effective_time",
    },
    "two_entities_without_attributes": {
        "further_entities": ["crm.products"],
        "attributes": {},
        "unknown": {},
        "effective_time": "since",
    },
    "timed_snapshot": {**_TIMED, "type1": {"note": "note"}, "untracked": {"price": "price"}},
    "timed_snapshot_deletes": {
        **_TIMED,
        "deleted_when": GONE,
        "source_order": ["seq"],
        "first_version": "at_effective_time",
    },
    "timed_snapshot_flag": {
        **_TIMED,
        "deleted_when": GONE,
        "on_delete": "flag",
        "type1": {"note": "note"},
        "first_version": "at_effective_time",
    },
    "timed_snapshot_keep": {**_TIMED, "on_delete": "keep"},
}
CONFIGS = {
    name: DimensionConfig.model_validate({**BASE, **more}) for name, more in _DIFFERENCES.items()
}


@dataclass
class Lake:
    """What is published: rows and mentions by day, and the dimension as last written."""

    spark: SparkSession
    config: DimensionConfig
    states: dict[int, list[State]] = field(default_factory=dict)
    mentions: dict[int, list[Mention]] = field(default_factory=dict)
    head: pa.Table | None = None
    tail: pa.Table | None = None
    late: int = 0
    # Column of the naive answer: what the dimension calls it, where it has another name.
    names: Mapping[str, str] = field(default_factory=dict)
    quarantines: bool = False
    limits: TimeLimits = field(default_factory=TimeLimits)
    now: datetime | None = None

    def run(
        self,
        states: Mapping[int, Sequence[State]] | None = None,
        mentions: Mapping[int, Sequence[Mention]] | None = None,
    ) -> None:
        """Replace some days, and let the dimension follow."""
        states, mentions = states or {}, mentions or {}
        came = _all(states.values())
        went = _all(self.states.get(day, []) for day in states)
        if self.config.has_future and states:
            self.now = max(self.now or BEGIN, at(max(states) + 1))
        self.quarantines |= any(row.quarantined for row in came)
        changes = DimensionChanges(
            added=self.processed(came),
            removed=self.processed(went),
            references_added=self.mentioned(_all(mentions.values())),
            references_removed=self.mentioned(_all(self.mentions.get(d, []) for d in mentions)),
            quarantined_added=quarantined_keys(self.spark, came) if self.quarantines else None,
            quarantined_removed=quarantined_keys(self.spark, went) if self.quarantines else None,
        )
        self.states |= {day: [*rows] for day, rows in states.items()}
        self.mentions |= {day: [*rows] for day, rows in mentions.items()}
        published = Versions(self.frame_of(self.head), self.frame_of(self.tail))
        update = update_dimension(
            published,
            changes,
            replace(self.limits, now=self.now),
            self.everything,
            self.config,
            self.entity,
        )
        if update is None:
            self.late = 0
            if self.head is None:  # Nothing is published, and nothing is told: the unknown member.
                versions = build_dimension(self.everything(), self.config, self.entity)
                self.head, self.tail = versions.latest.toArrow(), versions.history.toArrow()
            return
        self.limits = update.limits
        versions = update.versions.toArrow()
        head, tail = versions.filter(pc.field("is_latest")), versions.filter(~pc.field("is_latest"))
        if self.tail is not None and not update.replaces_history:
            tail = pa.concat_tables([self.tail, tail.cast(self.tail.schema)])
        self.head, self.tail, self.late = head, tail, update.late_members

    def everything(self) -> DimensionInputs:
        return DimensionInputs(
            self.processed(self.rows()),
            self.mentioned(_all(self.mentions.values())),
            quarantined_keys(self.spark, self.rows()) if self.quarantines else None,
            self.now,
        )

    @property
    def entity(self) -> EntityConfig:
        return united_entity(self.config, [ENTITY, OTHER_ENTITY][: len(self.config.entities)])

    def processed(self, states: Sequence[State]) -> DataFrame:
        declared = zip(self.config.entities, [ENTITY, OTHER_ENTITY], strict=False)
        frames = [
            (processed(self.spark, [s for s in states if s.entity == rank], entity), name, entity)
            for rank, (name, entity) in enumerate(declared)
        ]
        return union_of_entities(frames, self.config, self.entity)

    def mentioned(self, mentions: Sequence[Mention]) -> DataFrame:
        return mentioned(self.spark, mentions).withColumnsRenamed(dict(self.names))

    def rows(self) -> list[State]:
        return _all(self.states.values())

    def built(self) -> tuple[list[str], list[str]]:
        """What a build from nothing gives: head and tail, each sorted."""
        versions = build_dimension(self.everything(), self.config, self.entity)
        return _sorted(versions.latest.toArrow()), _sorted(versions.history.toArrow())

    def published(self) -> tuple[list[str], list[str]]:
        assert self.head is not None
        assert self.tail is not None
        return _sorted(self.head), _sorted(self.tail)

    def versions(self) -> set[Version]:
        """All published versions but the unknown member, and the surrogate keys left out."""
        assert self.head is not None
        assert self.tail is not None
        shown = {new: name for name, new in self.names.items()}
        rows = [
            {shown.get(name, name): value for name, value in row.items()}
            for row in (*self.head.to_pylist(), *self.tail.to_pylist())
        ]
        known = [row for row in rows if row["product_key"] != UNKNOWN_KEY]
        found = {version(row) for row in known}
        assert len(found) == len(known) == len({row["product_key"] for row in known})
        now = self.now or NEVER
        for row in known:
            ends = row["valid_to"] or NEVER
            assert row["is_current"] == (row["valid_from"] < now <= ends)
        last = {(v.shop, v.sku): v for v in sorted(found, key=lambda v: v.valid_from)}
        latest = [version(row) for row in known if row["is_latest"]]
        assert sorted(map(str, latest)) == sorted(map(str, last.values()))
        return found

    def naive(self) -> set[Version]:
        mentions = _all(self.mentions.values())
        return naive_dimension(self.config, self.rows(), mentions, self.now or NEVER)

    def frame_of(self, table: pa.Table | None) -> DataFrame:
        schema = lake_dimension_schema(self.config, self.entity)
        known = schema.arrow().empty_table() if table is None else table.cast(schema.arrow())
        return frame(self.spark, known, schema)


def version(row: Mapping[str, object]) -> Version:
    names = ["shop", "sku", "brand", "valid_from", "valid_to", "note", "price"]
    names += ["is_deleted", "is_inferred"]
    shown = {"brand": None, **{name: row[name] for name in names if name in row}}
    return Version(**shown)  # type: ignore[arg-type]


def _all(groups: Iterable[Sequence[T]]) -> list[T]:
    return [one for group in groups for one in group]


def _sorted(table: pa.Table) -> list[str]:
    return sorted(map(str, table.to_pylist()))


def told(day: int, brand: str | None, **more: Any) -> State:
    return State("a", 1, day, brand, **more)


def follow(spark: SparkSession, name: str, *days: Sequence[State]) -> Lake:
    """Publishes the days in this order; the naive answer and the build agree with the result."""
    lake = Lake(spark, CONFIGS[name])
    for rows in days:
        lake.run({rows[0].day: rows})
    assert lake.versions() == lake.naive()
    assert lake.published() == lake.built()
    return lake


def changes_of(lake: Lake, head: pa.Table | None, tail: pa.Table | None) -> list[tuple[Any, ...]]:
    """Intervals in which another key is valid than in an earlier state."""
    before = lake.frame_of(head).unionByName(lake.frame_of(tail))
    after = lake.frame_of(lake.head).unionByName(lake.frame_of(lake.tail))
    found = changed_intervals(before, after, lake.config).orderBy("_from").collect()
    return [tuple(row) for row in found]
