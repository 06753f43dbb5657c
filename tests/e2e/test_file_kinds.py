"""JSON, workbooks, fixed width, zip archives and SFTP: from files to processed rows in one run."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.config.loader import load_project
from headrace.sources.connection_check import check_connections
from tests.e2e import installation
from tests.e2e.conftest import scratch_root
from tests.e2e.installation import FIRST, Installation
from tests.e2e.killing import kill_after_commit
from tests.sftp_server import PASSWORD, SftpServer, sftp_server
from tests.sources.workbooks import workbook

pytestmark = pytest.mark.e2e

SELECT = "group:raw or group:processed"
COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "name", "type": "string"},
    {"name": "sold_on", "type": "date"},
    {"name": "amount", "type": "decimal(12,2)"},
]
POSITIONS = {"id": [1, 4], "name": [5, 14], "sold_on": [15, 24], "amount": [25, 34]}
ROW = (1, "Anna", "2017-01-01", "12.50")


def zipped(name: str, content: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


OBJECT = dict(zip(POSITIONS, ROW, strict=True))
TEXT = f"{','.join(POSITIONS)}\n{','.join(map(str, ROW))}\n"
# By entity: the rest of its extract, and the name and content of its file.
KINDS: dict[str, tuple[dict[str, Any], str, bytes]] = {
    "lines": (
        *({"path": "{d}.jsonl", "format": {"type": "json_lines"}}, "2017-01-01.jsonl"),
        json.dumps(OBJECT).encode(),
    ),
    "documents": (
        {"path": "{d}.json", "format": {"type": "json", "records": "data"}},
        "2017-01-01.json",
        json.dumps({"data": [OBJECT]}).encode(),
    ),
    "sheets": (
        *({"path": "{d}.xlsx", "format": {"type": "excel"}}, "2017-01-01.xlsx"),
        workbook({"Sales": [[*POSITIONS], ROW]}),
    ),
    "widths": (
        {"path": "{d}.txt", "format": {"type": "fixed_width", "positions": POSITIONS}},
        "2017-01-01.txt",
        b"1   Anna      2017-01-0112.50     \n",
    ),
    "members": ({"path": "{d}.zip!*.csv"}, "2017-01-01.zip", zipped("sales.csv", TEXT)),
    "marked": (
        {
            "path": "in/{d}.csv",
            "arrival": {"type": "marker", "path": "{path}.done"},
            "archive_to": "archive",
        },
        "in/2017-01-01.csv",
        TEXT.encode(),
    ),
}


def entity(name: str, extract: dict[str, Any]) -> dict[str, Any]:
    path = extract["path"].replace("{d}", "{date:%Y-%m-%d}")
    return {
        "name": name,
        "extract": {"mode": "files", **extract, "path": path},
        "key": ["id"],
        "event_time": "sold_on",
        "columns": COLUMNS,
    }


STAR = {
    "calendar": {"name": "dim_date", "start": FIRST, "end": date(2017, 12, 31)},
    "dimensions": [
        {
            "name": "dim_person",
            "entity": "shop.lines",
            "natural_key": {"id": "id"},
            "attributes": {"name": "name"},
        }
    ],
    "facts": [
        {
            "name": "fact_sales",
            "entity": "shop.documents",
            "grain": ["id"],
            "event_time": "sold_on",
            "dimensions": [{"dimension": "dim_person", "natural_key": {"id": "id"}}],
            "columns": ["id"],
            "measures": ["amount"],
        }
    ],
}


@dataclass(frozen=True)
class Shop:
    """An installation whose files are of every kind, and the server that has some of them."""

    made: Installation
    server: SftpServer

    def write(self, path: str, content: bytes) -> None:
        target = self.made.landing / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def processed(self, name: str) -> list[tuple[Any, ...]]:
        rows = self.made.lake(f"processed.{name}")
        return [tuple(str(row[column]) for column in POSITIONS) for row in rows]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("sftp")
    with (
        pytest.MonkeyPatch.context() as environment,
        sftp_server(folder) as server,
        scratch_root() as root,
    ):
        environment.setenv("PARTNER_PASSWORD", PASSWORD)
        made = installation.make(root, end=date(2017, 1, 3))
        shutil.rmtree(made.config / "views", ignore_errors=True)
        (made.config / "sources" / "retail.yaml").unlink()
        shop = Shop(made, server)
        declare(shop)
        for _, path, content in KINDS.values():
            shop.write(path, content)
        (folder / "sales-2017-01-01.csv").write_text(TEXT)
        try:
            yield shop
        finally:
            installation.end(made)


def declare(shop: Shop) -> None:
    """Write the configuration."""
    base = shop.made.config / "base.yaml"
    settings = yaml.safe_load(base.read_text())
    settings["connections"] = {"partner": shop.server.connection()}
    base.write_text(yaml.safe_dump(settings))
    ours = [entity(name, extract) for name, (extract, _, _) in KINDS.items()]
    theirs = [entity("sales", {"path": "sales-{d}.csv"})]
    for source in (
        {"name": "shop", "connector": "files", "entities": ours},
        {
            "name": "partner",
            "connector": "files",
            "connection": "partner",
            "entities": theirs,
        },
    ):
        path: Path = shop.made.config / "sources" / f"{source['name']}.yaml"
        path.write_text(yaml.safe_dump(source))
    (shop.made.config / "star.yaml").write_text(yaml.safe_dump(STAR))


def test_every_kind_of_file_becomes_the_same_rows(shop: Shop) -> None:
    with shop.made.active():
        checked = check_connections(load_project(), 20)
    assert (checked.faults, checked.found) == ((), {"partner.sales": "1 files"})
    result = shop.made.backfill(FIRST, FIRST, select=SELECT)
    held = [(bad.asset, bad.why) for bad in result.bad]
    said = "in/2017-01-01.csv waits for its marker file in/2017-01-01.csv.done"
    assert held == [("raw/shop_marked", said)]
    names = [f"shop_{name}" for name in KINDS if name != "marked"]
    for name in (*names, "partner_sales"):
        assert shop.processed(name) == [tuple(map(str, ROW))], name


@pytest.mark.crash
def test_a_file_moves_after_its_commit_though_the_run_was_killed_between(shop: Shop) -> None:
    shop.write("in/2017-01-01.csv.done", b"")
    only = 'key:"raw/shop_marked"'
    kill_after_commit(shop.made, "raw/shop_marked", FIRST, select=only)
    folder = shop.made.landing
    assert (folder / "in/2017-01-01.csv").exists()
    for _ in range(2):  # An archived file is not missing afterwards.
        assert shop.made.backfill(FIRST, FIRST, select=only).exit_code == 0
        assert [row["id"] for row in shop.made.lake("raw.shop_marked")] == ["1"]
        assert [path.name for path in (folder / "in").iterdir()] == []
        assert len([*(folder / "archive/in").iterdir()]) == 2
