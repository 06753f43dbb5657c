"""`headrace assess`: what it writes, where, and what it refuses."""

import gzip
import json
import subprocess
import sys
import threading
from datetime import date, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.cli.check import check_conditions
from headrace.cli.sources.assess import (
    AssessOptions,
    WrittenAssessment,
    assess_target,
    print_assessments,
)
from headrace.config.loader import load_project, load_source
from headrace.errors import ConfigError, SourceRejectedError

STAR = """
calendar: {name: dim_date, start: 2024-01-01, end: 2025-12-31}
facts:
  - {name: fact_sales, entity: shop.sales, grain: [order], event_time: sold_at, measures: [amount]}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with settings and no source."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/base.yaml").write_text("partitions: {start: 2024-01-01, end: 2024-01-10}\n")
    (tmp_path / "config/star.yaml").write_text(STAR)
    landing = tmp_path / "home/landing/shop"
    landing.mkdir(parents=True)
    for day in (date(2024, 1, 1) + timedelta(days=n) for n in range(4)):
        rows = "".join(f"{n},{day} 0{n}:30:00,{n}.25,ok\n" for n in range(1, 9))
        (landing / f"sales-{day}.csv").write_text(f"order,sold_at,amount,select\n{rows}")
    monkeypatch.setenv("HEADRACE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    return tmp_path


def run(path: Path, **options: object) -> list[WrittenAssessment]:
    given = AssessOptions(**{"sample_rows": 1000, "quiet": True, **options})  # type: ignore[arg-type]
    return assess_target(str(path), given)


def test_check_accepts_the_file_as_it_is(project: Path) -> None:
    (written,) = run(project / "home/landing/shop")
    found = load_project()
    check_conditions(found)
    assert [*found.file_entities()] == ["shop.sales"]
    entity = found.file_entities()["shop.sales"]
    assert entity.extract.path == "shop/sales-{date:%Y-%m-%d}.csv"
    assert entity.event_time == "sold_at"
    assert {rule.name for rule in entity.rules} >= {"amount_not_negative"}
    assert written.config.read_text().startswith("# yaml-language-server: $schema=")


def test_reports_lie_in_the_home_and_not_beside_the_configuration(project: Path) -> None:
    (written,) = run(project / "home/landing/shop")
    assert [path.relative_to(project).as_posix() for path in written.reports] == [
        "home/assess/shop.html",
        "home/assess/shop.md",
    ]
    html = written.reports[0].read_text()
    assert "<svg" in html
    assert "http" not in html


def test_a_file_that_is_there_is_replaced_by_force_alone(project: Path) -> None:
    run(project / "home/landing/shop")
    target = project / "config/sources/shop.yaml"
    target.write_text("# edited\n")
    with pytest.raises(ConfigError, match=r"shop\.yaml is there already") as refused:
        run(project / "home/landing/shop")
    assert "--force" in refused.value.fix
    assert target.read_text() == "# edited\n"
    run(project / "home/landing/shop", force=True)
    assert load_source(target).name == "shop"


def test_dry_run_prints_the_file_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(project / "home/landing/shop", name="till", dry_run=True)
    print_assessments(found, dry_run=True, as_json=False)
    assert "name: till\n" in capsys.readouterr().out
    assert not (project / "config/sources").exists()
    assert not (project / "home/assess").exists()


def test_files_outside_the_landing_zone_get_a_folder_in_it_and_a_remark(project: Path) -> None:
    outside = project / "export"
    outside.mkdir()
    (outside / "stores.csv").write_text("store_id,city\n1,Rome\n2,Oslo\n")
    (written,) = run(outside)
    assert "path: export/stores.csv" in written.assessment.yaml
    assert "not in the landing zone" in written.assessment.checks[0]


def test_csv_and_parquet_in_one_folder_are_two_sources(project: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2]}), project / "home/landing/shop/devices.parquet")
    found = run(project / "home/landing/shop")
    assert [one.config.name for one in found] == ["shop.yaml", "shop_parquet_files.yaml"]


def test_one_file_is_a_source_with_one_entity(project: Path) -> None:
    (written,) = run(project / "home/landing/shop/sales-2024-01-01.csv", name="one")
    assert written.assessment.entities == ("sales",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no file is here that can be read as a table"),
        ({"a.xlsx": b"PK\x03\x04xl/"}, "Excel workbook"),
        ({"a.txt": b"Just prose.\nOf two lines, with a comma.\n"}, "no row of it can be read"),
        ({"a{b}*.csv": b"id\n1\n"}, "rename it"),
        ({"a.json": b'{"a": {"b": 1},\n "c": 2}'}, "no array of objects is found"),
        ({"a.json": b"[]"}, "has no record with a member"),
        ({"a.csv": b""}, "is empty"),
        ({"a.csv": b"id,name\n"}, "no row can be read"),
        ({"a.parquet": b"PAR1xxxx"}, "deliver it again, whole"),
        ({"a.csv.gz": gzip.compress(b"a,b\n1,2\n" * 99)[:-20]}, "cut off"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(
    project: Path, files: dict[str, bytes], message: str
) -> None:
    folder = project / "drop"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refused:
        run(folder)
    assert refused.value.fix


def test_a_path_that_is_not_there_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match="neither a folder, a file nor a connection"):
        run(project / "nowhere")


def test_the_file_of_a_url_is_assessed_and_its_secrets_are_in_no_text(project: Path) -> None:
    folder = project / "web"
    folder.mkdir()
    (folder / "stores.csv").write_text("store_id,city\n1,Rome\n2,Oslo\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://canary:s3cret@127.0.0.1:{server.server_port}"
        (written,) = assess_target(f"{url}/stores.csv?token=s3cret", AssessOptions(quiet=True))
        with pytest.raises(SourceRejectedError, match="HTTP status 404") as refused:
            assess_target(f"{url}/none.csv?token=s3cret", AssessOptions(quiet=True))
        server.shutdown()
    assert "path: stores/stores.csv" in written.assessment.yaml
    found = written.assessment
    assert "s3cret" not in found.yaml + found.markdown + found.html + str(refused.value)


def test_a_name_that_is_none_is_refused_with_one_that_is(project: Path) -> None:
    with pytest.raises(ConfigError, match="'My Shop' is no name") as refused:
        run(project / "home/landing/shop", name="My Shop")
    assert "my_shop" in refused.value.fix


def test_a_column_that_came_later_is_declared_since_its_first_day(project: Path) -> None:
    landing = project / "home/landing/shop"
    (landing / "sales-2024-01-04.csv").write_text(
        "order,sold_at,amount,select,till\n1,2024-01-04 01:00:00,2.25,ok,3\n"
    )
    (written,) = run(landing)
    assert "{name: till, type: int, since: 2024-01-04}" in written.assessment.yaml


def test_files_of_regions_with_the_same_columns_are_one_entity(project: Path) -> None:
    folder = project / "home/landing/regions"
    folder.mkdir()
    for region in ("north", "south", "east"):
        (folder / f"{region}.csv").write_text(
            "shop_id,city,zip,rent\n1,Rome,00100,5.5\n2,Oslo,0150,6\n"
        )
    (written,) = run(folder)
    assert "path: regions/*.csv" in written.assessment.yaml
    assert written.assessment.entities == ("regions",)


def test_a_column_of_nulls_and_one_without_a_type_are_no_hindrance(project: Path) -> None:
    folder = project / "home/landing/odd"
    folder.mkdir()
    table = pa.table({"id": [1, 2], "none": pa.nulls(2), "nested": [{"x": 1}] * 2})
    pq.write_table(table, folder / "odd.parquet")
    (written,) = run(folder)
    assert "{name: none, type: string}  # always NULL in the sample" in written.assessment.yaml
    assert "column 'nested' is left out" in " ".join(written.assessment.checks)


def test_columns_may_be_called_as_the_profile_calls_its_own(project: Path) -> None:
    names = ["id", "n", "text", "day", "low", "high", "nth", "bin", "rows", "keys", "value"]
    folder = project / "home/landing/odd"
    folder.mkdir()
    for day in (1, 2):
        rows = "".join(",".join([str(n)] * len(names)) + "\n" for n in range(30))
        (folder / f"s-2024-01-0{day}.csv").write_text(",".join(names) + "\n" + rows)
    (written,) = run(folder)
    assert "key: [id]" in written.assessment.yaml


def test_files_with_different_delimiters_are_named(project: Path) -> None:
    folder = project / "home/landing/odd"
    folder.mkdir()
    (folder / "s-2024-01-01.csv").write_text("id;v\n1;2\n2;3\n")
    (folder / "s-2024-01-02.csv").write_text("id,v\n1,2\n2,3\n3,4\n")
    (written,) = run(folder)
    assert any("different delimiters" in check for check in written.assessment.checks)


def test_attributes_of_an_identifier_are_noted_as_a_dimension(project: Path) -> None:
    folder = project / "home/landing/till"
    folder.mkdir()
    rows = "".join(f"{n},{n % 7},Tea {n % 7},{'cash' if n % 3 else 'card'}\n" for n in range(60))
    (folder / "lines.csv").write_text(f"line_id,product_id,description,paid_by\n{rows}")
    (written,) = run(folder)
    text = " ".join(written.assessment.yaml.replace("#", "").split())
    assert "description depends on product_id: an entity of the same files" in text
    assert "paid_by depends" not in text


def test_slips_in_a_column_of_numbers_are_named_and_not_hidden(project: Path) -> None:
    landing = project / "home/landing/shop"
    rows = "".join(f"{n},2024-01-05 01:00:00,{'six' if n == 7 else n},ok\n" for n in range(1, 30))
    (landing / "sales-2024-01-05.csv").write_text(f"order,sold_at,amount,select\n{rows}")
    (written,) = run(landing)
    assert "sales.amount: 1 row would be quarantined: no decimal(12,2)" in " ".join(
        written.assessment.checks
    )


def test_the_command_ends_without_a_word_but_its_own(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headrace.cli.app", "assess", "home/landing/shop", "--json"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)[0]["entities"] == ["sales"]
    assert done.stderr == ""
