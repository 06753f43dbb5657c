import re
from pathlib import Path

import pytest

# Written with classes of one character, so that this file does not name what it looks for.
REGISTRY_HOSTS = re.compile(
    r"py[p]i\.org|python[h]osted|rep[o]1?\.maven|maven\.apach[e]\.org|registry\.n[p]mjs"
    r"|crates\.i[o]/|proxy\.gol[a]ng|deb\.deb[i]an|index-ur[l]"
)
# A home, a checkout or a mount of one machine. Paths inside a container image are not ones.
MACHINE_PATHS = re.compile(
    r"(?<![\w./-])/(?:hom[e]/(?!user\b)[a-z]|roo[t]/|Use[r]s/[a-z]|wor[k]/|far[m]/)"
)


@pytest.mark.parametrize(
    ("what", "pattern"),
    [("the host of a package registry", REGISTRY_HOSTS), ("a path of one machine", MACHINE_PATHS)],
)
def test_no_file_names(what: str, pattern: re.Pattern[str], kept_files: list[Path]) -> None:
    assert len(kept_files) > 20
    named = [
        f"{file}:{number} names {what}: {line.strip()[:100]}"
        for file in kept_files
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert named == []


def test_no_file_is_larger_than_a_mebibyte(kept_files: list[Path]) -> None:
    assert [file.name for file in kept_files if file.stat().st_size > 2**20] == []
