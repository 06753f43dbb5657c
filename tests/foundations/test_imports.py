import json
import subprocess
import sys
from pathlib import Path

import pytest


def python(root: Path, code: str, *flags: str) -> str:
    """What a fresh interpreter prints that runs `code` in the folder of the project."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_dbt_project_does_not_shadow_the_dbt_package(root: Path) -> None:
    assert not (root / "dbt" / "__init__.py").exists()
    origin = python(root, "import dbt.cli.main as m; print(m.__file__)").strip()
    assert "site-packages" in Path(origin).parts


@pytest.mark.parametrize("module", ["headrace", "headrace.config.loader", "headrace.cli.app"])
def test_the_library_starts_without_its_heavy_parts(root: Path, module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.split(".")[0] for name in json.loads(python(root, code))}
    assert "headrace" in loaded
    assert loaded.isdisjoint({"dagster", "pyspark", "pandas", "dbt"})


def test_imports_run_one_way(root: Path) -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--no-logo", "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
