"""Generates docs/reference/cli.md from the help of every command."""

from collections.abc import Iterator

from typer import Typer
from typer.testing import CliRunner

from docs.generators.markdown import MADE, table
from docs.generators.wording import COMMANDS, EXIT_CODES
from headrace.cli.app import app

# The help must not depend on the terminal.
_TERMINAL = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": None}


def page() -> str:
    """The page."""
    codes = [(str(code), meaning) for code, meaning in EXIT_CODES.items()]
    parts = [MADE, "# The command line\n", COMMANDS]
    parts += ["## Exit codes\n", table(("code", "meaning"), codes)]
    for words in command_names():
        parts += [f"## {' '.join(['headrace', *words])}\n", f"```\n{_help(words)}\n```\n"]
    return "\n".join(parts)


def command_names() -> Iterator[list[str]]:
    """The words of every command, without `headrace`."""
    yield from _below(app, [])


def _below(group: Typer, words: list[str]) -> Iterator[list[str]]:
    for command in group.registered_commands:
        name = command.name or str(getattr(command.callback, "__name__", ""))
        yield [*words, name.replace("_", "-")]
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from _below(inner.typer_instance, [*words, str(inner.name)])


def _help(words: list[str]) -> str:
    done = CliRunner().invoke(
        app, [*words, "--help"], prog_name="headrace", env=_TERMINAL, catch_exceptions=False
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
