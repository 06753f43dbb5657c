import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def wanted(root: Path) -> list[Requirement]:
    lines = (root / "requirements.in").read_text().splitlines()
    return [Requirement(text) for line in lines if (text := line.split("#")[0].strip())]


@pytest.fixture(scope="module")
def locked(root: Path) -> dict[str, tuple[Version, int]]:
    """Version and number of hashes of each package in the lock."""
    text = (root / "requirements.lock").read_text()
    entries = re.findall(r"^([\w.-]+)==([^\s;]+)(.*(?:\n +--hash.*)*)", text, flags=re.MULTILINE)
    return {
        canonicalize_name(name): (Version(version), len(HASH.findall(hashes)))
        for name, version, hashes in entries
    }


def test_every_wanted_package_is_locked_at_a_version_that_fits(
    wanted: list[Requirement], locked: dict[str, tuple[Version, int]]
) -> None:
    assert len(wanted) > 30
    pinned = {name: version for name, (version, _) in locked.items()}
    unfit = [
        str(requirement)
        for requirement in wanted
        if (version := pinned.get(canonicalize_name(requirement.name))) is None
        or version not in requirement.specifier
    ]
    assert unfit == []


def test_every_locked_package_has_its_hash(locked: dict[str, tuple[Version, int]]) -> None:
    assert len(locked) > 100
    assert [name for name, (_, hashes) in locked.items() if not hashes] == []


def test_every_top_level_package_is_installed_and_no_other(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {path.parent.name for path in root.glob("[a-z]*/__init__.py")}
    assert {pattern.removesuffix("*") for pattern in patterns} == packages - {"benchmarks"}
