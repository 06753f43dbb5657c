"""Processed to curated: updates a dimension incrementally from the changes of its inputs.

A dimension has two sets of files: the latest version of each member, and the history, which holds
all earlier versions. A day in order reads and rewrites the latest versions and appends a file to
the history: its cost does not grow with the history. Only a late change reads the history.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import reduce
from operator import or_
from typing import Literal

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.loader import Project
from headrace.config.star.models import DimensionConfig
from headrace.engine.parquet_writer import write_split
from headrace.engine.values.types import spark_schema
from headrace.lake.changes import FileChanges
from headrace.lake.scan import LakeScan
from headrace.lake.table import LakeTable
from headrace.pipeline.curated.inferred_members import InferringFact, all_references, union
from headrace.pipeline.watermarks import as_read, changes_since_read, scan_if_published
from headrace.quality import registry
from headrace.quality.conditions import dimension_conditions, require_valid_conditions
from headrace.quality.pandera_schemas import validate_files
from headrace.quality.report import CheckResult, PartitionReport
from headrace.schema import PARTITION_COLUMN
from headrace.staged import StagedFile, StagedTable, new_token
from headrace.star.scd2.dimensions import (
    UNKNOWN_KEY,
    DimensionInputs,
    Versions,
    all_versions,
    lake_dimension_schema,
    unknown_deletes,
)
from headrace.star.scd2.entity_union import union_of_entities
from headrace.star.scd2.incremental import update_dimension
from headrace.star.scd2.late_changes import DimensionChanges, TimeLimits

log = structlog.get_logger(__name__)

# Properties of a dimension's snapshot: folder of its latest versions, code version, and so on.
_LATEST_FOLDER = "headrace.head"
_CODE = "headrace.code_version"
_LATE = "headrace.late_members"
_DELETES_UNTIL = "headrace.unknown_deletes_until"
_DELETES_SEQUENCE = "headrace.unknown_deletes_sequence"
_NOW = "headrace.now"
_NEXT_CHANGE = "headrace.next_change"
_SPLIT_COLUMN = "_is_latest"
# Each day may add a file to the history. From this number on the small files are compacted.
_HISTORY_FILES = 32
_SMALL_BYTES = 32 * 2**20
# Reported although nothing changed: Dagster's UI shows a check without a result as skipped.
_UNCHANGED = tuple(
    CheckResult(check, passed=True, expected="the published state", found="no change")
    for check in (registry.UNIQUE_SURROGATE_KEY, registry.ONE_CURRENT_VERSION)
)


@dataclass(frozen=True)
class AuditedDimension:
    """A whole dimension, staged, with the audit reports of the run's days and of stale days."""

    table: StagedTable
    reports: Mapping[date, PartitionReport]
    restated: Mapping[date, PartitionReport]
    late_members: int = 0


@dataclass(frozen=True)
class DimensionSource:
    """The processed rows of one entity that a dimension is made from.

    Attributes:
        table: The processed table.
        name: source.entity.
        entity: The entity.
    """

    table: LakeTable
    name: str
    entity: EntityConfig


def dimension_sources(
    project: Project, config: DimensionConfig, processed: Callable[[str], LakeTable]
) -> tuple[DimensionSource, ...]:
    """The entities of a dimension, in its order.

    Args:
        project: The entities.
        config: The dimension.
        processed: Returns the processed table of source.entity.
    """
    entities = project.entities()
    return tuple(
        DimensionSource(processed(name), name, entities[name][1]) for name in config.entities
    )


@dataclass(frozen=True)
class _Published:
    """The published state, and the changes of its input tables since its publication.

    Attributes:
        latest: Files of the latest versions.
        history: Files of all earlier versions.
        rows: Changes of the processed table of each source.
        references: Changes of the processed table of each inferring fact.
        quarantined: Changes of the table of quarantined keys; None without such a table.
        limits: Times that decide which members can be updated from their latest version.
        next_change: Time of the first change that lay in the future.
    """

    latest: LakeScan
    history: LakeScan
    rows: Sequence[FileChanges]
    references: Sequence[FileChanges]
    quarantined: FileChanges | None
    limits: TimeLimits
    next_change: datetime | None

    @property
    def is_up_to_date(self) -> bool:
        now = self.limits.now
        is_past = now is not None and self.next_change is not None and self.next_change < now
        return not (any(self.rows) or self.quarantined or any(self.references) or is_past)


@dataclass(frozen=True)
class _Written:
    """Files of the next state; `new` has the files that this run wrote."""

    latest: tuple[StagedFile, ...]
    latest_folder: str
    history: tuple[StagedFile, ...]
    new: tuple[StagedFile, ...]
    read: Mapping[str, str]
    limits: TimeLimits
    late_members: int = 0


def all_inputs(
    spark: SparkSession,
    dimension: tuple[DimensionConfig, EntityConfig],
    sources: Sequence[DimensionSource],
    facts: Sequence[InferringFact],
    quarantined_keys: LakeTable | None,
    now: datetime | None,
) -> DimensionInputs:
    """All published input rows of a dimension; arguments as in `DimensionStep`."""
    keys = scan_if_published(quarantined_keys) if quarantined_keys else None
    return DimensionInputs(
        _rows(spark, dimension, sources, _published_scans(sources)),
        all_references(facts, spark),
        keys.frame(spark) if keys else None,
        now,
    )


def _published_scans(sources: Sequence[DimensionSource]) -> list[LakeScan | None]:
    """Scans of the whole processed tables; None for a table that was never published.

    Raises:
        UnpublishedTableError: No table was ever published.
    """
    scans = [scan_if_published(source.table) for source in sources]
    return scans if any(scans) else [sources[0].table.scan()]


def _rows(
    spark: SparkSession,
    dimension: tuple[DimensionConfig, EntityConfig],
    sources: Sequence[DimensionSource],
    scans: Sequence[LakeScan | None],
) -> DataFrame:
    """The rows of one scan of each source, at least one of which has the table's schema."""
    pairs = [
        (s, scan) for s, scan in zip(sources, scans, strict=True) if scan and scan.schema.names
    ]
    # Without any rows: a frame that has the columns.
    pairs = [pair for pair in pairs if pair[1].files] or pairs[:1]
    frames = [(scan.frame(spark), source.name, source.entity) for source, scan in pairs]
    return union_of_entities(frames, *dimension)


def _all_known(changes: Sequence[FileChanges | None]) -> list[FileChanges] | None:
    """The changes of several tables; None if those of one table are unknown."""
    known = [each for each in changes if each is not None]
    return known if len(known) == len(changes) else None


def now_of(properties: Mapping[str, str]) -> datetime | None:
    """The current time of the publication with these properties; None without future changes."""
    return _time(properties.get(_NOW))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True)
class DimensionStep:
    """Stages a dimension from the published rows of its entities, whatever run published them.

    Attributes:
        entity: Types of the columns; of several entities, `united_entity`.
        sources: Its entities, in its order.
        facts: Facts for whose unknown natural keys the dimension infers members.
        quarantined_keys: For full snapshots: keys of quarantined rows, whose members are present.
    """

    spark: SparkSession
    config: DimensionConfig
    entity: EntityConfig
    table: LakeTable
    sources: Sequence[DimensionSource]
    facts: Sequence[InferringFact]
    code_version: str
    quarantined_keys: LakeTable | None = None

    def stage(self, days: Sequence[date], stale: Collection[date] = ()) -> AuditedDimension:
        """Stage the dimension from all rows that are published, also outside the run's days.

        Args:
            days: The run's days.
            stale: Other days whose inputs were published after the dimension.

        Raises:
            ConfigError: The engine rejects `deleted_when`.
        """
        for source in self.sources:
            require_valid_conditions(
                self.spark,
                source.entity,
                dimension_conditions(self.config),
                rows_of=source.name if len(self.sources) > 1 else "",
            )
        properties = self.table.snapshot_properties()
        published = self._published(properties, days)
        latest = properties.get(_LATEST_FOLDER, "")
        if published is None:
            written = self._build(properties, days)
        else:
            written = self._update_if_changed(published, latest)
        schema = lake_dimension_schema(self.config, self.entity)
        key = (self.config.key_column,)
        validate_files(self.table.name, schema, self.table.storage, written.new, key)
        recorded = {
            _LATEST_FOLDER: written.latest_folder,
            _CODE: self.code_version,
            _LATE: str(written.late_members),
            _DELETES_UNTIL: str(written.limits.unknown_deletes_until or ""),
            _DELETES_SEQUENCE: json.dumps(written.limits.unknown_deletes_sequence),
            _NOW: str(written.limits.now or ""),
            _NEXT_CHANGE: str(self._next_change(written, published) or ""),
            **written.read,
        }
        table = StagedTable(schema, (*written.history, *written.latest), recorded)
        return AuditedDimension(
            table,
            self._reports(days, written),
            self._reports(sorted(stale), written),
            written.late_members,
        )

    def _next_change(self, written: _Written, published: _Published | None) -> datetime | None:
        """Time of the first change that lies in the future; None without one."""
        if published is not None and not written.new:
            return published.next_change
        if not self.config.has_future:
            return None
        files = [f for f in written.latest if f.null_counts.get("_next_change_at", 0) < f.rows]
        if not files:
            return None
        schema = spark_schema(lake_dimension_schema(self.config, self.entity))
        rows = self.spark.read.schema(schema).parquet(*(file.path for file in files))
        found: datetime | None = rows.agg(F.min("_next_change_at").alias("at")).collect()[0]["at"]
        return found

    def _now(
        self, properties: Mapping[str, str], days: Sequence[date], row_days: Sequence[date]
    ) -> datetime | None:
        """End of the last day that the dimension was run for or that has rows."""
        if not self.config.has_future:
            return None
        ends = [datetime.combine(day, time()) + timedelta(days=1) for day in (*days, *row_days)]
        known = now_of(properties)
        return max([*ends, *([known] if known else [])], default=None)

    def _published(self, properties: Mapping[str, str], days: Sequence[date]) -> _Published | None:
        """The published state; None if the dimension has to be rebuilt."""
        is_same_code = properties.get(_CODE) == self.code_version
        if not is_same_code or not {_LATEST_FOLDER, _DELETES_UNTIL} <= properties.keys():
            return None
        rows = _all_known([changes_since_read(properties, s.table) for s in self.sources])
        references = _all_known([changes_since_read(properties, f.table) for f in self.facts])
        if rows is None or references is None:
            return None
        quarantined = None
        if self.quarantined_keys is not None:
            quarantined = changes_since_read(properties, self.quarantined_keys)
            if quarantined is None:
                return None
        now = self._now(properties, days, [day for some in rows for day in some.added.days])
        scan = self.table.scan()
        if not {*lake_dimension_schema(self.config, self.entity).names} <= {*scan.schema.names}:
            return None  # Another release published it, without columns that the update needs.
        folder = f"/data/{properties[_LATEST_FOLDER]}/"
        latest = [file for file in scan.files if folder in file.path]
        history = [file for file in scan.files if folder not in file.path]
        return _Published(
            scan.only(latest),
            scan.only(history),
            rows,
            references,
            quarantined,
            TimeLimits(
                now,
                _time(properties[_DELETES_UNTIL]),
                json.loads(properties.get(_DELETES_SEQUENCE, "null")),
            ),
            _time(properties.get(_NEXT_CHANGE)),
        )

    def _build(self, properties: Mapping[str, str], days: Sequence[date]) -> _Written:
        processed = _published_scans(self.sources)
        scans = [scan_if_published(each.table) for each in self.facts]
        references = union(
            each.references(scan, self.spark)
            for each, scan in zip(self.facts, scans, strict=True)
            if scan
        )
        rows = _rows(self.spark, (self.config, self.entity), self.sources, processed)
        keys = scan_if_published(self.quarantined_keys) if self.quarantined_keys else None
        now = self._now(properties, days, [d for scan in processed if scan for d in scan.days])
        inputs = DimensionInputs(rows, references, keys.frame(self.spark) if keys else None, now)
        versions = all_versions(inputs, self.config, self.entity)
        folder, latest, history = self._write(versions)
        read = self._as_read(processed)
        for each, scan in zip(self.facts, scans, strict=True):
            read |= as_read(each.table, scan)
        if self.quarantined_keys is not None:
            read |= as_read(self.quarantined_keys, keys)
        limits = TimeLimits(now, *unknown_deletes(rows, self.config, self.entity))
        return _Written(latest, folder, history, (*latest, *history), read, limits)

    def _update_if_changed(self, published: _Published, latest_folder: str) -> _Written:
        update = None if published.is_up_to_date else self._update(published)
        if update is not None:
            return update
        # The files stay; the watermarks may have advanced without a change of a member.
        latest, history = published.latest.files, published.history.files
        return _Written(
            latest, latest_folder, history, (), self._watermarks(published), published.limits
        )

    def _update(self, published: _Published) -> _Written | None:
        """The updated files; None if the changes affect no member."""
        spark = self.spark
        removed = [changes.removed for changes in published.rows]
        changes = DimensionChanges(
            added=self._rows_of([changes.added for changes in published.rows]),
            removed=self._rows_of(removed) if any(scan.files for scan in removed) else None,
            references_added=self._references([c.added for c in published.references]),
            references_removed=self._references([c.removed for c in published.references]),
            quarantined_added=self._keys(published.quarantined, "added"),
            quarantined_removed=self._keys(published.quarantined, "removed"),
        )
        update = update_dimension(
            Versions(published.latest.frame(spark), published.history.frame(spark)),
            changes,
            published.limits,
            lambda: self.everything(published.limits.now),
            self.config,
            self.entity,
        )
        if update is None:
            return None
        unchanged = () if update.replaces_history else published.history.files
        small = [file for file in unchanged if file.size_bytes < _SMALL_BYTES]
        versions = update.versions
        if len(small) >= _HISTORY_FILES:
            versions = versions.unionByName(published.history.only(small).frame(spark))
            unchanged = tuple(file for file in unchanged if file not in small)
        folder, latest, history = self._write(versions)
        return _Written(
            latest,
            folder,
            (*unchanged, *history),
            (*latest, *history),
            self._watermarks(published),
            update.limits,
            update.late_members,
        )

    def everything(self, now: datetime | None) -> DimensionInputs:
        """All published input rows of the dimension."""
        keys = self.quarantined_keys
        dimension = (self.config, self.entity)
        return all_inputs(self.spark, dimension, self.sources, self.facts, keys, now)

    def _rows_of(self, scans: Sequence[LakeScan]) -> DataFrame:
        return _rows(self.spark, (self.config, self.entity), self.sources, scans)

    def _as_read(self, scans: Sequence[LakeScan | None]) -> dict[str, str]:
        read: dict[str, str] = {}
        for source, scan in zip(self.sources, scans, strict=True):
            read |= as_read(source.table, scan)
        return read

    def _keys(
        self, changes: FileChanges | None, side: Literal["added", "removed"]
    ) -> DataFrame | None:
        if changes is None:
            return None
        scan = changes.added if side == "added" else changes.removed
        return scan.frame(self.spark) if scan.files else None

    def _watermarks(self, published: _Published) -> dict[str, str]:
        """The watermarks up to which changes were read; later rows belong to the next update."""
        read = self._as_read([changes.added for changes in published.rows])
        for each, changes in zip(self.facts, published.references, strict=True):
            read |= as_read(each.table, changes.added)
        if self.quarantined_keys is not None and published.quarantined is not None:
            read |= as_read(self.quarantined_keys, published.quarantined.added)
        return read

    def _references(self, scans: Sequence[LakeScan]) -> DataFrame | None:
        return union(
            each.references(scan, self.spark)
            for each, scan in zip(self.facts, scans, strict=True)
            if scan.files
        )

    def _write(
        self, versions: DataFrame
    ) -> tuple[str, tuple[StagedFile, ...], tuple[StagedFile, ...]]:
        """Stage versions: the folder of the latest ones, their files, and those of the history."""
        token = new_token()
        # By a copy of the column, because the files lack the column by which they are split.
        split = versions.withColumn(_SPLIT_COLUMN, F.col("is_latest"))
        write_split(split, uri=self.table.staging_uri(token), by=_SPLIT_COLUMN)
        folder = f"{token}/{_SPLIT_COLUMN}=true"
        written = self.table.staged_files(token)
        latest = tuple(file for file in written if f"/data/{folder}/" in file.path)
        return folder, latest, tuple(file for file in written if file not in latest)

    def _reports(self, days: Sequence[date], written: _Written) -> dict[date, PartitionReport]:
        scans = [scan_if_published(source.table, days) for source in self.sources]
        checks = self._audit(written) if written.new else _UNCHANGED
        without_key = Counter[date]()
        rows = Counter[date]()
        for scan in filter(None, scans):
            without_key.update(self._without_key(scan))
            rows.update({day: scan.rows(day) for day in days})
        # Only days with rows are audited; the others change nothing.
        return {
            day: PartitionReport(
                day,
                rows_in=rows[day],
                rows_out=rows[day] - without_key[day],
                rows_left_out=without_key[day],
                checks=checks if rows[day] else _UNCHANGED,
            )
            for day in days
        }

    def _without_key(self, scan: LakeScan) -> dict[date, int]:
        """By day: number of rows with NULL in the natural key, which are left out."""
        sources = [*self.config.natural_key.values()]
        days = [
            day
            for day in scan.days
            if any(file.null_counts.get(n) for file in scan.files_by_day[day] for n in sources)
        ]
        if not days:
            return {}
        lacks = reduce(or_, (F.col(name).isNull() for name in sources))
        rows = scan.frame(self.spark, days).where(lacks).groupBy(PARTITION_COLUMN)
        counted = rows.agg(F.count(F.lit(1)).alias("rows")).collect()
        found: dict[date, int] = {row[PARTITION_COLUMN]: row["rows"] for row in counted}
        log.warning(
            "rows_left_out",
            table=self.table.name,
            reason="a column of the natural key is NULL",
            rows=sum(found.values()),
            days=len(found),
        )
        return found

    def _audit(self, written: _Written) -> tuple[CheckResult, ...]:
        """Check the new files: all latest versions, and versions added to the history."""
        schema = spark_schema(lake_dimension_schema(self.config, self.entity))
        natural = [F.col(name) for name in self.config.natural_key]

        def read(files: Sequence[StagedFile]) -> DataFrame:
            return self.spark.read.schema(schema).parquet(*(file.path for file in files))

        rows = read(written.new)
        found = rows.agg(
            F.count(F.lit(1)).alias("rows"),
            F.countDistinct(self.config.key_column).alias("keys"),
            F.sum((F.col("valid_to") <= F.col("valid_from")).cast("bigint")).alias("reversed"),
        ).collect()[0]
        latest = (
            read(written.latest)
            # A source may have a member with the natural key of the unknown member.
            .where(F.col(self.config.key_column) != UNKNOWN_KEY)
            .agg(F.count(F.lit(1)).alias("rows"), F.countDistinct(*natural).alias("members"))
            .collect()[0]
        )
        return (
            CheckResult(
                registry.UNIQUE_SURROGATE_KEY,
                found["rows"] == found["keys"],
                f"{found['rows']} surrogate keys",
                f"{found['keys']}",
            ),
            CheckResult(
                registry.ONE_CURRENT_VERSION,
                latest["rows"] == latest["members"] and not found["reversed"],
                f"one latest version of each of {latest['members']} members, no reversed interval",
                f"{latest['rows']} latest versions, {found['reversed'] or 0} reversed intervals",
            ),
        )
