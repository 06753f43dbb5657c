"""Tables of databases in the configuration: what is refused, with place and remedy."""

import shutil
from pathlib import Path

import pytest

from headrace.config.loader import load_project
from headrace.config.sources.table_source import WatermarkExtract
from headrace.errors import ConfigError
from headrace.grain import Grain

CONFIG = Path(__file__).parents[2] / "demo/files/config"
_EXTRACT = "{mode: watermark, table: public.orders, cursor: changed_at}"
_SOURCE = f"""
name: till
connector: postgres
connection: shop
entities:
  - name: orders
    extract: {_EXTRACT}
    key: [id]
    columns:
      - {{name: id, type: bigint}}
      - {{name: changed_at, type: timestamptz}}
"""
_CONNECTION = "connections: {shop: {url: {env: SHOP_URL}}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    (found / "sources" / "till.yaml").write_text(_SOURCE)
    with (found / "base.yaml").open("a") as base:
        base.write(_CONNECTION)
    return found


def environ(folder: Path) -> dict[str, str]:
    return {"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def faults(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_project(environ(folder))
    return str(caught.value).replace(f"{folder}/", "")


def test_a_table_is_partitioned_by_its_cursor_unless_it_says_otherwise(folder: Path) -> None:
    extract = load_project(environ(folder)).entities()["till.orders"][1].extract
    assert isinstance(extract, WatermarkExtract)
    assert extract.partition_by == "changed_at"
    assert extract.overlap_time.total_seconds() == 600


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "connector: postgres",
            "connector: postgre",
            "till.yaml:3: connector: 'postgre' is not one of files, parquet_files, postgres, mys",
        ),
        (
            "connection: shop",
            "connection: shpo",
            "till.yaml:4: connection: 'shpo' is not one of shop; did you mean shop?",
        ),
        ("connection: shop\n", "", "till.yaml: connection: is missing"),
        (
            "mode: watermark",
            "mode: watermrk",
            "extract.mode: 'watermrk' is not one of full, full_snapshot, watermark, ",
        ),
        (
            "cursor: changed_at",
            "cursor: chnged_at",
            "entities[orders].extract.cursor: chnged_at: not among the columns id, changed_at",
        ),
        (", cursor: changed_at", "", "till.yaml:7: entities[orders].extract.cursor: is missing"),
        ("table: public.orders, ", "", "entities[orders].extract: give table or query"),
        (
            "cursor: changed_at}",
            "cursor: changed_at, overlap: 10}",
            "entities[orders].extract.overlap: 10: must be text",
        ),
        (
            "cursor: changed_at}",
            "cursor: changed_at, overlap: ten}",
            "'ten' must be a number and a unit, such as 30s, 10m, 2h or 1d",
        ),
        (
            "cursor: changed_at}",
            "cursor: changed_at, overlp: 10m}",
            "extract.overlp: is not a key that exists here; did you mean overlap?",
        ),
        ("key: [id]", "key: [id, _source_position]", "differs between captures of one row"),
        (
            "mode: watermark",
            "mode: increasing_id, partition_by: changed_at",
            "entities[orders].extract.cursor: 'changed_at' is an id, and no int or bigint",
        ),
        (
            "mode: watermark, table: public.orders, cursor: changed_at",
            "mode: increasing_id, table: public.orders, cursor: id",
            "entities[orders].extract.partition_by: is missing",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(folder: Path, old: str, new: str, expected: str) -> None:
    edit(folder / "sources" / "till.yaml", old, new)
    assert expected in faults(folder)


@pytest.mark.parametrize(
    "place",
    [
        "connections: {shop: {url: %s}}",
        "connections: {rest: {url: %s}}",
        "warehouse: {url: %s}",
    ],
)
def test_a_secret_in_a_file_is_refused_and_not_shown(folder: Path, place: str) -> None:
    url = "postgresql://shop:s3cret@db/shop"
    base = folder / "base.yaml"
    text = base.read_text().replace(_CONNECTION, _CONNECTION if "warehouse" in place else "")
    base.write_text(text + place % url + "\n")
    said = faults(folder)
    assert "url: must be {env: NAME}" in said
    assert "s3cret" not in said


def _snapshot_source(folder: Path, *, dimension: str = "", mode: str = "full_snapshot") -> None:
    edit(folder / "sources" / "till.yaml", _EXTRACT, f"{{mode: {mode}, table: public.orders}}")
    star = folder / "star.yaml"
    text = star.read_text()
    entry = (
        "dimensions:\n  - name: dim_order\n    entity: till.orders\n"
        f"    natural_key: {{order_id: id}}\n{dimension}"
    )
    star.write_text(text.replace("dimensions:\n", entry, 1))


def test_a_dimension_of_full_snapshots_finds_deletes_without_saying_so(folder: Path) -> None:
    _snapshot_source(folder, dimension="    max_vanished_share: 0.1\n")
    project = load_project(environ(folder))
    assert project.star.dimension("dim_order").infers_deletes
    assert project.entities()["till.orders"][1].grain == Grain.SPARSE


def test_a_dimension_that_ignores_the_deletes_of_full_snapshots_is_refused(folder: Path) -> None:
    _snapshot_source(folder, dimension="    full_snapshot: false\n")
    assert (
        "star.yaml:7: dimensions[dim_order].full_snapshot: till.orders has mode: full_snapshot, so "
        "rows that it lacks were deleted: drop full_snapshot here, or say mode: full there"
    ) in faults(folder)


def test_a_full_snapshot_has_no_partition_column(folder: Path) -> None:
    edit(
        folder / "sources" / "till.yaml",
        _EXTRACT,
        "{mode: full_snapshot, table: orders, partition_by: changed_at}",
    )
    assert "extract.partition_by: a snapshot is the whole table" in faults(folder)
