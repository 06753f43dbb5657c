"""Partitions that a star cannot be built from are refused, each with what to write instead."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.config.loader import load_project
from headrace.errors import ConfigError
from headrace.grain import Grain

CONFIG = Path(__file__).parents[2] / "demo/files/config"
UNDATED: dict[str, Any] = {"path": "sales.csv", "missing_file": None, "closed_on": None}
BY_ROWS = {**UNDATED, "partition_by": "transaction_timestamp"}
BALANCE = {
    "name": "fact_balance",
    "kind": "periodic_snapshot",
    "snapshot_of": "movements",
    "entity": "retail.transactions",
    "grain": ["household_id", "store_id"],
    "measures": ["quantity"],
}


def configured(tmp_path: Path, **changes: dict[str, Any]) -> Path:
    """The shipped configuration, with other values of entities, dimensions and facts.

    Args:
        tmp_path: Where.
        changes: By name: of an entity its fields, with those of `extract` below it; of a dimension
            or fact its fields. None takes a field away, a fact of a new name is added.
    """
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    files = [folder / "star.yaml", folder / "sources" / "retail.yaml"]
    star, source = (yaml.safe_load(path.read_text()) for path in files)
    known = {one["name"]: one for one in (*star["dimensions"], *star["facts"], *source["entities"])}
    for name, fields in changes.items():
        if name not in known:
            star["facts"].append(fields)
            continue
        below = fields.pop("extract", {})
        for target, values in ((known[name], fields), (known[name].get("extract"), below)):
            for field, value in values.items():
                target[field] = value
                if value is None:
                    del target[field]
    for path, document in zip(files, (star, source), strict=True):
        path.write_text(yaml.safe_dump(document))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "where", "remedy"),
    [
        pytest.param(
            {
                "transactions": {"partition": "month", "extract": {"closed_on": None}},
                "fact_balance": BALANCE,
            },
            "facts[fact_balance].entity: retail.transactions has partition: month, but a periodic",
            "say partition: day",
            id="a balance of each day from months",
        ),
        pytest.param(
            {
                "transactions": {
                    "partition": "none",
                    "extract": UNDATED,
                    "event_time": None,
                }
            },
            "retail.transactions has partition: none and no day in files or rows",
            "give its extract partition_by",
            id="a fact whose files and rows say no day",
        ),
        pytest.param(
            {
                "transactions": {"partition": "week", "extract": BY_ROWS},
                "fact_sales": {"keep_months": 12},
            },
            "facts[fact_sales].keep_months: drops whole months, but retail.transactions has",
            "say partition: month or day",
            id="months cut out of weeks",
        ),
        pytest.param(
            {
                "stores": {"partition": "none", "extract": {"missing_file": "empty"}},
                "dim_location": {"full_snapshot": True},
            },
            "dimensions[dim_location].entity: retail.stores has partition: none, so no earlier",
            "say the partition of the files",
            id="snapshots of which none follows another",
        ),
        pytest.param(
            {"stores": {"partition": "month"}},
            "dimensions[dim_location].entity: retail.stores has partition: month, and "
            "dim_location has no effective_time",
            "list the attributes under type1, or say partition: day",
            id="history whose changes have no time within a month",
        ),
        pytest.param(
            {"stores": {"partition": "month", "extract": {"path": "stores.csv"}}},
            "partition: month: neither files nor rows say a day",
            "give the path {date:…} or the extract partition_by, or leave partition out",
            id="months of files without a day",
        ),
        pytest.param(
            {"transactions": {"partition": "week", "extract": {"path": "sales-{date:%Y-%m}.csv"}}},
            "extract.path: {date:%Y-%m} does not name one week",
            "such as {date:%Y-%m-%d}",
            id="weeks of files that name months",
        ),
        pytest.param(
            {"transactions": {"extract": {"path": "sales-{date:%Y}.csv"}}},
            "extract.path: {date:%Y} does not name one day, but a year",
            "write `partition: year` beside `extract`, or name the day in the path, such as "
            "{date:%Y-%m-%d}",
            id="days of files that name years",
        ),
        pytest.param(
            {"transactions": {"extract": {"path": "sales-{date:%Y-%m}.csv"}}},
            "extract.path: {date:%Y-%m} does not name one day, but a month",
            "write `partition: month` beside",
            id="days of files that name months",
        ),
        pytest.param(
            {"transactions": {"partition": "month", "extract": {"path": "{date:%Y}.csv"}}},
            "extract.path: {date:%Y} does not name one month, but a year",
            "write `partition: year` beside `extract`, or name the month in the path, such as "
            "{date:%Y-%m}",
            id="months of files that name years",
        ),
    ],
)
def test_a_partition_that_does_not_fit_is_refused_with_its_remedy(
    tmp_path: Path, changes: dict[str, dict[str, Any]], where: str, remedy: str
) -> None:
    said = refusal(configured(tmp_path, **changes))
    assert where in said
    assert remedy in said


DATED = {"path": "{date:%Y-%m-%d}.csv", "missing_file": None, "closed_on": None}
WAITS = {"expected_by": "06:00"}


@pytest.mark.parametrize(
    ("changes", "key", "why"),
    [
        ({"extract": DATED | WAITS | {"missing_file": "empty"}}, "expected_by", "no effect beside"),
        ({"extract": DATED | {"missing_file": "empty", "closed_on": ["12-25"]}}, "closed_on", "at"),
        ({"extract": BY_ROWS | {"missing_file": "hold"}}, "missing_file", "rows say the day"),
        ({"extract": BY_ROWS | WAITS}, "expected_by", "rows say the day, and no partition waits"),
        ({"extract": BY_ROWS | {"expected_on": ["mon"]}}, "expected_on", "rows say the day"),
        ({"extract": BY_ROWS | {"closed_on": ["12-25"]}}, "closed_on", "rows say the day"),
        (
            {"event_time": None, "extract": UNDATED | {"missing_file": "empty"}},
            "missing_file",
            "files name no day, and no partition waits for a file: drop missing_file",
        ),
        (
            {"partition": "month", "extract": DATED | {"expected_on": ["mon"]}},
            "expected_on",
            "one file is expected whatever the days: drop expected_on",
        ),
        ({"partition": "year", "extract": DATED | {"closed_on": ["12-25"]}}, "closed_on", "year`"),
        ({"partition": "none", "extract": DATED | WAITS}, "expected_by", "has none: drop it"),
    ],
)
def test_an_option_of_waiting_that_does_nothing_is_refused(
    tmp_path: Path, changes: dict[str, Any], key: str, why: str
) -> None:
    said = refusal(configured(tmp_path, transactions=changes))
    assert f"entities[transactions].extract.{key}: " in said
    assert why in said


@pytest.mark.parametrize(
    "changes",
    [
        {"extract": DATED | WAITS | {"closed_on": ["12-25"], "expected_on": ["mon"]}},
        {"partition": "week", "extract": DATED | {"closed_on": ["12-25"]}},
        {"partition": "month", "extract": DATED | WAITS | {"missing_file": "hold"}},
    ],
)
def test_an_option_of_waiting_that_has_a_use_is_taken(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = configured(tmp_path, transactions=changes)
    assert load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"}).star.facts


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stores": {"partition": "month"}}, id="a month's file in a month"),
        pytest.param(
            {"transactions": {"partition": "year", "extract": BY_ROWS}}, id="rows by year"
        ),
    ],
)
def test_a_partition_that_fits_is_taken(tmp_path: Path, changes: dict[str, dict[str, Any]]) -> None:
    if "stores" in changes:
        changes["stores"]["extract"] = {"path": "stores-{date:%Y-%m}.csv"}
    folder = configured(tmp_path, **changes)
    assert load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"}).star.facts


def test_reference_data_without_days_has_a_partition_a_version_and_facts_keep_days(
    tmp_path: Path,
) -> None:
    folder = configured(
        tmp_path,
        stores={"extract": {"path": "stores.csv", "missing_file": None}},
        transactions={"extract": BY_ROWS, "event_time": None},
    )
    project = load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})
    grains = {name: entity.grain for name, (_, entity) in project.entities().items()}
    assert grains["retail.stores"] == Grain.SPARSE
    assert grains["retail.transactions"] == Grain.DAY
