"""Servers that several test folders use: one of each a process, started when first asked for.

Fixtures are made of these functions in the conftest.py of each folder.
"""

import atexit
import os
import shutil
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.warehouse import server
from headrace.warehouse.server import EmbeddedPostgres
from tests import object_store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@cache
def postgres() -> EmbeddedPostgres:
    """A PostgreSQL with empty databases, gone when the process ends."""
    home = _open_folder("postgres")
    found = server.start(home)
    _at_exit().callback(server.stop, home)
    return found


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
    from headrace.engine.session import EngineSettings, connect  # noqa: PLC0415

    return connect(EngineSettings())


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
