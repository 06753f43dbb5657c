"""Preparation of HEADRACE_HOME: starts Postgres, writes `dagster.yaml` and dbt's manifest."""

import os
from pathlib import Path
from typing import Any

import yaml

from headrace.config.loader import Project, load_project, resolve_secret
from headrace.errors import ConfigError
from headrace.marts import dbt_worker
from headrace.marts.builder import MartBuilder
from headrace.project.connections import postgres_url
from headrace.project.home import Home

# Variable with the URL of Dagster's storage on the embedded server, whose port may change.
_EMBEDDED_URL = "HEADRACE_EMBEDDED_DAGSTER_URL"
# Without it, Dagster stores a planned event for each partition of each asset: 38.8 s a year.
_SUBSET_EVENTS = "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"
# The first line of files that versions before 0.2 overwrote at each command.
_FORMER_HEADER = "# Written by headrace; changes are overwritten."
_DAGSTER_YAML = """\
# Dagster's instance: https://docs.dagster.io/deployment/oss/dagster-yaml
# Headrace wrote this file once. It is yours: edit it. Delete it to get the defaults again.
# Examples: docs/how-to/configure-dagster.md
storage:
  postgres:
    postgres_url: {{env: {variable}}}
# Each run starts in a fork of a process that has imported everything.
run_launcher:
  module: platform_assets.processes.run_launcher
  class: ForkRunLauncher
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
    dequeue_use_threads: true
concurrency:
  runs:
    max_concurrent_runs: 2
run_monitoring:
  enabled: true
  start_timeout_seconds: 120
sensors:
  use_threads: true
  num_workers: 2
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days:
      skipped: 2
      success: 30
      failure: 30
      started: 30
telemetry:
  enabled: false
# No dialog that asks for an address.
nux:
  enabled: false
{logs}"""

# Compute logs and run logs where the platform runs on AWS.
_S3_LOGS = """\
compute_logs:
  module: dagster_aws.s3.compute_log_manager
  class: S3ComputeLogManager
  config:
    bucket: {bucket}
    prefix: {prefix}
"""


def environment_of(project: Project) -> dict[str, str]:
    """Environment variables for Dagster's own commands.

    Starts the embedded Postgres if it holds Dagster's storage.
    """
    storage = {}
    if project.settings.dagster.url is None:
        storage = {_EMBEDDED_URL: postgres_url(project, "dagster", "psycopg2")}
    return {
        "HEADRACE_HOME": str(project.home),
        "HEADRACE_CONFIG": str(project.folder),
        "PIPELINE_ENV": project.environment,
        "DAGSTER_HOME": str(Home(project.home).dagster),
        _SUBSET_EVENTS: "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        **storage,
    }


def prepare_environment() -> dict[str, str]:
    """Prepare the configured home; returns `environment_of` it."""
    project = load_project()
    prepare_home(project)
    return environment_of(project)


def prepare_home(project: Project) -> None:
    """Prepare a home for Dagster.

    Raises:
        ConfigError: The home cannot be used, a secret is missing, or `dagster.yaml` is invalid.
    """
    home = Home(project.home)
    home.root.mkdir(parents=True, exist_ok=True)
    secret = project.settings.dagster.url
    if secret:
        resolve_secret(secret)
    else:
        postgres_url(project, "dagster")  # Starts the server.
    ensure_dagster_yaml(project)
    mart_builder(project).ensure_manifest()


def ensure_dagster_yaml(project: Project) -> None:
    """Write `dagster.yaml` if it does not exist; an existing file is checked, not changed.

    Raises:
        ConfigError: Dagster's storage is not a Postgres database with a known URL.
    """
    path = Home(project.home).dagster / "dagster.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = project.settings.dagster.url
    variable = secret.env if secret else _EMBEDDED_URL
    try:
        text = path.read_text()
    except FileNotFoundError:
        text = _FORMER_HEADER
    if text.startswith(_FORMER_HEADER):
        scratch = path.with_suffix(".new")
        scratch.write_text(_DAGSTER_YAML.format(variable=variable, logs=_logs(project)))
        scratch.replace(path)
        return
    _check_storage(path, text, variable)


def mart_builder(project: Project) -> MartBuilder:
    """The builder of this project's marts; it resolves the warehouse's URL when it builds."""
    return MartBuilder(
        project.dbt_project(),
        Home(project.home).dbt,
        url=lambda: postgres_url(project, "warehouse"),
        worker=dbt_worker.running,
    )


def _logs(project: Project) -> str:
    uri = project.expand(project.settings.lake.uri)
    if not uri.startswith("s3://") or project.settings.lake.s3.endpoint:
        return ""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return _S3_LOGS.format(bucket=bucket, prefix=f"{prefix}/logs".lstrip("/"))


def _check_storage(path: Path, text: str, variable: str) -> None:
    """Check that Dagster's storage is a Postgres database with a known URL.

    Raises:
        ConfigError: It is not; the message names the file and the entry.
    """
    remedy = f"write postgres_url: {{env: {variable}}}, or delete the file to get the defaults"
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}", fix=remedy) from None
    storage = _at(found, "storage")
    if not isinstance(storage, dict) or "postgres" not in storage:
        raise ConfigError(
            f"{path}: storage is not storage.postgres, and Headrace writes Dagster's events with "
            "statements for Postgres",
            fix=remedy,
        )
    named = _at(storage, "postgres", "postgres_url", "env")
    if isinstance(named, str) and named != variable and named not in os.environ:
        raise ConfigError(
            f"{path}: storage.postgres.postgres_url names the environment variable {named}, which "
            "is not set",
            fix=f"export {named}=…, or {remedy}",
        )


def _at(document: Any, *path: str) -> Any:
    """The value at a path of keys; None without one."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document
