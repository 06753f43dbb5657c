"""Assets of raw: which captures of a run take turns."""

import shutil
from pathlib import Path

from headrace.config.loader import load_project
from platform_assets.metadata import FOR_COMMANDS
from platform_assets.raw import build_raw_asset

CONFIG = Path(__file__).parents[2] / "demo/files/config"


def _table(source: str) -> str:
    return f"""
name: {source}
connector: postgres
connection: {source}
entities:
  - name: orders
    extract: {{mode: full, table: orders}}
    key: [id]
    columns: [{{name: id, type: bigint}}]
"""


def test_files_take_turns_and_each_connection_is_read_by_one_capture(tmp_path: Path) -> None:
    config = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    for name in ("till", "shop"):
        (config / "sources" / f"{name}.yaml").write_text(_table(name))
    with (config / "base.yaml").open("a") as base:
        base.write("connections: {till: {url: {env: TILL_URL}}, shop: {url: {env: SHOP_URL}}}\n")
    project = load_project({"HEADRACE_CONFIG": str(config), "HEADRACE_HOME": str(tmp_path)})

    def turn(name: str) -> object:
        return build_raw_asset(project, name, FOR_COMMANDS).op.tags["headrace/one_at_a_time"]

    assert turn("retail.stores") == turn("retail.transactions")
    assert len({turn("retail.stores"), turn("till.orders"), turn("shop.orders")}) == 3
