"""Collections of MongoDB in the configuration: what is refused, with place and remedy."""

import shutil
from pathlib import Path

import pytest

from headrace.config.loader import load_project
from headrace.config.sources.mongodb_source import CollectionWatermarkExtract
from tests.config.test_table_sources import CONFIG, edit, environ, faults

_SOURCE = """
name: till
connector: mongodb
connection: shop
entities:
  - name: orders
    extract: {mode: watermark, collection: orders, cursor: changed_at, overlap: 10m}
    key: [id]
    columns:
      - {name: id, from: _id, type: string}
      - {name: city, from: $.address.city, type: string, optional: true}
      - {name: changed_at, type: timestamptz}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    (found / "sources" / "till.yaml").write_text(_SOURCE)
    with (found / "base.yaml").open("a") as base:
        base.write("connections: {shop: {url: {env: SHOP_URL}}}\n")
    return found


def test_a_collection_is_partitioned_by_its_cursor_unless_it_says_otherwise(folder: Path) -> None:
    extract = load_project(environ(folder)).entities()["till.orders"][1].extract
    assert isinstance(extract, CollectionWatermarkExtract)
    assert extract.partition_by == "changed_at"
    assert extract.overlap_time.total_seconds() == 600


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("connection: shop", "connection: shpo", "'shpo' is not one of shop; did you mean shop?"),
        (
            "mode: watermark",
            "mode: watermrk",
            "extract.mode: 'watermrk' is not one of full, full_snapshot, watermark, increasing",
        ),
        (
            "mode: watermark, collection: orders, cursor: changed_at, overlap: 10m",
            "mode: full_snapshot, collection: orders, partition_by: changed_at",
            "a snapshot is the whole table at the time of its capture: drop it",
        ),
        (", overlap: 10m", "", "till.yaml:7: entities[orders].extract.overlap: is missing"),
        ("overlap: 10m", "overlap: ten", "'ten' must be a number and a unit, such as 30s, 10m"),
        (
            "collection: orders",
            "colection: orders",
            "extract.colection: is not a key that exists here; did you mean collection?",
        ),
        (
            "cursor: changed_at",
            "cursor: chnged_at",
            "extract.cursor: chnged_at: not among the columns id, city, changed_at; did you",
        ),
        (
            "mode: watermark, collection",
            "mode: increasing_id, collection",
            "entities[orders].extract.partition_by: is missing",
        ),
        (
            "mode: watermark, collection",
            "mode: increasing_id, partition_by: changed_at, collection",
            "extract.cursor: 'changed_at' is captured as timestamptz: it must be string, int or b",
        ),
        (
            "{name: changed_at, type: timestamptz}",
            "{name: changed_at, type: timestamptz, source_type: string}",
            "extract.partition_by: 'changed_at' is captured as string: it must be date, timest",
        ),
        (
            "{name: changed_at, type",
            "{name: changed_at, from: [at, changed], type",
            "documents are selected by one field: give it one name",
        ),
        (
            "{name: changed_at, type",
            "{name: changed_at, from: audit.at, type",
            "the path of a nested one is $.audit.at",
        ),
        (
            "cursor: changed_at,",
            "cursor: changed_at, children: '$.items[*]',",
            "extract.partition_by: 'changed_at' is of an element: name a column whose `from` be",
        ),
        (
            "$.address.city",
            "'$.address[*]'",
            "columns[city].from: '$.address[*]' must name one value",
        ),
        (
            "$.address.city",
            "'@.city'",
            "columns[city].from: '@.city' is of an element of extract.ch",
        ),
        (
            "$.address.city",
            "'{city}'",
            "columns[city].from: '{city}' stands for nothing: {index} does",
        ),
        ("key: [id]", "key: [id, _source_position]", "differs between captures of one row"),
    ],
)
def test_a_mistake_is_named_with_its_place(folder: Path, old: str, new: str, expected: str) -> None:
    edit(folder / "sources" / "till.yaml", old, new)
    assert expected in faults(folder)


def test_a_collection_is_of_no_api(folder: Path) -> None:
    edit(
        folder / "base.yaml",
        "{url: {env: SHOP_URL}}",
        "{kind: rest, url: 'https://shop.example'}",
    )
    assert "shop is an API (kind: rest), which connector mongodb cannot read" in faults(folder)
