"""`dagster.yaml` is written once; what its owner writes into it is kept."""

from pathlib import Path

import pytest
import yaml

from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError
from headrace.project.home_setup import ensure_dagster_yaml

KUBERNETES = """
storage: {postgres: {postgres_url: {env: HEADRACE_EMBEDDED_DAGSTER_URL}}}
run_launcher: {module: dagster_k8s, class: K8sRunLauncher, config: {job_namespace: data}}
run_coordinator: {module: dagster.core.run_coordinator, class: QueuedRunCoordinator}
concurrency: {runs: {max_concurrent_runs: 20}, pools: {default_limit: 3}}
compute_logs: {module: dagster_aws.s3.compute_log_manager, class: S3ComputeLogManager,
  config: {bucket: ours}}
retention: {schedule: {purge_after_days: 7}}
"""


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Project:
    return load_project({"HEADRACE_HOME": str(tmp_path), "HEADRACE_CONFIG": str(root / "config")})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "dagster").mkdir()
    return tmp_path / "dagster" / "dagster.yaml"


def test_it_is_written_where_there_is_none_and_names_no_password(
    project: Project, path: Path
) -> None:
    ensure_dagster_yaml(project)
    written = yaml.safe_load(path.read_text())
    assert written["run_launcher"]["class"] == "ForkRunLauncher"
    assert written["storage"] == {
        "postgres": {"postgres_url": {"env": "HEADRACE_EMBEDDED_DAGSTER_URL"}}
    }


def test_what_its_owner_writes_is_kept(project: Project, path: Path) -> None:
    path.write_text(KUBERNETES)
    ensure_dagster_yaml(project)
    assert path.read_text() == KUBERNETES


def test_a_file_of_a_version_that_overwrote_it_is_replaced_once(
    project: Project, path: Path
) -> None:
    path.write_text("# Written by headrace; changes are overwritten.\nstorage: {}\n")
    ensure_dagster_yaml(project)
    assert "ForkRunLauncher" in path.read_text()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("storage: {sqlite: {base_dir: x}}", "storage is not storage.postgres"),
        ("telemetry: {enabled: false}", "storage is not storage.postgres"),
        ("", "storage is not storage.postgres"),
        ("storage: [", "is not YAML"),
        (
            "storage: {postgres: {postgres_url: {env: HEADRACE_NOT_SET}}}",
            "HEADRACE_NOT_SET, which is not set",
        ),
    ],
)
def test_a_storage_that_cannot_be_used_is_an_error_that_names_the_file_and_the_entry(
    project: Project, path: Path, text: str, problem: str
) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem) as error:
        ensure_dagster_yaml(project)
    assert str(path) in str(error.value)
    assert "postgres_url: {env: HEADRACE_EMBEDDED_DAGSTER_URL}" in error.value.fix
    assert path.read_text() == text


@pytest.mark.parametrize(
    "storage",
    [
        "{postgres_url: postgresql+psycopg2://a@b/c}",
        "{postgres_db: {hostname: h, username: u, password: {env: SECRET}, db_name: d}}",
    ],
)
def test_a_database_of_ones_own_is_taken(project: Project, path: Path, storage: str) -> None:
    written = f"storage: {{postgres: {storage}}}\n"
    path.write_text(written)
    ensure_dagster_yaml(project)
    assert path.read_text() == written
