"""What docs/how-to/configure-dagster.md tells users to write is what Dagster takes."""

from pathlib import Path

import dagster as dg
import pytest
import yaml

from platform_assets.processes.run_launcher import ForkRunLauncher
from tests import servers

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "configure-dagster.md"
EXAMPLES = [example.partition("```")[0] for example in PAGE.read_text().split("```yaml\n")[1:]]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split(":")[0])
def test_dagster_takes_each_example(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = servers.postgres().uri("dagster", driver="psycopg2")
    monkeypatch.setenv("HEADRACE_EMBEDDED_DAGSTER_URL", url)
    storage = {"postgres": {"postgres_url": {"env": "HEADRACE_EMBEDDED_DAGSTER_URL"}}}
    written = {"storage": storage, "telemetry": {"enabled": False}, **yaml.safe_load(example)}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(written))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs_count() >= 0
        reference = instance.get_ref()
        for section, value in yaml.safe_load(example).items():
            if section == "run_launcher":
                assert reference.run_launcher_data is not None
                assert reference.run_launcher_data.class_name == value["class"]
            elif section == "compute_logs":
                assert reference.compute_logs_data.class_name == value["class"]
            elif section not in ("storage", "run_coordinator"):
                assert instance.get_settings(section) == value


def test_a_file_that_an_earlier_release_wrote_still_names_the_launcher(tmp_path: Path) -> None:
    former = {"module": "platform_assets.runtime.run_launcher", "class": "ForkRunLauncher"}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"run_launcher": former}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, ForkRunLauncher)


def test_the_page_has_an_example_of_each_subject() -> None:
    sections = {section for example in EXAMPLES for section in yaml.safe_load(example)}
    assert sections >= {"run_launcher", "run_coordinator", "concurrency", "compute_logs"}
    assert sections >= {"retention", "run_monitoring", "storage"}
