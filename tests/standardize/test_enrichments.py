"""Columns that enrichments read from files and packages."""

import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from headrace.config.entities.entity import EntityConfig
from headrace.enrichment.ip_ranges import load_ranges
from headrace.enrichment.registry import content_id, file_problem, find_values
from headrace.standardize.good_rows import good_rows
from headrace.standardize.quarantine import quarantined_rows
from headrace.standardize.typed_columns import with_references
from tests.standardize.captured import STAMP, capture, entity

RATES: dict[str, Any] = {
    "kind": "ecb_rates",
    "currency": "currency",
    "day": "sold_at",
    "columns": {"rate": "euros_per_unit", "rate_of": "rate_date"},
}
EUROS = {"name": "euros", "type": "decimal(12,2)", "expression": "amount * rate"}
SALES = (
    {"name": "currency", "type": "string"},
    {"name": "sold_at", "type": "timestamptz"},
    {"name": "amount", "type": "decimal(12,2)"},
)


def sales(options: dict[str, Any], **others: Any) -> EntityConfig:
    return entity(*SALES, enrichments=[RATES | options], calculated=[EUROS], **others)


def processed(
    spark: SparkSession, configured: EntityConfig, rows: Sequence[tuple[str, ...]], folder: Path
) -> tuple[dict[int, Any], dict[int, str]]:
    """Good rows, and the reasons of the others, by line."""
    joined = with_references(capture(spark, configured, rows), configured, {}, folder)
    good = {row["id"]: row for row in good_rows(joined, configured, STAMP).collect()}
    broken = quarantined_rows(joined, configured, STAMP).collect()
    return good, {int(row["id"]): row["_reasons"] for row in broken}


def test_currencies_are_converted_by_the_rate_of_the_local_day_or_the_last_one_before_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = [
        ("USD", "2024-01-05 12:00:00", "109.21"),
        ("USD", "2024-01-07 12:00:00", "109.21"),  # A Sunday.
        ("USD", "2024-01-07 23:30:00Z", "109.46"),  # In Berlin, a Monday.
        ("EUR", "2024-01-07 12:00:00", "5.00"),
        ("XXX", "2024-01-05 12:00:00", "1.00"),
        ("GBp", "2024-01-05 12:00:00", "1.00"),
        ("USD", "1999-01-03 12:00:00", "1.00"),  # The first rate is of the next day.
        ("HRK", "2023-06-01 12:00:00", "1.00"),  # Its last rate is of 2022.
        ("", "2024-01-05 12:00:00", "1.00"),
    ]
    good, broken = processed(spark, sales({}, timezone="Europe/Berlin"), rows, tmp_path)
    assert {line: (row["euros"], row["rate_of"]) for line, row in good.items()} == {
        2: (Decimal("100.00"), date(2024, 1, 5)),
        3: (Decimal("100.00"), date(2024, 1, 5)),
        4: (Decimal("100.00"), date(2024, 1, 8)),
        5: (Decimal("5.00"), date(2024, 1, 7)),
    }
    assert broken == dict.fromkeys(range(6, 11), "currency, sold_at: not in the ECB's rates")
    # Without any rate.
    kept, _ = processed(spark, sales({"missing": None}), rows[4:6], tmp_path)
    assert [row["euros"] for row in kept.values()] == [None, None]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file or directory: paths are relative"),
        ("Day,USD\n", "line 1: does not begin with the column Date"),
        ("Date,USD\n2024-01-02,1.1\n02.01.2024,1.1\n", "line 3: Date: is not a day"),
        ("Date,USD\n2024-01-02,1.1\n2024-01-03,-\n", "line 3: USD: is not a positive number"),
    ],
)
def test_a_file_of_rates_that_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, text: str | None, why: str
) -> None:
    [configured] = sales({"file": "rates.csv"}).enrichments
    if text is not None:
        (tmp_path / "rates.csv").write_text(text)
    problem = file_problem(configured, tmp_path)
    assert problem is not None
    assert problem.startswith(f"file: {tmp_path}/rates.csv: {why}")


def test_a_changed_file_changes_the_code_version(tmp_path: Path) -> None:
    [configured] = sales({"file": "rates.csv"}).enrichments
    seen = [content_id(configured, tmp_path)]
    for rate in ("1.1", "1.2"):
        (tmp_path / "rates.csv").write_text(f"Date,USD\n2024-01-02,{rate}\n")
        assert file_problem(configured, tmp_path) is None
        seen.append(content_id(configured, tmp_path))
    assert len({*seen}) == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"currency": "curency"}, "enrichments[0].currency: 'curency' is not one of"),
        ({"day": "amount"}, "enrichments[0].day: 'amount' is a decimal(12,2): declare it as date"),
        (
            {"columns": {"amount": "rate_date"}},
            "enrichments[0].columns: 'amount' is declared twice",
        ),
        ({"columns": {"rate": "eur"}}, "Input should be 'euros_per_unit'"),
    ],
)
def test_a_declaration_that_does_not_fit_the_entity_is_refused(
    options: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        sales(options)
    assert why in str(refused.value)


REGIONS: dict[str, Any] = {
    "kind": "regions",
    "latitude": "latitude",
    "longitude": "longitude",
    "file": "regions.geojson",
    "columns": {"region": "name"},
}
IPS: dict[str, Any] = {
    "kind": "ip_ranges",
    "address": "address",
    "file": "ips.csv",
    "columns": {"country": "country"},
}
VISITS = (
    {"name": "latitude", "type": "decimal(9,6)"},
    {"name": "longitude", "type": "double"},
    {"name": "address", "type": "string"},
)
WEST = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]]
EAST = [[10, 0], [20, 0], [20, 10], [10, 10], [10, 0]]


def geojson(*polygons: Any, properties: dict[str, Any] | None = None) -> str:
    features = [
        {
            "properties": {"name": f"r{i}"} if properties is None else properties,
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        for i, rings in enumerate(polygons)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def test_a_row_has_the_region_of_its_point_and_the_country_of_its_address(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "regions.geojson").write_text(geojson([WEST, HOLE], [EAST]))
    (tmp_path / "ips.csv").write_text(
        "network,country\n10.0.0.0/8,DE\n2001:db8::/32,FR\n192.0.2.0/24,\n"
    )
    configured = entity(*VISITS, enrichments=[REGIONS, IPS])
    rows = [
        ("1", "1", "10.1.2.3"),
        ("-0.0", "-0.0", "::ffff:10.0.0.0"),
        ("5", "10", "2001:db8:0:0::1"),  # On the border.
        ("9.999999", "19.9", "192.0.2.255"),  # The range has no country.
        ("5", "5", "10.0.0.1"),  # In the hole.
        ("1", "1", "11.0.0.0"),
        ("1", "1", "10.0.0"),
    ]
    good, broken = processed(spark, configured, rows, tmp_path)
    assert {line: (row["region"], row["country"]) for line, row in good.items()} == {
        2: ("r0", "DE"),
        3: ("r0", "DE"),
        4: ("r1", "FR"),
        5: ("r1", None),
    }
    assert broken == {
        6: "latitude, longitude: not in regions.geojson",
        7: "address: not in ips.csv",
        8: "address: not in ips.csv",
    }


def test_a_point_is_in_exactly_one_of_the_regions_that_share_a_border(tmp_path: Path) -> None:
    steps = np.random.default_rng(7).uniform(4, 6, 41)
    border = [[float(x), y / 4] for y, x in enumerate(steps)]
    west = [[0, 0], *border, [0, 10], [0, 0]]
    east = [[10, 0], [10, 10], *reversed(border), [10, 0]]
    points = [(y, x) for x, y in border[:-1]]
    points += [tuple(p) for p in np.random.default_rng(8).uniform(0.01, 9.99, (500, 2))]
    keys = pa.table({"latitude": [y for y, _ in points], "longitude": [x for _, x in points]})
    found = []
    for polygon in (west, east):
        (tmp_path / "regions.geojson").write_text(geojson([polygon]))
        enrichment = entity(*VISITS, enrichments=[REGIONS]).enrichments[0]
        table = find_values(enrichment, keys, tmp_path)
        found.append(
            {*zip(table["latitude"].to_pylist(), table["longitude"].to_pylist(), strict=True)}
        )
    assert not found[0] & found[1]
    assert len(found[0] | found[1]) == len(points)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no JSON"),
        ("{}", "is no FeatureCollection with features"),
        (geojson([WEST]).replace("Polygon", "Point"), "features[0].geometry: is no Polygon"),
        (geojson([WEST], [WEST[:-1]]), "features[1].geometry.coordinates: a ring does not end"),
        (geojson([WEST[:3]]), "features[0].geometry.coordinates: a ring has fewer than four"),
        (geojson([[[0, 0], [400_000, 0], [1, 1], [0, 0]]]), "a position lies outside ±180, ±90"),
        (geojson([[["a"]]]), "features[0].geometry.coordinates: are no rings"),
        (geojson([WEST], properties={"id": 1}), "features[0].properties: lacks 'name'"),
    ],
)
def test_a_file_of_regions_that_does_not_fit_is_refused_with_its_feature(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "regions.geojson").write_text(text)
    problem = file_problem(entity(*VISITS, enrichments=[REGIONS]).enrichments[0], tmp_path)
    assert problem is not None
    assert problem.startswith(f"file: {tmp_path}/regions.geojson: ")
    assert why in problem


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1: has no network, nor start and end"),
        ("network,land\n10.0.0.0/8,DE\n", "line 1: has no column 'country'"),
        ("network,country\n10.0.0.1/8,DE\n", "line 2: network: is no network"),
        ("network,country\n10.0.0.0/8\n", "line 2: has 1 fields, not 2"),
        ("start,end,country\n1.0.0.0,x,DE\n", "line 2: end: is no address"),
        ("start,end,country\n1.0.0.1,1.0.0.0,DE\n", "line 2: end: lies before start"),
        ("start,end,country\n1.0.0.0,::1,DE\n", "line 2: end: lies before start"),
        ("network,country\n1.2.0.0/16,DE\n::/8,DE\n1.0.0.0/8,FR\n", "line 4: overlaps line 2"),
    ],
)
def test_a_file_of_ranges_that_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "ips.csv").write_text(text)
    problem = file_problem(entity(*VISITS, enrichments=[IPS]).enrichments[0], tmp_path)
    assert problem is not None
    assert problem.startswith(f"file: {tmp_path}/ips.csv: {why}")


@pytest.mark.parametrize(
    "line", ["network,country\n::ffff:192.0.2.0/120,DE\n", "network,country\n192.0.2.0/24,DE\n"]
)
def test_a_range_of_mapped_addresses_is_one_of_ipv4(tmp_path: Path, line: str) -> None:
    (tmp_path / "ips.csv").write_text(line)
    ranges = load_ranges(tmp_path / "ips.csv")
    for address in ("192.0.2.7", "::ffff:192.0.2.7"):
        assert ranges.of(address) is not None
    assert ranges.of("192.0.3.1") is None
