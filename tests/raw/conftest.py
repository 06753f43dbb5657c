"""Fixtures of the capture tests."""

from pathlib import Path

import pytest

from tests.raw.building import Raw, entity, undated


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    """An empty raw table of orders whose files are named by day."""
    return Raw(tmp_path, entity())


@pytest.fixture
def undated_raw(tmp_path: Path) -> Raw:
    """An empty raw table of orders whose rows say their day."""
    return Raw(tmp_path, undated())
