"""The tutorial about own files: its commands, run as written, show what it says they show."""

from collections.abc import Iterator

import pytest

from tests.e2e.tutorials import Block, Tutorial, agrees, blocks_of

pytestmark = pytest.mark.e2e

TUTORIAL = Tutorial("own-files.md", "shop")
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


def test_what_the_tutorial_shows_ends_in_a_mart() -> None:
    assert len(TUTORIAL.shown) >= 8
    assert "marts.mart_daily_country" in BLOCKS[TUTORIAL.shown[-1]].commands


@pytest.mark.parametrize(
    ("shown", "printed_text", "expected"),
    [
        ("a  1\nb  2\n", "a  1   \nb  2\n", True),
        ("a  1\nb  2\n", "a  1\nb  3\n", False),
        ("a  1\n", "a  1\nb  2\n", False),
        ("a …\n", "a 17:00\n", True),
        ("a …\n", "a 17:00\nb\n", False),
        ("…\nb\n", "1\n2\nb\n", True),
        ("…\nb\n", "b\n", True),
        ("…\nb\n", "1\nc\n", False),
        ("a.b\n", "axb\n", False),
    ],
)
def test_a_shown_output_is_compared_line_by_line(
    shown: str, printed_text: str, *, expected: bool
) -> None:
    assert agrees(shown, printed_text) is expected


def test_a_block_that_is_not_shown_or_keeps_running_is_not_compared() -> None:
    markdown = "```text\nx\n```\n```bash\na\n```\n```bash keeps-running\nb\n```\n```text\ny\n```\n"
    assert blocks_of(markdown) == [Block("a\n")]
