"""Servers that several test folders use: one of each a process, started when first asked for.

Fixtures are made of these functions in the conftest.py of each folder.
"""

import atexit
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.embedded_postgres import server
from headrace.embedded_postgres.server import EmbeddedPostgres
from tests import mariadb_server, mongodb_server, object_store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What a test left need not outlive the machine: waiting for the disk is half of a small commit.
_SETTINGS = {**server.SETTINGS, "fsync": "off", "full_page_writes": "off"}


@cache
def postgres() -> EmbeddedPostgres:
    """A PostgreSQL with empty databases, gone when the process ends."""
    home = _open_folder("postgres")
    found = server.start(home, settings=_SETTINGS)
    _at_exit().callback(server.stop, home)
    return found


def start_postgres(folder: Path) -> EmbeddedPostgres:
    """Start the PostgreSQL of a home's `folder`, which must be open to all and have none yet.

    Its files are a copy, which takes a tenth of what making them does. Whoever works in the home
    then finds it running; end it with headrace.embedded_postgres.server.stop.
    """
    folder.mkdir(parents=True)
    # With owners: they belong to the account that runs PostgreSQL for root.
    subprocess.run(["/bin/cp", "-a", _made_once() / "data", folder / "data"], check=True)
    return server.start(folder, settings=_SETTINGS)


@cache
def _made_once() -> Path:
    """The folder of a PostgreSQL with empty databases that does not run."""
    folder = _open_folder("made")
    server.start(folder, settings=_SETTINGS)
    server.stop(folder)
    return folder


@cache
def mariadb() -> mariadb_server.MariaDB:
    """A MariaDB with an empty database `shop`, gone when the process ends."""
    return _at_exit().enter_context(mariadb_server.running(_open_folder("mariadb")))


@cache
def mongodb() -> mongodb_server.MongoServer:
    """A FerretDB without documents, gone when the process ends."""
    return _at_exit().enter_context(mongodb_server.running(_open_folder("mongodb")))


def require(name: str, reason: str | None) -> None:
    """Skip the test if a server is not installed, for a reason.

    Where `CI` is set it fails, unless HEADRACE_TESTS_WITHOUT names the server among others: .ci/run
    says so where it cannot be had.
    """
    if reason is None:
        return
    if os.environ.get("CI") and name not in os.environ.get("HEADRACE_TESTS_WITHOUT", "").split():
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def s3() -> object_store.ObjectStore:
    """A SeaweedFS with an empty bucket, gone when the process ends.

    Its address is put into the environment, where Sail looks for it at its first S3 path.
    """
    store = _at_exit().enter_context(object_store.running(_open_folder("s3")))
    os.environ.update(store.environment())
    return store


def sail() -> "SparkSession":
    """A session of Sail, in this process."""
    # Here, because most who use this module need no engine.
    from headrace.engine.session import SessionSettings, connect  # noqa: PLC0415

    return connect(SessionSettings())


@cache
def _at_exit() -> ExitStack:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack


def _open_folder(name: str) -> Path:
    # pytest's own folders are closed to the account that runs PostgreSQL for root.
    folder = Path(tempfile.mkdtemp(prefix=f"headrace-{name}-"))
    folder.chmod(0o755)
    _at_exit().callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
