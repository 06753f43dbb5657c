import re
from pathlib import Path

import pytest

from docs.generators.markdown import anchor
from tests.docs.conftest import ROOT, Page, find_pages

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
TITLE = re.compile(r"^#+ (?P<title>.+?)\s*$", re.MULTILINE)
# A path of the repository in backticks, by its first folder.
CODE_PATH = re.compile(
    r"`(?P<path>(?:headrace|resources|io_managers|platform_assets|sensors|jobs|config|dbt|demo"
    r"|benchmarks|docs|tests|\.ci)/[\w./-]*)`"
)
# What a page tells its reader to write.
THEIRS = {"config/sources/shop.yaml"}


def anchors_of(path: Path) -> set[str]:
    titles = (match["title"] for match in TITLE.finditer(Page(path).prose))
    return {anchor(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)) for title in titles}


def broken_link(page: Page, target: str) -> str | None:
    """Why a relative link leads nowhere; None if it leads somewhere or is not relative."""
    if re.match(r"[a-z]+:", target):
        return None
    path, _, fragment = target.partition("#")
    found = (page.path.parent / path).resolve() if path else page.path
    if not found.exists():
        return f"{page.name}: {target}: no such file"
    if fragment and fragment not in anchors_of(found):
        return f"{page.name}: {target}: no such title"
    return None


@pytest.mark.parametrize("page", find_pages(), ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Page) -> None:
    targets = [match["target"] for match in LINK.finditer(page.prose)]
    assert [why for target in targets if (why := broken_link(page, target))] == []


def test_a_link_into_nowhere_is_seen() -> None:
    page = Page(ROOT / "README.md")
    assert broken_link(page, "docs/nowhere.md") == "README.md: docs/nowhere.md: no such file"
    assert broken_link(page, "docs/README.md#nowhere") is not None
    assert broken_link(page, "docs/README.md#how-to") is None
    assert broken_link(page, "https://nowhere.example/page") is None


def test_every_path_in_the_text_exists(pages: list[Page]) -> None:
    named = [(page, match["path"]) for page in pages for match in CODE_PATH.finditer(page.prose)]
    assert len(named) > 50
    lost = [pair for pair in named if pair[1] not in THEIRS and not (ROOT / pair[1]).exists()]
    assert [f"{page.name}: {path}" for page, path in lost] == []


def test_every_page_of_docs_is_found_from_the_first(pages: list[Page]) -> None:
    by_path = {page.path: page for page in pages}
    reached = {ROOT / "README.md"}
    queue = [by_path[ROOT / "README.md"]]
    while queue:
        page = queue.pop()
        for match in LINK.finditer(page.prose):
            target = (page.path.parent / match["target"].partition("#")[0]).resolve()
            if target in by_path and target not in reached:
                reached.add(target)
                queue.append(by_path[target])
    docs = {path for path in by_path if path.is_relative_to(ROOT / "docs")}
    assert sorted(path.name for path in docs - reached) == []


def test_pictures_are_small_and_say_what_they_show(pages: list[Page]) -> None:
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    text = "\n".join(page.text for page in pages)
    assert {picture.suffix for picture in pictures} <= {".svg", ".png"}
    assert [p.name for p in pictures if p.stat().st_size > 400 * 1024] == []
    assert [
        p.name for p in pictures if not re.search(rf"!\[[^\]]{{20,}}\]\(\S*{p.name}\)", text)
    ] == []
