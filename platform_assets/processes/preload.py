"""The modules that the forkserver imports before it forks, so that a run need not.

`python -m platform_assets.processes.preload` imports them and ends. `make setup` runs it once, so
that Python stores the compiled modules. Without stored bytecode, as with PYTHONDONTWRITEBYTECODE,
each process compiles 4,000 modules again, which takes 7 s.
"""

import warnings
from importlib import import_module

from headrace.engine.session import ALLOCATOR

# Modules that the definitions do not import, and that a run imports when it first uses them.
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
    "dagster._grpc.impl",
    "dagster._utils.hosted_user_process",
    "dagster_dbt",
    "dagster_postgres",
    "dbt.adapters.postgres",
    "dbt.cli.main",
    "dbt.task.build",
    "dbt.task.list",
    "dbt_common.clients.agate_helper",
    "fsspec.implementations.local",
    "headrace.lake.catalog",
    "headrace.quality.pandera_import",
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
    "upath",
    "upath.implementations.local",
)
PRELOADED = ("platform_assets.definitions", *_LATE)

# Libraries read these variables at import. Without the last two, OpenBLAS and Arrow's allocator
# start threads at import, and a fork of a process with several threads is not safe.
PRELOAD_ENVIRONMENT = {
    **ALLOCATOR,
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def preload() -> None:
    """Import the modules of PRELOADED, which starts no thread and opens no connection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in PRELOADED:
            import_module(name)


if __name__ == "__main__":
    preload()
