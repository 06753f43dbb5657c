"""The example in io_managers/README.md works as written, and alone."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from headrace.lake.storage import LakeSettings

README = Path(__file__).parents[2] / "io_managers" / "README.md"


# Dagster 1.13 calls its own deprecated property for every nested resource.
@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
def test_the_example_publishes_a_month_and_reads_it(
    settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text().partition("## Iceberg")[2]
    code = section.partition("```python")[2].partition("```")[0]
    monkeypatch.setenv("LAKE_CATALOG", settings.catalog_uri)
    monkeypatch.setenv("LAKE_FOLDER", settings.location)
    found: dict[str, object] = {"__name__": "example"}
    exec(compile(code, str(README), "exec"), found)  # noqa: S102
    definitions = found["defs"]
    assert isinstance(definitions, dg.Definitions)
    tags = {
        "dagster/asset_partition_range_start": "2024-01-01",
        "dagster/asset_partition_range_end": "2024-01-31",
    }
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(tags=tags)
    assert result.success
    revenue = result.output_for_node("shop__revenue")
    assert revenue.column("amount_sum").to_pylist() == [9.5] * 31


def test_it_needs_neither_spark_nor_the_rest_of_the_platform() -> None:
    program = (
        "import sys; sys.modules['pyspark'] = None; import io_managers.iceberg; "
        "print([n for n in sys.modules if n.startswith(('headrace.', 'platform_assets'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "headrace.lake.table" in found
    for foreign in ("platform_assets", "headrace.config", "headrace.engine", "headrace.warehouse"):
        assert foreign not in found
