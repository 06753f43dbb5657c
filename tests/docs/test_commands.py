import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from headrace.cli.app import app
from headrace.config.settings import Settings
from headrace.config.sources.models import parse_source
from tests.docs.conftest import Page, find_pages

COMMAND = re.compile(
    r"^(?:\$ )?(?:time )?(?:\.venv/bin/)?headrace (?P<words>[a-z-].*)$", re.MULTILINE
)
INLINE = re.compile(r"`(?:\.venv/bin/)?headrace (?P<words>[^`]+)`")
MAKE = re.compile(r"(?:^|`|\$ )make (?P<target>[a-z0-9-]+)", re.MULTILINE)
SHELL = ("", "bash", "sh", "shell")


def parse_error(words: list[str]) -> str | None:
    """What the command line says of these words, without running anything."""
    command, name = get_command(app), "headrace"
    if words[:1] == ["--help"]:
        return None
    while hasattr(command, "commands"):
        if not words:
            return f"{name}: no command"
        name, words = f"{name} {words[0]}", words[1:]
        if name.split()[-1] not in command.commands:
            return f"{name}: no such command"
        command = command.commands[name.split()[-1]]
    try:
        command.make_context(name, words)
    except Exception as error:  # noqa: BLE001 - Typer's own copy of click names no public base
        return f"{name}: {error}"
    return None


def words_of(line: str) -> list[str]:
    """The words of one command: what follows a pipe, a redirection or a comment is the shell's."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("|&;<>"):
            break
        words.append(word)
    return words


def commands_of(page: Page) -> list[list[str]]:
    blocks = [block for kind in SHELL for block in page.blocks(kind)]
    lines = [m["words"] for block in blocks for m in COMMAND.finditer(_joined(block))]
    return [words_of(line) for line in lines]


def _joined(block: str) -> str:
    """A statement that goes over several lines in quotes, on one."""
    return re.sub(r'"[^"]*"', lambda match: " ".join(match[0].split()), block)


@pytest.mark.parametrize("page", find_pages(), ids=lambda page: page.name)
def test_every_command_in_the_text_exists_as_written(page: Page) -> None:
    if page.name == "docs/reference/cli.md":
        return
    inline = [words_of(m["words"]) for m in INLINE.finditer(page.prose) if "…" not in m["words"]]
    # In a sentence the name of a command is enough; with options it is meant to be typed.
    known = get_command(app).commands  # type: ignore[attr-defined]
    typed = [words for words in inline if len(words) > 1 or words[0] not in known]
    assert [why for words in [*commands_of(page), *typed] if (why := parse_error(words))] == []


def test_a_command_that_is_not_there_is_seen() -> None:
    assert parse_error(["refill", "--from", "2017-01-01"]) == "headrace refill: no such command"
    assert parse_error(["backfill", "--since", "2017-01-01"]) is not None
    assert parse_error(["backfill", "--from", "2017-01-01", "--to", "2017-01-02"]) is None
    assert words_of('sql "select 1 # 2" --json | head # shown') == ["sql", "select 1 # 2", "--json"]


def test_every_make_target_in_the_text_exists(root: Path, pages: list[Page]) -> None:
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, flags=re.MULTILINE))
    named = {(p.name, m["target"]) for p in pages for m in MAKE.finditer(p.text)}
    assert {"demo", "test", "ui"} <= {target for _, target in named}
    assert sorted(pair for pair in named if pair[1] not in targets) == []


def test_the_readmes_source_is_one_that_the_configuration_takes(root: Path) -> None:
    (block,) = Page(root / "README.md").blocks("yaml")
    assert len(block.splitlines()) == 5
    source = parse_source(yaml.safe_load(block))
    assert [entity.name for entity in source.entities] == ["orders"]


def test_the_settings_that_a_guide_shows_are_valid(root: Path) -> None:
    blocks = Page(root / "docs/how-to/run-on-s3-and-a-spark-cluster.md").blocks("yaml")
    assert len(blocks) == 4
    for block in blocks:
        shown = yaml.safe_load(block)
        Settings.model_validate({"partitions": {"start": "2017-01-01"}, **shown})


def test_the_guide_to_rest_apis_shows_what_the_configuration_takes(root: Path) -> None:
    connections, *sources, part = Page(root / "docs/how-to/read-a-rest-api.md").blocks("yaml")
    shown = yaml.safe_load(connections)
    Settings.model_validate({"partitions": {"start": "2017-01-01"}, **shown})
    found = [parse_source(yaml.safe_load(block)) for block in sources]
    assert [source.name for source in found] == ["bank", "weather"]
    child = {**yaml.safe_load(sources[0]), "entities": yaml.safe_load(part)}
    assert parse_source(child).entities[0].name == "items"
