import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from headrace.embedded_postgres import server
from headrace.project.home import Home
from headrace.project.home_setup import prepare_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prepared_home() -> Iterator[Path]:
    """A HEADRACE_HOME in which everything is ready for Dagster."""
    home = Path(tempfile.mkdtemp(prefix="headrace-home-"))
    home.chmod(0o755)
    variables = {"HEADRACE_HOME": str(home), "HEADRACE_CONFIG": str(ROOT / "config")}
    with mock.patch.dict(os.environ, variables):
        prepare_environment()
    yield home
    server.stop(Home(home).postgres)
    shutil.rmtree(home, ignore_errors=True)
