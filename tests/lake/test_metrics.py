"""A file's statistics are those that PyIceberg computes, which every reader of Iceberg skips by."""

from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.table.metadata import TableMetadata, TableMetadataV2

from headrace.lake.metrics import StatisticsPlan
from headrace.lake.schema import iceberg_schema, partition_spec
from headrace.schema import Column, TableSchema

SCHEMA = TableSchema(
    (
        Column("flag", "boolean"),
        Column("small", "int"),
        Column("large", "bigint"),
        Column("ratio", "double"),
        Column("on", "date"),
        Column("at", "timestamp"),
        Column("instant", "timestamptz"),
        Column("price", "decimal(12,2)"),
        Column("huge", "decimal(30,4)"),
        Column("name", "string"),
        Column("reasons", "list<string>"),
    )
)

days = st.dates(date(1900, 1, 1), date(2100, 1, 1))
times = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
# Characters of one to four bytes, the last one of all among them: nothing lies above it.
texts = st.text(st.sampled_from("aé€😀z\U0010ffff"), max_size=24)


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda n: Decimal(n).scaleb(-places))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "flag": st.booleans(),
    "small": st.integers(-(2**31), 2**31 - 1),
    "large": st.integers(-(2**63), 2**63 - 1),
    "ratio": st.floats(allow_nan=False, width=64),
    "on": days,
    "at": times,
    "instant": times.map(lambda at: at.replace(tzinfo=UTC)),
    "price": decimals(12, 2),
    "huge": decimals(28, 4),
    "name": texts,
    "reasons": st.lists(texts, max_size=3),
}
rows = st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()})


@given(
    found=st.lists(rows, min_size=1, max_size=12),
    group=st.integers(1, 12),
    short_decimals=st.booleans(),
)
def test_statistics_are_those_of_pyiceberg(
    found: list[dict[str, Any]], group: int, *, short_decimals: bool
) -> None:
    metadata = _metadata({})
    footer = _footer(found, row_group_size=group, store_decimal_as_integer=short_decimals)
    assert StatisticsPlan.of(metadata).of_file(footer) == _by_pyiceberg(metadata, footer)


@pytest.mark.parametrize("mode", ["none", "counts", "truncate(3)", "full"])
def test_a_table_may_ask_for_more_or_fewer_of_them(mode: str) -> None:
    metadata = _metadata({"write.metadata.metrics.default": mode})
    footer = _footer([{"name": "a long name", "large": 1}, {"name": "another", "large": 2}])
    statistics = StatisticsPlan.of(metadata).of_file(footer)
    assert statistics == _by_pyiceberg(metadata, footer)
    name = [column.name for column in SCHEMA].index("name") + 1
    assert statistics["upper_bounds"].get(name) == {"truncate(3)": b"anp", "full": b"another"}.get(
        mode
    )


def test_bounds_are_left_out_where_a_footer_has_none() -> None:
    footer = _footer([{"large": 1}], write_statistics=False)
    statistics = StatisticsPlan.of(_metadata({})).of_file(footer)
    assert statistics["record_count"] == 1
    assert statistics["lower_bounds"] == statistics["null_value_counts"] == {}


def _metadata(properties: dict[str, str]) -> TableMetadata:
    schema = iceberg_schema(SCHEMA)
    return TableMetadataV2(
        location="memory://table",
        last_column_id=schema.highest_field_id,
        schemas=[schema],
        current_schema_id=schema.schema_id,
        partition_specs=[partition_spec(schema, None)],
        properties=properties,
    )


def _footer(found: list[dict[str, Any]], **options: Any) -> pq.FileMetaData:
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(found, schema=SCHEMA.arrow()), file, **options)
    return pq.read_metadata(file)


def _by_pyiceberg(metadata: TableMetadata, footer: pq.FileMetaData) -> dict[str, Any]:
    schema = metadata.schema()
    return data_file_statistics_from_parquet_metadata(
        footer,
        compute_statistics_plan(schema, metadata.properties),
        parquet_path_to_id_mapping(schema),
    ).to_serialized_dict()
