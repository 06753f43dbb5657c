"""The code location: it loads alone, and declares what was reviewed."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Loads the code location with every door shut: no socket, no process, no file opened to write.
_LOCKED_LOAD = """
import builtins, io, os, socket, subprocess, sys, warnings
import dagster, dagster_dbt, pyspark.sql, pyiceberg.catalog.sql  # libraries may set up caches

def closed(*args, **kwargs):
    raise AssertionError(f"not while loading definitions: {args[:2]}")

def reading(open_):
    def opened(file, mode="r", *args, **kwargs):
        if set(mode) & set("wxa+"):
            closed("open", file)
        return open_(file, mode, *args, **kwargs)
    return opened

sys.dont_write_bytecode = True
socket.socket.connect = closed
socket.socket.bind = closed
subprocess.Popen.__init__ = closed
os.mkdir = os.makedirs = closed
builtins.open = reading(builtins.open)
io.open = reading(io.open)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from platform_assets.definitions import defs
    found = defs.load() if hasattr(defs, "load") else defs()
unstable = dagster.BetaWarning, dagster.PreviewWarning
beta = [one for one in told if issubclass(one.category, unstable)]
assert not beta, beta[0]
keys = sorted(key.to_user_string() for key in found.resolve_asset_graph().get_all_asset_keys())
print("\\n".join(keys))
"""

ASSETS = """\
curated/dim_customer
curated/dim_date
curated/dim_location
curated/dim_product
curated/fact_sales
curated/fact_weather
marts/int_customer_basket
marts/mart_customer_rfm
marts/mart_daily_department
marts/mart_product_month
marts/mart_store_hour_weather
processed/catalogue_products
processed/locations_stores
processed/loyalty_households
processed/retail_transactions
processed/weather_hours
raw/catalogue_products
raw/locations_stores
raw/loyalty_households
raw/retail_transactions
raw/weather_hours
warehouse/dim_customer
warehouse/dim_date
warehouse/dim_location
warehouse/dim_product
warehouse/fact_sales
warehouse/fact_weather"""


def test_the_code_location_loads_without_network_and_without_writing(prepared_home: Path) -> None:
    environment = {
        **os.environ,
        "HEADRACE_HOME": str(prepared_home),
        "HEADRACE_CONFIG": str(ROOT / "config"),
    }
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _LOCKED_LOAD],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == ASSETS


# A run from the command line declares fewer checks, and does without dagster-dbt.
_BOTH = """
import json, sys
from headrace.config.loader import load_project
from platform_assets.definitions import build_definitions
from platform_assets.metadata import FOR_COMMANDS, FOR_UI

def described(declarations):
    specs = build_definitions(load_project(), None, declarations).resolve_all_asset_specs()
    return {
        spec.key.to_user_string(): [
            sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            spec.group_name, spec.code_version, sorted(spec.kinds), str(spec.partitions_def),
        ]
        for spec in specs
    }

by_command = described(FOR_COMMANDS)
imported = "dagster_dbt" in sys.modules
print(json.dumps([by_command, described(FOR_UI), imported]))
"""


def test_runs_from_the_command_line_see_the_assets_of_the_ui(prepared_home: Path) -> None:
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _BOTH],
        cwd=ROOT,
        env={
            **os.environ,
            "HEADRACE_HOME": str(prepared_home),
            "HEADRACE_CONFIG": str(ROOT / "config"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    by_command, of_the_ui, imported = json.loads(loaded.stdout)
    assert by_command == of_the_ui
    assert len(by_command) == len(ASSETS.splitlines())
    assert not imported
