"""The Postgres example in io_managers/README.md works as written, and alone."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

README = Path(__file__).parents[2] / "io_managers" / "README.md"


# Dagster 1.13 calls its own deprecated property for every nested resource.
@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
def test_the_example_publishes_a_month_and_reads_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text().partition("## Postgres")[2]
    code = section.partition("```python")[2].partition("```")[0]
    monkeypatch.setenv("WAREHOUSE_URL", url)
    found: dict[str, object] = {"__name__": "example"}
    exec(compile(code, str(README), "exec"), found)  # noqa: S102
    definitions = found["defs"]
    assert isinstance(definitions, dg.Definitions)
    orders, customers = dg.AssetKey(["shop", "orders"]), dg.AssetKey(["shop", "customers"])
    tags = {
        "dagster/asset_partition_range_start": "2024-01-01",
        "dagster/asset_partition_range_end": "2024-01-31",
    }
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        first = job.execute_in_process(asset_selection=[orders], tags=tags, instance=instance)
        second = job.execute_in_process(asset_selection=[customers], instance=instance)
    assert first.success
    assert second.success
    assert second.output_for_node("shop__customers").to_pylist() == [
        {"customer": 7, "amount_sum": 31 * 9.5}
    ]


def test_it_needs_neither_iceberg_nor_the_rest_of_the_platform() -> None:
    program = (
        "import sys; sys.modules['pyiceberg'] = sys.modules['pyspark'] = None;"
        "import io_managers.postgres;"
        "print([n for n in sys.modules if n.startswith(('headrace.', 'platform_assets'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "headrace.warehouse.warehouse" in found
    for foreign in ("platform_assets", "headrace.config", "headrace.engine", "headrace.lake"):
        assert foreign not in found
