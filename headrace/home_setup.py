"""Making HEADRACE_HOME ready: Postgres runs, Dagster has its configuration, dbt its manifest.

Belongs here: what has to be there before Dagster starts; safe to repeat, cheap when all is there.
Elsewhere: where things lie (headrace.home).
"""

from pathlib import Path

from headrace import dbt_worker
from headrace.config.loading import Project, resolve_secret
from headrace.connections import postgres_url
from headrace.home import Home
from headrace.marts import MartBuilder

_DAGSTER_YAML = """\
# Written by headrace; changes are overwritten.
storage:
  postgres:
    postgres_url: {url}
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


def prepare_home(project: Project) -> None:
    """Make the installation ready for Dagster.

    Raises:
        ConfigError: The home cannot be used, or a secret is missing.
    """
    home = Home(project.home)
    for folder in (home.root, home.dagster):
        folder.mkdir(parents=True, exist_ok=True)
    if secret := project.settings.dagster.url:
        resolve_secret(secret)
        # Dagster reads the variable itself: the password is in no file.
        url = f"{{env: {secret.env}}}"
    else:
        url = f'"{postgres_url(project, "dagster", "psycopg2")}"'
    _write(home.dagster / "dagster.yaml", _DAGSTER_YAML.format(url=url, logs=_logs(project)))
    mart_builder(project).ensure_manifest()


def mart_builder(project: Project) -> MartBuilder:
    """The runner of this project's dbt; it asks for the warehouse's URL when it builds."""
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


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        scratch = path.with_suffix(".new")
        scratch.write_text(text)
        scratch.replace(path)
