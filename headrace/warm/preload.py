"""Everything that a backfill imports, imported, and what its libraries make of it at first use.

Belongs here: the names of the modules.
Elsewhere: the process that stays with them (headrace.warm.server).

`python -m headrace.warm.preload` imports them and ends: `make setup` does so once, because Python
then keeps what it compiled. Without that, as where PYTHONDONTWRITEBYTECODE is set, each command
compiles 4,000 modules anew, which takes 7 s.
"""

import warnings
from importlib import import_module
from importlib.metadata import entry_points

# What is imported where it is used, and not with the orchestration.
_LATE = (
    "dagster._core.definitions.antlr_asset_selection.antlr_asset_selection",
    "dagster._core.definitions.external_asset",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.execute_in_process",
    "dagster._core.instance.factory",
    "dagster._core.secrets.env_file",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.system_config.composite_descent",
    "dagster_postgres",
    # What dbt's process is forked with (headrace.dbt_worker).
    "dbt.adapters.postgres",
    "dbt.cli.main",
    "dbt.task.build",
    "dbt.task.list",
    "dbt_common.clients.agate_helper",
    "fsspec.implementations.local",
    "grpc._channel",
    "headrace.lake.catalog",
    "headrace.quality.lean_pandera",
    "psycopg2.extras",
    "pyarrow.acero",
    "pyarrow.csv",
    "pyarrow.parquet",
    "pyiceberg.avro.decoder_fast",
    "pysail.spark",
    "pyspark.sql.connect.client.retries",
    "pyspark.sql.connect.functions",
    "pyspark.sql.connect.session",
    "pyspark.sql.connect.window",
    "rich.progress",
    "rich.table",
    "typer",
    "upath",
    "upath.implementations.local",
)

# What dbt checks its settings by: made when it is first used, in half a second.
_WITH_SCHEMA = {
    "dbt.adapters.postgres.connections": ("PostgresCredentials",),
    "dbt.contracts.project": ("Configuration", "PackageConfig", "Project", "ProjectFlags"),
    "dbt.contracts.selection": ("SelectorFile",),
}


def preload() -> None:
    """Import them all; nothing is started or connected.

    `headrace.cli` is left out: its consoles look at the terminal and the environment when they are
    imported, and both are the caller's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for point in entry_points(group="headrace"):
            import_module(point.value.partition(":")[0])
        for name in _LATE:
            import_module(name)
        for module, classes in _WITH_SCHEMA.items():
            for name in classes:
                getattr(import_module(module), name).json_schema()


if __name__ == "__main__":
    preload()
