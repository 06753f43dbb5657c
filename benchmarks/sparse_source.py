"""A sparse source: small reference files and two facts in undated files over six years.

`python -m benchmarks.sparse_source FOLDER [none|day|…]` measures one `headrace backfill` of all
days: seconds, CPU seconds of the command and of PostgreSQL, memory, disk.
"""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

FIRST, DAYS = date(2018, 1, 1), 2_251
_MEMBERS = {
    "products": 3_000,
    "customers": 2_000,
    "stores": 40,
    "suppliers": 120,
    "brands": 60,
    "channels": 8,
    "currencies": 12,
    "regions": 30,
    "employees": 300,
}
_FACTS = {"orders": (61_000, ("products", "customers", "stores", "channels", "employees"))}
_FACTS["deliveries"] = (29_000, ("products", "suppliers", "regions", "currencies", "brands"))
_CONFIG, _DBT = (Path(__file__).parents[1] / "demo/files" / name for name in ("config", "dbt"))


def make(folder: Path, partition: str = "none") -> None:
    """Write the landing zone and the configuration of an installation into a folder.

    Args:
        folder: Its `home` is HEADRACE_HOME, its `config` the configuration.
        partition: Grain of the facts' entities.
    """
    drawn = random.Random(20180101)  # noqa: S311  # the same files each time
    landing, config = folder / "home" / "landing", folder / "config"
    landing.mkdir(parents=True)
    (config / "sources").mkdir(parents=True)
    shutil.copy(_CONFIG / "base.yaml", config)
    for name, count in _MEMBERS.items():
        rows = (f"{n},{name} {n},{drawn.choice('ABCDEF')} group" for n in range(1, count + 1))
        _write(landing / f"{name}.csv", f"{_id(name)},name,kind", rows)
    for name, (count, members) in _FACTS.items():
        rows = (_fact_row(n, members, drawn) for n in range(1, count + 1))
        _write(
            landing / f"{name}.csv", ",".join([_id(name), "at", *map(_id, members), "amount"]), rows
        )
    last = FIRST + timedelta(days=DAYS)
    settings = {"partitions": {"start": FIRST, "end": last}, "dbt_project": str(_DBT)}
    _dump(config / "development.yaml", settings)
    entities = [*map(_reference, _MEMBERS), *(_fact_entity(n, partition) for n in _FACTS)]
    _dump(
        config / "sources" / "erp.yaml",
        {"name": "erp", "connector": "files", "entities": entities},
    )
    _dump(config / "star.yaml", _star(last))


def _fact_row(number: int, members: tuple[str, ...], drawn: random.Random) -> str:
    day = FIRST + timedelta(days=drawn.randrange(DAYS))
    keys = (str(drawn.randint(1, _MEMBERS[name])) for name in members)
    return ",".join(
        [str(number), f"{day} 10:00:00", *keys, f"{drawn.randint(100, 99_999) / 100:.2f}"]
    )


def _reference(name: str) -> dict[str, Any]:
    columns = [{"name": _id(name), "type": "bigint"}]
    columns += [{"name": text, "type": "string"} for text in ("name", "kind")]
    extract = {"mode": "files", "path": f"{name}.csv"}
    return {"name": name, "extract": extract, "key": [_id(name)], "columns": columns}


def _fact_entity(name: str, partition: str) -> dict[str, Any]:
    columns: list[dict[str, Any]] = [
        {"name": _id(name), "type": "bigint"},
        {"name": "at", "type": "timestamp", "required": True},
        *({"name": _id(member), "type": "bigint"} for member in _FACTS[name][1]),
        {"name": "amount", "type": "decimal(12,2)", "required": True},
    ]
    extract = {"mode": "files", "path": f"{name}.csv", "partition_by": "at"}
    made = {"name": name, "extract": extract, "key": [_id(name)], "columns": columns}
    return made | {"partition": partition}


def _star(last: date) -> dict[str, Any]:
    return {
        "calendar": {"name": "dim_date", "start": FIRST, "end": last},
        "dimensions": [
            {
                "name": f"dim_{name}",
                "entity": f"erp.{name}",
                "natural_key": {_id(name): _id(name)},
                "attributes": {"name": "name", "kind": "kind"},
            }
            for name in _MEMBERS
        ],
        "facts": [
            {
                "name": f"fact_{name}",
                "entity": f"erp.{name}",
                "grain": [_id(name)],
                "event_time": "at",
                "dimensions": [
                    {"dimension": f"dim_{member}", "natural_key": {_id(member): _id(member)}}
                    for member in members
                ],
                "columns": [_id(name), "at"],
                "measures": ["amount"],
            }
            for name, (_, members) in _FACTS.items()
        ],
    }


def _id(name: str) -> str:
    return f"{name}_id"


def _write(path: Path, header: str, rows: Any) -> None:
    path.write_text("\n".join([header, *rows, ""]))


def _dump(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values))


def measure(folder: Path) -> dict[str, Any]:
    """Run all days once by the command line, including the first start of PostgreSQL.

    `peak_mib` is of the largest process; `disk_mb` includes PostgreSQL's files.
    """
    home = folder / "home"
    environment = {
        **os.environ,
        "HEADRACE_HOME": str(home),
        "HEADRACE_CONFIG": str(folder / "config"),
    }
    headrace = str(Path(sys.executable).parent / "headrace")
    last = FIRST + timedelta(days=DAYS - 1)
    command = [headrace, "backfill", "--from", str(FIRST), "--to", str(last)]
    command += ["--select", "+group:warehouse", "--json"]
    began = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    data = (home / "postgres" / "data").resolve()
    server = int((data / "postmaster.pid").read_text().split()[0])
    # The data folder of a home that root owns lies outside it.
    is_within = data.is_relative_to(home.resolve())
    found = {
        "exit_code": done.returncode,
        "source_mb": _megabytes(home / "landing"),
        "partitions": json.loads(done.stdout)["published"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "postgres_cpu_seconds": round(_cpu_seconds(server), 1),
        "peak_mib": round(used.ru_maxrss / 1024),
        "lake_mb": _megabytes(home / "lake"),
        "wal_mb": _megabytes(data / "pg_wal"),
        "postgres_mb": _megabytes(data),
        "disk_mb": round(_megabytes(home) + (0 if is_within else _megabytes(data)), 1),
    }
    subprocess.run([headrace, "stop"], env=environment, capture_output=True, check=True)  # noqa: S603
    return found


def _megabytes(folder: Path) -> float:
    return round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6, 1)


def _cpu_seconds(process: int) -> float:
    """CPU time of a process and of all its children that have ended (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    make(target, *sys.argv[2:3])
    print(json.dumps(measure(target)))  # noqa: T201
