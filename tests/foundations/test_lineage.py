"""The lineage columns that the star reads are part of a processed day's content."""

from dataclasses import replace
from pathlib import Path

from headrace.config.loader import load_project
from headrace.project.lineage import lineage_columns_read


def test_a_condition_on_the_operation_makes_it_part_of_the_content(
    root: Path, tmp_path: Path
) -> None:
    project = load_project(
        {"HEADRACE_HOME": str(tmp_path), "HEADRACE_CONFIG": str(root / "demo/files/config")}
    )
    first, *others = project.star.dimensions
    assert "_operation" not in lineage_columns_read(project, first.entity)
    deleting = first.model_copy(update={"deleted_when": "_operation = 'delete'"})
    star = project.star.model_copy(update={"dimensions": (deleting, *others)})
    assert "_operation" in lineage_columns_read(replace(project, star=star), first.entity)
