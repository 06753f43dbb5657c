"""The tutorial about an own database: its commands, run as written, show what it says they show."""

from collections.abc import Iterator

import pytest

from tests.e2e.tutorials import Tutorial, agrees

pytestmark = pytest.mark.e2e

TUTORIAL = Tutorial("own-database.md", "rental")
BLOCKS = TUTORIAL.blocks


@pytest.fixture(scope="module")
def printed() -> Iterator[dict[int, str]]:
    with TUTORIAL.run() as found:
        yield found


def test_every_block_of_the_tutorial_runs(printed: dict[int, str]) -> None:
    assert list(printed) == list(range(len(BLOCKS)))


@pytest.mark.parametrize(
    "number", TUTORIAL.shown, ids=lambda n: BLOCKS[n].commands.splitlines()[0][:40]
)
def test_the_commands_print_what_the_tutorial_shows(printed: dict[int, str], number: int) -> None:
    shown = BLOCKS[number].shown or ""
    assert agrees(shown, printed[number]), f"shown:\n{shown}\nprinted:\n{printed[number]}"
