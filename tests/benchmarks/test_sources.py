"""The benchmark of sources, with few rows."""

from pathlib import Path

import pytest

from benchmarks.scratch import Database
from benchmarks.sources import rows
from benchmarks.sources.__main__ import Rate, print_rates
from benchmarks.sources.tasks import TASKS
from tests import servers
from tests.contract.mysql_tables import require_mariadb

ROWS = 1_000


@pytest.mark.parametrize("task", ["duckdb", "json_lines", "csv"])
def test_a_task_reads_all_rows_of_files(tmp_path: Path, task: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if task == "csv":
        rows.write_csv(source, ROWS)
    else:
        rows.write_json_lines(source, ROWS)
    assert TASKS[task](str(source), tmp_path / "raw") == ROWS


def test_a_task_reads_all_rows_of_a_table(tmp_path: Path) -> None:
    url = Database(servers.postgres()).emptied("bench_sources").url
    rows.fill_postgres(url, ROWS)
    assert TASKS["psql"](url, tmp_path) is None
    assert TASKS["postgres"](url, tmp_path / "raw") == ROWS


def test_a_task_reads_all_rows_of_a_table_of_mysql(tmp_path: Path) -> None:
    url = require_mariadb().url()
    rows.fill_mysql(url, ROWS)
    assert TASKS["pymysql"](url, tmp_path) == ROWS
    assert TASKS["mysql"](url, tmp_path / "raw") == ROWS


def test_rates_are_printed_beside_what_they_are_compared_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    least = Rate("psql: to nothing", 1000, 1.0, 0.5, None)
    print_rates([least, Rate("to raw", 1000, 2.0, 1.5, 2**20, least.task, 0.8)])
    assert "0.50 of psql" in capsys.readouterr().out
