import re
from pathlib import Path

PARTS = ["Context", "Decision", "Cost", "What would change our mind"]


def test_each_decision_is_a_page_with_the_same_parts(root: Path) -> None:
    records = sorted((root / "docs" / "decisions").glob("[0-9]*.md"))
    assert len(records) >= 10
    numbers = [int(record.name[:4]) for record in records]
    # A number is taken when a record is begun: one that is never finished leaves a gap.
    assert len({*numbers}) == len(numbers)
    for number, record in zip(numbers, records, strict=True):
        text = record.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), record.name
        assert "\n**Status:** " in text, record.name
        assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == PARTS, record.name


def test_the_list_of_decisions_has_their_titles(root: Path) -> None:
    folder = root / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    for record in folder.glob("[0-9]*.md"):
        number, _, title = record.read_text(encoding="utf-8").partition("\n")[0][2:].partition(". ")
        assert f"{number}. [{title}]({record.name})" in index
