"""Lake and landing zone on S3, by configuration alone: the same tables as in local folders."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from pyarrow import fs

from tests import servers
from tests.e2e import installation
from tests.e2e.contents import contents
from tests.e2e.installation import FIRST, REPOSITORY, Installation, good_lines, line
from tests.object_store import ObjectStore

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

DAYS = [FIRST + timedelta(days=n) for n in range(3)]
EMPTY = DAYS[1]


@contextmanager
def _shop() -> Iterator[Installation]:
    root = Path(tempfile.mkdtemp(prefix="headrace-s3-"))
    root.chmod(0o755)
    made = installation.make(root, end=DAYS[-1] + timedelta(days=1))
    try:
        yield made
    finally:
        installation.end(made)
        shutil.rmtree(root, ignore_errors=True)


def _deliver(shop: Installation) -> None:
    shop.deliver_catalogue()
    for day in DAYS:
        if day != EMPTY:
            bad = line(day, 5, quantity=0, sales="2.00")
            shop.deliver(day, [*good_lines(day), line(day, 77, product=404), bad])


def _onto_s3(shop: Installation, store: ObjectStore) -> dict[str, str]:
    """Move the landing zone to S3 and say so in the configuration; returns what holds the keys."""
    keys = {
        "endpoint": store.settings.endpoint,
        "access_key": {"env": "SHOP_KEY"},
        "secret_key": {"env": "SHOP_SECRET"},
    }
    overlay = shop.config / "development.yaml"
    places = {
        name: {"uri": store.prefix(f"shop/{name}"), "s3": keys} for name in ("landing", "lake")
    }
    overlay.write_text(overlay.read_text() + yaml.safe_dump(places))
    fs.copy_files(
        str(shop.landing),
        f"{store.bucket}/shop/landing",
        source_filesystem=fs.LocalFileSystem(),
        destination_filesystem=_filesystem(store),
    )
    shutil.rmtree(shop.landing)
    return {
        "SHOP_KEY": store.settings.access_key_id or "",
        "SHOP_SECRET": store.settings.secret_access_key or "",
    }


def _filesystem(store: ObjectStore) -> fs.S3FileSystem:
    scheme, _, endpoint = (store.settings.endpoint or "").partition("://")
    return fs.S3FileSystem(
        access_key=store.settings.access_key_id,
        secret_key=store.settings.secret_access_key,
        region=store.settings.region,
        scheme=scheme,
        endpoint_override=endpoint,
    )


def _backfill(shop: Installation, keys: Mapping[str, str]) -> None:
    """Run the days in a process that knows of S3 what the configuration says, and nothing else."""
    command = ["backfill", "--from", str(DAYS[0]), "--to", str(DAYS[-1])]
    with shop.active():
        known = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-m", "headrace.cli.app", *command],
        cwd=REPOSITORY,
        env={**known, **keys},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_on_s3_every_table_holds_what_it_holds_in_local_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = servers.s3()
    with _shop() as local:
        _deliver(local)
        assert local.backfill(DAYS[0], DAYS[-1]).exit_code == 0
        expected = contents(local)
    assert len(expected["select * from warehouse.fact_sales"]) == 2 * 5
    assert len(expected["quarantine.retail_transactions"]) == 2
    with _shop() as on_s3:
        _deliver(on_s3)
        keys = _onto_s3(on_s3, store)
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        _backfill(on_s3, keys)
        found = contents(on_s3)
        assert not (on_s3.home / "lake").exists()
        assert not on_s3.landing.exists()
    for table, rows in expected.items():
        assert found[table] == rows, table
