"""The same rows by dlt, as Parquet files: run by a Python that has dlt, without this project.

`python dlt_load.py postgres|mysql|json_lines SOURCE FOLDER`
"""

import json
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    """Load the table or the file and print the figures as JSON."""
    task, source, folder = sys.argv[1:]
    # By name: the project has it not.
    dlt: Any = import_module("dlt")
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=f"{folder}/state",
        destination=dlt.destinations.filesystem(f"file://{folder}/data"),
        dataset_name="raw",
    )
    began, used = time.monotonic(), time.process_time()
    if task == "json_lines":
        files: Any = import_module("dlt.sources.filesystem")
        loaded = files.filesystem(f"file://{source}", file_glob="*.jsonl") | files.read_jsonl()
        loaded = loaded.with_name("orders")
    else:
        kind = {"postgres": "postgresql+psycopg2://", "mysql": "mysql+pymysql://"}[task]
        loaded = import_module("dlt.sources.sql_database").sql_table(
            credentials=kind + source.partition("://")[2],
            table="bench_orders",
            backend="pyarrow",
            chunk_size=100_000,
            reflection_level="full_with_precision",
        )
    pipeline.run(loaded, table_name="orders", loader_file_format="parquet")
    written = [path for path in Path(folder, "data").rglob("orders/*.parquet") if path.is_file()]
    pq: Any = import_module("pyarrow.parquet")
    found = {
        "rows": sum(pq.read_metadata(path).num_rows for path in written),
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - used,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "version": dlt.__version__,
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
