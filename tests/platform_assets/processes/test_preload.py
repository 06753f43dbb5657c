"""What the forkserver imports exists: it passes over a module that is missing without a word."""

from importlib.util import find_spec

import pytest

from platform_assets.processes.preload import PRELOADED


@pytest.mark.parametrize("name", PRELOADED)
def test_a_preloaded_module_is_there(name: str) -> None:
    assert find_spec(name) is not None
