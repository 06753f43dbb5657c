import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from typer.main import get_command

from docs.generate import REFERENCE, WRITTEN, pages
from docs.generators import checks
from docs.generators.commands import command_names
from docs.generators.configuration import ROOTS, key_of, models_below, own_fields, title_of
from headrace.cli.app import app
from headrace.quality.registry import CHECKS

MODELS = {model for root in ROOTS.values() for model in models_below(*root)}


def test_the_generated_pages_are_up_to_date() -> None:
    kept = {
        path.relative_to(REFERENCE).as_posix(): path.read_text(encoding="utf-8")
        for path in REFERENCE.rglob("*.*")
        if path.is_file()
    }
    made = pages()
    assert kept.keys() == made.keys() | WRITTEN, "run make docs"
    assert [name for name in made if made[name] != kept[name]] == [], "run make docs"


def test_every_key_of_the_configuration_has_its_line_and_a_meaning() -> None:
    sections = (REFERENCE / "configuration.md").read_text(encoding="utf-8").split("\n### ")
    by_title = {section.partition("\n")[0]: section for section in sections}
    assert len(MODELS) > 15
    missing = [
        f"{model.__name__}.{name}"
        for model in MODELS
        for name, field in own_fields(model).items()
        if f"\n| `{key_of(name, field)}` |" not in by_title[title_of(model)]
        or not field.description
    ]
    assert missing == []


def test_every_command_is_in_the_reference() -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    names = [" ".join(words) for words in command_names()]
    assert {"check", "backfill", "audit star", "warehouse grant", "demo run"} <= set(names)
    assert [*names] == [" ".join(words) for words in words_below(get_command(app))]
    assert [name for name in names if f"\n## headrace {name}\n" not in text] == []
    assert [name for name in names if f"Usage: headrace {name}" not in text] == []


def words_below(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """The commands as the command line itself knows them: those of groups come last."""
    inner = getattr(command, "commands", {})
    yield from ((*words, name) for name in inner if not hasattr(inner[name], "commands"))
    for name in inner:
        if hasattr(inner[name], "commands"):
            yield from words_below(inner[name], *words, name)


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("settings.json", ["config/base.yaml"]),
        (
            "overlay.json",
            [f"config/{env}.yaml" for env in ("development", "staging", "production")],
        ),
        (
            "source.json",
            [
                f"config/sources/{name}.yaml"
                for name in ("catalogue", "locations", "loyalty", "retail", "weather")
            ],
        ),
        ("star.json", ["config/star.yaml"]),
    ],
)
def test_an_editor_takes_our_configuration_and_no_unknown_key(
    root: Path, schema: str, files: list[str]
) -> None:
    text = (REFERENCE / "schemas" / schema).read_text(encoding="utf-8")
    validator = Draft202012Validator(json.loads(text))
    for file in files:
        # As JSON has it: dates are texts.
        document = json.loads(json.dumps(yaml.safe_load((root / file).read_text()), default=str))
        assert [error.message for error in validator.iter_errors(document)] == []
        assert not validator.is_valid({**document, "unheard_of": 1})


def test_every_registered_check_is_documented() -> None:
    page = checks.page()
    assert [c.id for c in CHECKS if f"| `{c.id}` |" not in page] == []
    assert [r for c in CHECKS for r in c.reasons if f"`{r}`" not in page] == []
