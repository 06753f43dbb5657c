"""The benchmark's scratch folder with homes and servers, which is deleted afterwards."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import psycopg
import yaml
from psycopg import sql

from demo.journey import FIRST_DAY
from headrace.embedded_postgres import server
from headrace.embedded_postgres.server import EmbeddedPostgres
from headrace.project.home import Home

PROJECT = Path(__file__).resolve().parent.parent

# Prefixes of variables of the caller's own installation, which commands must not inherit.
_FOREIGN = ("HEADRACE_", "DAGSTER_", "PIPELINE_ENV", "DBT_")


@dataclass(frozen=True)
class Scratch:
    """A folder with a landing folder, a configuration, homes and their servers."""

    root: Path

    @property
    def landing(self) -> Path:
        """The files that the baseline and every home read."""
        return self.root / "landing"

    @property
    def config(self) -> Path:
        """HEADRACE_CONFIG of every home."""
        return self.root / "config"

    def configure(self, *, end: date, start: date = FIRST_DAY) -> None:
        """Write the configuration that reads the demo from files, with days before `end`."""
        shutil.copytree(PROJECT / "demo/files/config", self.config, dirs_exist_ok=True)
        overlay = {
            "partitions": {"start": start, "end": end},
            "landing": {"uri": str(self.landing)},
            "dbt_project": str(PROJECT / "demo/files/dbt"),
        }
        (self.config / "development.yaml").write_text(yaml.safe_dump(overlay))

    def environment(self, home: Home) -> dict[str, str]:
        """Variables for a command on `home`, without those of the caller's installation."""
        own = {
            "HEADRACE_HOME": str(home.root),
            "HEADRACE_CONFIG": str(self.config),
            "PIPELINE_ENV": "development",
        }
        return {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)} | own

    def home(self, name: str) -> Home:
        """A home by name; it is not created."""
        return Home(self.root / name)

    def stop(self) -> None:
        """Stop the servers of all homes."""
        for home in self.root.glob("*/postgres"):
            server.stop(home)


@dataclass(frozen=True)
class Database:
    """A database on a server."""

    postgres: EmbeddedPostgres
    name: str = "warehouse"

    @property
    def url(self) -> str:
        """URL for psycopg."""
        return self.postgres.uri(self.name)

    @property
    def server_pid(self) -> int:
        """Process id of the postmaster; its sessions are child processes."""
        return int((self.postgres.data_directory / "postmaster.pid").read_text().split()[0])

    def emptied(self, name: str) -> "Database":
        """Create an empty database on the same server; one of the same name is dropped."""
        database = sql.Identifier(name)
        with psycopg.connect(self.postgres.uri("postgres"), autocommit=True) as session:
            session.execute(sql.SQL("drop database if exists {} with (force)").format(database))
            session.execute(sql.SQL("create database {}").format(database))
        return replace(self, name=name)

    def checkpoint(self) -> None:
        """Run a checkpoint, so that none falls into the next measurement."""
        with psycopg.connect(self.postgres.uri("postgres"), autocommit=True) as session:
            session.execute("checkpoint")


@contextmanager
def scratch_folder(*, keep: bool = False) -> Iterator[Scratch]:
    """A temporary folder, deleted after the block unless `keep`; its servers are stopped."""
    root = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    # If root runs this, Postgres runs as another user, who needs access to the folder.
    root.chmod(0o711)
    scratch = Scratch(root)
    try:
        yield scratch
    finally:
        scratch.stop()
        if not keep:
            shutil.rmtree(root)


def start_server(home: Home) -> Database:
    """Start the Postgres of a home; it is created if it does not exist."""
    return Database(server.start(home.postgres))


def python(module: str, *arguments: str) -> list[str]:
    """A command that runs a module with the project's Python."""
    return [sys.executable, "-m", module, *arguments]


def headrace(*arguments: str) -> list[str]:
    """A `headrace` command."""
    return [_program("headrace"), *arguments]


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
