"""What is proposed for sets of files, compared to what a person would have written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.stage import stage_landing
from headrace.assess.assessment import Assessment, assess
from headrace.assess.files.folder import folder_sources
from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.sources.models import parse_source
from tests.assess.data_sets import SETS, WIDE

EXPECTED = Path(__file__).parent / "expected"
NAMES = [*SETS, "demo"]
ENOUGH = 0.95


@dataclass(frozen=True)
class Compared:
    """Columns of a set, and those that need an edit with what it would be."""

    columns: int
    edits: tuple[str, ...]


def expected_source(name: str) -> SourceConfig:
    values = yaml.safe_load((EXPECTED / f"{name}.yaml").read_text(encoding="utf-8"))
    if name == "wide":
        (entity,) = values["entities"]
        kinds = entity["columns"]
        assert [kind["name"] for kind in kinds] == [kind for kind, _ in WIDE]
        columns = [{**kind, "name": f"{kind['name']}_{n}"} for n in range(1, 11) for kind in kinds]
        columns[0] = {"name": "row_id", "type": "bigint"}
        entity["columns"] = columns
    return parse_source(values)


def differences(expected: EntityConfig, proposed: EntityConfig | None) -> Iterator[str]:
    """Columns that need an edit; all of them where the entity is read the wrong way."""
    names = [column.name for column in expected.columns]
    if proposed is None:
        yield from (f"{expected.name}.{name}: its entity is missing" for name in names)
        return
    whole = ("extract", "partition", "event_time")
    if wrong := [f for f in whole if getattr(expected, f) != getattr(proposed, f)]:
        yield from (f"{expected.name}.{name}: {', '.join(wrong)} of its entity" for name in names)
        return
    found = {column.name: column for column in proposed.columns}
    for column in expected.columns:
        if found.get(column.name) != column:
            yield f"{expected.name}.{column.name}: {found.get(column.name)}"
        elif (column.name in expected.key) != (column.name in proposed.key):
            yield f"{expected.name}.{column.name}: key {proposed.key}"
    yield from (f"{expected.name}.{name}: is none of its columns" for name in {*found} - {*names})


@pytest.fixture(scope="module")
def assessed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Assessment]:
    found = {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp(name)
        if name == "demo":
            stage_landing(folder, start=date(2017, 1, 1), end=date(2017, 1, 8))
        else:
            SETS[name](folder)
        (source,) = folder_sources(folder)
        found[name] = assess(source, name, 8_000)
    return found


@pytest.fixture(scope="module")
def compared(assessed: Mapping[str, Assessment]) -> Mapping[str, Compared]:
    found = {}
    for name in NAMES:
        expected = expected_source(name)
        proposed = proposed_source(assessed[name])
        entities = {entity.name: entity for entity in proposed.entities}
        edits = [d for e in expected.entities for d in differences(e, entities.get(e.name))]
        columns = sum(len(entity.columns) for entity in expected.entities)
        found[name] = Compared(columns, tuple(edits))
    return found


def proposed_source(found: Assessment) -> SourceConfig:
    values: dict[str, Any] = yaml.safe_load(found.yaml)
    for entity in values["entities"]:
        entity.pop("rules", None)
    return parse_source(values)


@pytest.mark.parametrize("name", NAMES)
def test_at_least_95_of_100_columns_need_no_edit(
    compared: Mapping[str, Compared], name: str
) -> None:
    found = compared[name]
    assert 1 - len(found.edits) / found.columns >= ENOUGH, "\n".join(found.edits)
