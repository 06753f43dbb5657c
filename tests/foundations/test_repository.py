import re
from pathlib import Path

import pytest

# The escapes and groups also keep this file from naming what it looks for.
REGISTRY_HOSTS = re.compile(
    r"pypi\.(org|io)|python(hosted)|repo1?\.maven|maven\.apache\.org|registry\.npmjs"
    r"|crates\.io/|proxy\.golang|deb\.debian|archive\.ubuntu|index[-]url"
)
# A home, a checkout or a mount of one machine.
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(home/\w|root/|Users/\w|work/|farm/)")


@pytest.mark.parametrize(
    ("what", "pattern"),
    [("the host of a package registry", REGISTRY_HOSTS), ("a path of one machine", MACHINE_PATHS)],
    ids=["registry", "path"],
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
