import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.e2e import installation
from tests.e2e.installation import FIRST, Installation


@contextmanager
def scratch_root() -> Iterator[Path]:
    """A folder for an installation, gone afterwards."""
    # pytest's own folders are closed to the account that runs PostgreSQL for root.
    root = Path(tempfile.mkdtemp(prefix="headrace-e2e-"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _installation(days: int) -> Iterator[Installation]:
    with scratch_root() as root:
        made = installation.make(root, end=FIRST + timedelta(days=days))
        try:
            yield made
        finally:
            installation.end(made)


@pytest.fixture
def shop() -> Iterator[Installation]:
    """An empty installation of ten days."""
    with _installation(10) as made:
        yield made


@pytest.fixture(scope="module")
def long_shop() -> Iterator[Installation]:
    """An installation of 31 days that the tests of a module share."""
    with _installation(31) as made:
        yield made


def days(count: int) -> list[date]:
    return [FIRST + timedelta(days=n) for n in range(count)]
