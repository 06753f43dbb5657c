import pytest

from demo.stage import StagedLanding, stage_landing


@pytest.fixture(scope="session")
def year(tmp_path_factory: pytest.TempPathFactory) -> StagedLanding:
    """The whole year; read only."""
    return stage_landing(tmp_path_factory.mktemp("year"))
