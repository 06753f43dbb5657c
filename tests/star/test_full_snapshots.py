"""Days that have to bring all members: who counts as there, and which days are held."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.config.sources.file_source import FileEntity
from headrace.config.star.models import DimensionConfig, FullSnapshot
from headrace.lake.catalog import LakeCatalog
from headrace.lake.staging import stage_batches
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.pipeline.curated.dimensions import DimensionSource, DimensionStep
from headrace.pipeline.full_snapshots import SnapshotAudit, snapshot_check
from headrace.quality.report import PartitionReport
from headrace.schema import PARTITION_COLUMN, TableSchema
from headrace.staged import StagedPartition, new_token
from headrace.standardize.schemas import processed_schema, quarantine_schema
from tests import servers

DAY = date(2024, 1, 1)
DAYS = [DAY + timedelta(days=n) for n in range(8)]
ENTITY = FileEntity.model_validate(
    {
        "name": "customers",
        "extract": {"mode": "files", "path": "c-{date:%Y-%m-%d}.csv"},
        "key": ["customer_id"],
        "columns": [{"name": "customer_id", "type": "int"}, {"name": "score", "type": "int"}],
    }
)
CONFIG = DimensionConfig.model_validate(
    {
        "name": "dim_customer",
        "entity": "s.customers",
        "natural_key": {"customer_id": "customer_id"},
        "attributes": {"score": "score"},
        "full_snapshot": True,
    }
)
SNAPSHOT = FullSnapshot(dimension="dim_customer", key=("customer_id",), max_vanished_share=None)
Staged = dict[date, StagedPartition]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeCatalog]:
    catalog = LakeCatalog(LakeSettings(servers.postgres().uri("lake"), str(tmp_path / "lake")))
    yield catalog
    catalog.close()


class Customers:
    """Customers' days: good rows by number, and quarantined ones by what their key looks like."""

    def __init__(self, spark: SparkSession, lake: LakeCatalog) -> None:
        namespace = f"n_{uuid4().hex[:12]}"
        names = ("processed", "quarantine", "keys", "dim_customer")
        self.processed, self.quarantine, self.keys, self.table = (
            lake.table(namespace, name) for name in names
        )
        self.spark = spark
        self.audit = SnapshotAudit(spark, ENTITY, self.processed, self.keys, [SNAPSHOT])

    def deliver(
        self, good: Mapping[date, range], bad: Mapping[date, list[str | None]] | None = None
    ) -> dict[date, str]:
        """Publish the days that pass; outcome of each, with what was found."""
        bad = bad or {}
        stamp = datetime(2024, 1, 9, tzinfo=UTC)
        more = {"_captured_at": stamp, "_processed_at": stamp, "_run_id": "r", "_code_version": "c"}
        rows = [
            {"customer_id": n, "score": 1, PARTITION_COLUMN: day, "_source_position": n, **more}
            for day in good
            for n in good[day]
        ]
        broken = [
            {"customer_id": text, "_reasons": "why", PARTITION_COLUMN: day, **more}
            for day in bad
            for text in bad[day]
        ]
        staged = {day: StagedPartition(day) for day in good}
        staged |= stage(self.processed, rows, processed_schema(ENTITY))
        aside = {day: StagedPartition(day) for day in good}
        aside |= stage(self.quarantine, broken, quarantine_schema(ENTITY))
        keys = self.audit.stage_keys(aside)
        judged = self.audit.audit(staged, keys, {day: PartitionReport(day) for day in good})
        passed = [day for day in judged if judged[day].outcome == "passed"]
        self.audit.publish_keys(keys, passed)
        if passed:
            published = {day: staged[day] for day in passed}
            self.processed.replace(published, schema=processed_schema(ENTITY))
        return {day: report.outcome for day, report in judged.items()}

    def ends(self) -> dict[int, set[datetime | None]]:
        """Publish the dimension; when each customer's versions end."""
        step = DimensionStep(
            self.spark,
            CONFIG,
            ENTITY,
            self.table,
            sources_of(self.processed),
            (),
            "code",
            self.keys,
        )
        staged = step.stage(DAYS).table
        self.table.overwrite(staged.files, schema=staged.schema, properties=dict(staged.properties))
        found: dict[int, set[datetime | None]] = {}
        for row in self.table.scan().batches().read_all().to_pylist():
            if row["customer_key"] != -1:
                found.setdefault(row["customer_id"], set()).add(row["valid_to"])
        return found


def sources_of(processed: LakeTable, entity: EntityConfig = ENTITY) -> list[DimensionSource]:
    return [DimensionSource(processed, CONFIG.entity, entity)]


def stage(table: LakeTable, rows: list[dict[str, object]], schema: TableSchema) -> Staged:
    token = new_token()
    batches = pa.Table.from_pylist(rows, schema=schema.arrow()).to_reader()
    folder = table.staging_uri(token)
    stage_batches(batches, table.storage, folder, partition_column=PARTITION_COLUMN)
    return dict(table.staged(token))


def test_a_member_whose_row_is_quarantined_is_not_deleted(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    customers = Customers(sail, lake)
    every = range(1, 11)
    customers.deliver({DAYS[0]: every})
    customers.ends()
    customers.deliver({DAYS[1]: range(1, 10)}, {DAYS[1]: [" 10 "]})
    assert customers.ends()[10] == {None}
    # Delivered again and held: what was set aside of the published rows still counts.
    assert customers.deliver({DAYS[1]: range(1, 3)}) == {DAYS[1]: "held"}
    assert customers.ends()[10] == {None}
    assert customers.deliver({DAYS[1]: range(1, 10), DAYS[2]: every}) == {
        DAYS[1]: "passed",
        DAYS[2]: "passed",
    }
    assert customers.ends()[10] == {datetime(2024, 1, 2), None}


def test_a_snapshot_that_was_cut_off_is_held_and_the_next_days_are_compared_with_the_last_whole_one(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    customers = Customers(sail, lake)
    days = {
        DAYS[0]: range(1, 21),
        DAYS[1]: range(1, 5),
        DAYS[2]: range(1, 4),
        DAYS[3]: range(1, 20),
        DAYS[4]: range(0),
        DAYS[5]: range(1, 10),
        DAYS[6]: range(1, 19),
    }
    # The 4th is half of what the 3rd has; the 5th says nothing.
    assert customers.deliver(days) == {
        **dict.fromkeys(DAYS[:7], "passed"),
        **dict.fromkeys((DAYS[1], DAYS[2], DAYS[5]), "held"),
    }
    assert customers.deliver({DAYS[7]: range(1, 3)}) == {DAYS[7]: "held"}


def test_a_snapshot_with_rows_that_name_nobody_may_not_delete(
    spark: SparkSession, lake: LakeCatalog
) -> None:
    customers = Customers(spark, lake)
    days = {DAYS[n]: range(1, 11 - n % 2) for n in range(3)}
    lost: dict[date, list[str | None]] = {DAYS[0]: ["x"], DAYS[1]: [None], DAYS[2]: ["x", "2"]}
    # A row whose key cannot be read may be of any member that is missing.
    assert customers.deliver(days, lost) == dict(
        zip(DAYS, ["passed", "held", "passed"], strict=False)
    )


@pytest.mark.parametrize(
    ("declared", "missing", "members", "passed"),
    [
        (None, 5, 10, True),
        (None, 6, 10, False),
        (None, 9, 9, True),
        (0.0, 1, 9, False),
        (0.2, 2, 10, True),
        (0.2, 3, 10, False),
        (1.0, 10, 10, True),
        (None, 0, 0, True),
    ],
)
def test_the_share_of_members_that_may_vanish(
    declared: float | None, missing: int, members: int, *, passed: bool
) -> None:
    snapshot = SNAPSHOT.model_copy(update={"max_vanished_share": declared})
    assert snapshot_check(snapshot, missing, members, 0).passed is passed


def test_rows_that_name_no_member_are_counted(sail: SparkSession, lake: LakeCatalog) -> None:
    namespace = f"n_{uuid4().hex[:12]}"
    processed, table = (lake.table(namespace, name) for name in ("customers", "dim_customer"))
    stamp = datetime(2024, 1, 9, tzinfo=UTC)
    more = {"_captured_at": stamp, "_processed_at": stamp, "_run_id": "r", "_code_version": "c"}
    rows = [
        {
            "customer_id": n,
            "score": score,
            PARTITION_COLUMN: DAYS[day],
            "_source_position": 1,
            **more,
        }
        for day, (n, score) in enumerate([(1, 1), (None, 2), (2, None)])
    ]
    processed.replace(
        stage(processed, rows, processed_schema(ENTITY)), schema=processed_schema(ENTITY)
    )
    keep = CONFIG.model_copy(update={"full_snapshot": False})
    reports = (
        DimensionStep(sail, keep, ENTITY, table, sources_of(processed), (), "c").stage(DAYS).reports
    )
    counted = [(reports[day].rows_out, reports[day].rows_left_out) for day in DAYS[:4]]
    assert counted == [(1, 0), (0, 1), (1, 0), (0, 0)]


def test_snapshots_with_times_go_on_from_what_is_published(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    namespace = f"n_{uuid4().hex[:12]}"
    processed, keys, table = (lake.table(namespace, name) for name in ("c", "keys", "dim"))
    since = {"name": "since", "type": "timestamp"}
    columns = [{"name": "customer_id", "type": "int"}, {"name": "score", "type": "int"}, since]
    declared = {**ENTITY.model_dump(exclude={"columns"}, exclude_unset=True), "columns": columns}
    entity = FileEntity.model_validate(declared)
    config = CONFIG.model_copy(update={"effective_time": "since"})
    step = DimensionStep(
        sail, config, entity, table, sources_of(processed, entity), (), "code", keys
    )
    stamp = datetime(2024, 1, 9, tzinfo=UTC)
    more = {"_captured_at": stamp, "_processed_at": stamp, "_run_id": "r", "_code_version": "c"}
    first, later = datetime(2023, 12, 1), datetime(2024, 1, 2, 9)
    told = [{1: (1, first), 2: (1, first)}, {1: (1, first)}, {1: (2, later), 2: (1, first)}]
    for day, members in zip(DAYS, told, strict=False):
        rows = [
            {
                "customer_id": n,
                "score": score,
                "since": at,
                PARTITION_COLUMN: day,
                "_source_position": n,
            }
            for n, (score, at) in members.items()
        ]
        schema = processed_schema(entity)
        files = stage(processed, [{**row, **more} for row in rows], schema)
        processed.replace(files, schema=schema)
        staged = step.stage([day]).table
        table.overwrite(staged.files, schema=staged.schema, properties=dict(staged.properties))
    found = {
        (row["customer_id"], row["score"], row["valid_to"])
        for row in table.scan().batches().read_all().to_pylist()
        if row["customer_key"] != -1
    }
    back = datetime(2024, 1, 2)
    assert found == {(1, 1, later), (1, 2, None), (2, 1, back), (2, 1, None)}
