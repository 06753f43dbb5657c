"""Words that the glossary lists as not used are not in names that the library defines."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# Those of the glossary's column "not" that have no other meaning in Python or in the field.
UNUSED_WORDS = frozenset(
    {
        *("told", "mention", "mentions", "mentioned", "mentioning", "mentioner"),
        *("draft", "drafts", "shelf", "judge", "judged", "guard", "guarding", "strangers"),
        *("slice", "slices", "overwritten", "leftover", "leftovers", "gone"),
        *("followed", "floor", "referee", "anew"),
    }
)
# Number of such names that a package still has. A number may only shrink.
REMAINING: dict[str, int] = {}
# Packages beside headrace's own.
FURTHER = ("benchmarks", "demo", "io_managers", "jobs", "platform_assets", "resources", "sensors")


def defined_names(tree: ast.AST) -> Iterator[str]:
    """Names of functions, classes, parameters, fields and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def words_of(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_names_use_the_words_of_the_glossary(root: Path) -> None:
    found: dict[str, set[str]] = {}
    modules = [(path, root / "headrace") for path in (root / "headrace").rglob("*.py")]
    modules += [(path, root) for name in FURTHER for path in (root / name).rglob("*.py")]
    for path, parent in modules:
        package = path.relative_to(parent).parts[0].removesuffix(".py")
        names = {path.stem, *defined_names(ast.parse(path.read_text(encoding="utf-8")))}
        found.setdefault(package, set()).update(n for n in names if words_of(n) & UNUSED_WORDS)
    too_many = {
        package: sorted(names)
        for package, names in found.items()
        if len(names) > REMAINING.get(package, 0)
    }
    assert too_many == {}, "use the glossary's words (docs/reference/glossary.md)"


def test_a_term_of_the_glossary_is_defined_once_and_has_a_source(root: Path) -> None:
    text = (root / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    terms = [row for row in rows if row[0] not in {"term", "column"} and row[0][0] != "`"]
    assert len(terms) >= 70
    assert [t for t, count in Counter(row[0] for row in terms).items() if count > 1] == []
    assert [row[0] for row in terms if len(row) != 4 or not row[1].endswith(".")] == []
    assert [row[0] for row in terms if not row[2]] == []
