"""The audit of a dimension that is staged in a real lake."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from headrace.config.sources.file_source import FileEntity
from headrace.config.star.models import DimensionConfig
from headrace.errors import ConfigError
from headrace.lake.catalog import LakeCatalog
from headrace.lake.staging import stage_batches
from headrace.lake.storage import LakeSettings
from headrace.lake.table import LakeTable
from headrace.pipeline.curated.dimensions import DimensionSource, DimensionStep
from headrace.schema import PARTITION_COLUMN
from headrace.staged import new_token
from headrace.standardize.schemas import processed_schema
from headrace.star.scd2.dimensions import UNKNOWN_KEY
from tests import servers

DAY = date(2024, 1, 1)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LakeCatalog]:
    catalog = LakeCatalog(LakeSettings(servers.postgres().uri("lake"), str(tmp_path / "lake")))
    yield catalog
    catalog.close()


UNKNOWN = {
    "bigint": UNKNOWN_KEY,
    "string": "Unknown",
    "boolean": True,
    "decimal(6,2)": Decimal("-1.00"),
    "date": date(1900, 1, 1),
    "timestamp": datetime(1900, 1, 1),
    "double": -1.0,
}
NAMES = {kind: f"key_{n}" for n, kind in enumerate(UNKNOWN)}
ENTITY = FileEntity.model_validate(
    {
        "name": "members",
        "extract": {"mode": "files", "path": "m-{date:%Y-%m-%d}.csv"},
        "key": ["_source_position"],
        "columns": [{"name": name, "type": kind} for kind, name in NAMES.items()],
    }
)
CONFIG = DimensionConfig.model_validate(
    {
        "name": "dim_member",
        "entity": "s.members",
        "natural_key": {name: name for name in NAMES.values()},
    }
)


def test_a_member_may_have_the_natural_key_of_the_unknown_one(
    spark: SparkSession, lake: LakeCatalog
) -> None:
    unknown = {NAMES[kind]: value for kind, value in UNKNOWN.items()}
    other = {**unknown, NAMES["string"]: "known"}
    namespace = f"n_{uuid4().hex[:12]}"
    processed, table = (lake.table(namespace, name) for name in ("members", "dim_member"))
    publish(processed, [unknown, other])
    step = DimensionStep(
        spark,
        CONFIG,
        ENTITY,
        table,
        [DimensionSource(processed, CONFIG.entity, ENTITY)],
        (),
        "code",
    )
    found = step.stage([DAY])
    assert found.reports[DAY].outcome == "passed", found.reports[DAY].why()
    table.overwrite(found.table.files, schema=found.table.schema)
    rows = table.scan().batches().read_all().to_pylist()
    by_key = {row["member_key"]: {name: row[name] for name in NAMES.values()} for row in rows}
    assert by_key.pop(UNKNOWN_KEY) == unknown
    assert sorted(by_key.values(), key=str) == sorted([unknown, other], key=str)


def test_a_dimension_without_a_column_that_the_update_needs_is_rebuilt(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    member = {NAMES[kind]: value for kind, value in UNKNOWN.items()} | {NAMES["string"]: "a"}
    processed, table = (lake.table(f"n_{uuid4().hex[:12]}", name) for name in ("members", "dim"))
    publish(processed, [member])
    sources = [DimensionSource(processed, CONFIG.entity, ENTITY)]
    step = DimensionStep(sail, CONFIG, ENTITY, table, sources, (), "code")
    first = step.stage([DAY]).table
    table.overwrite(first.files, schema=first.schema, properties=first.properties)
    assert step.stage([DAY]).table.files == first.files
    published = table.load()
    assert published is not None
    with published.update_schema() as change:
        change.rename_column("_referenced_at", "_named_otherwise")  # as an earlier release did
    rebuilt = step.stage([DAY]).table
    assert {f.path for f in rebuilt.files}.isdisjoint(f.path for f in first.files)


def test_a_condition_that_one_of_two_entities_cannot_answer_names_that_one(
    sail: SparkSession, lake: LakeCatalog
) -> None:
    also = {"further_entities": ("crm.people",), "deleted_when": f"{NAMES['boolean']} and op = 'D'"}
    config = CONFIG.model_copy(update=also)
    column = {"name": "op", "type": "string"}
    declared = ENTITY.model_dump(exclude_unset=True)
    columns = [*declared["columns"], column]
    shop = FileEntity.model_validate({**declared, "columns": columns})
    processed, table = (lake.table(f"n_{uuid4().hex[:12]}", name) for name in ("rows", "dim"))
    sources = [
        DimensionSource(processed, "s.members", shop),
        DimensionSource(processed, "crm.people", ENTITY),
    ]
    step = DimensionStep(sail, config, shop, table, sources, (), "code")
    with pytest.raises(ConfigError, match=r"deleted_when: for rows of crm\.people, .* column 'op'"):
        step.stage([DAY])


def publish(processed: LakeTable, members: Sequence[Mapping[str, object]]) -> None:
    stamp = datetime(2024, 1, 2, tzinfo=UTC)
    more = {"_captured_at": stamp, "_processed_at": stamp, PARTITION_COLUMN: DAY}
    rows = [{**member, "_source_position": n, **more} for n, member in enumerate(members)]
    schema = processed_schema(ENTITY)
    token = new_token()
    batches = pa.Table.from_pylist(rows, schema=schema.arrow()).to_reader()
    folder = processed.staging_uri(token)
    stage_batches(batches, processed.storage, folder, partition_column=PARTITION_COLUMN)
    processed.replace(dict(processed.staged(token)), schema=schema)
