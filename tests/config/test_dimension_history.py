"""Dimensions that would lose changes without a word are refused before anything runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.config.loader import Project, load_project
from headrace.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "demo/files/config"


def loaded(tmp_path: Path, key: list[str], **changes: Any) -> Project:
    """The shipped configuration with another key of products, and another dim_product."""
    folder = Path(shutil.copytree(CONFIG, tmp_path / "config"))
    [path] = (folder / "sources").glob("*.yaml")
    source = yaml.safe_load(path.read_text())
    [products] = (entity for entity in source["entities"] if entity["name"] == "products")
    products["key"] = key
    path.write_text(yaml.safe_dump(source))
    star = yaml.safe_load((folder / "star.yaml").read_text())
    star["dimensions"][1] |= changes
    (folder / "star.yaml").write_text(yaml.safe_dump(star))
    return load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})


@pytest.mark.parametrize(
    "key",
    [
        ["product_id"],
        ["_source_object", "product_id"],
        ["manufacturer_id"],
        ["product_id", "brand"],  # What changes of a member is no number of a change.
    ],
    ids="-".join,
)
def test_a_key_that_keeps_one_change_of_a_member_a_day_is_refused(
    tmp_path: Path, key: list[str]
) -> None:
    with pytest.raises(
        ConfigError, match=r"add 'changed_at' or '_source_position' to the key of retail\."
    ):
        loaded(tmp_path, key)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        (["product_id", "_source_position"], {}),
        (["product_id", "changed_at"], {}),
        (["product_id", "brand"], {"source_order": ["brand"]}),
        (["product_id"], {"effective_time": None}),
    ],
    ids=str,
)
def test_a_key_that_keeps_every_change_or_a_day_of_states_is_not(
    tmp_path: Path, key: list[str], changes: dict[str, Any]
) -> None:
    loaded(tmp_path, key, **changes)


def test_dimensions_of_one_entity_have_one_order_of_its_rows(tmp_path: Path) -> None:
    key = ["product_id", "changed_at"]
    uses = loaded(tmp_path, key, source_order=["package_size"]).star.uses_of("retail.products")
    assert uses is not None
    assert uses.source_order == ("package_size",)
    other = {"name": "dim_maker", "natural_key": {"maker": "manufacturer_id"}}
    star = tmp_path / "config" / "star.yaml"
    changed = yaml.safe_load(star.read_text())
    changed["dimensions"].append(
        {**other, "entity": "retail.products", "source_order": ["changed_at"]}
    )
    star.write_text(yaml.safe_dump(changed))
    with pytest.raises(ConfigError, match=r"rows of retail\.products have one order"):
        load_project({"HEADRACE_CONFIG": str(star.parent), "HEADRACE_HOME": "/scratch"})


def test_a_share_of_members_is_declared_for_snapshots_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_vanished_share: is for dimensions with"):
        loaded(tmp_path, ["product_id", "changed_at"], max_vanished_share=0.1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ignore_nulls": ["brandt"]}, "ignore_nulls: brandt: not among attributes.*brand"),
        ({"sequence": "package_size"}, "sequence: 'package_size' is a string"),
        ({"sequence": "manufacturer_id"}, "sequence: 'manufacturer_id' may be missing"),
        (
            {"sequence": "product_id", "full_snapshot": True, "effective_time": None},
            "sequence: rows of full snapshots .* drop it, or drop `full_snapshot`",
        ),
        ({"untracked": {"brand": "brand"}}, "untracked.brand: columns named twice: brand"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_dimension_cannot_keep_or_order_is_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        loaded(tmp_path, ["product_id", "changed_at"], **changes)


def test_a_number_that_every_row_has_orders_changes(tmp_path: Path) -> None:
    star = loaded(tmp_path, ["product_id", "changed_at"], sequence="product_id").star
    uses = star.uses_of("retail.products")
    assert uses is not None
    assert uses.source_order == ("product_id",)


@pytest.mark.parametrize(
    ("former", "names"),
    [
        ({"overwritten": {"brand": "brand"}}, "type1"),
        ({"snapshot": True}, "full_snapshot"),
        ({"deletes": {"when": "operation = 'D'", "do": "close"}}, "deleted_when and on_delete"),
    ],
    ids=["overwritten", "snapshot", "deletes"],
)
def test_a_former_name_of_a_key_is_answered_with_the_present_one(
    tmp_path: Path, former: dict[str, Any], names: str
) -> None:
    (key,) = former
    with pytest.raises(ConfigError, match=rf"{key}: is not a key .*; it is now called {names}$"):
        loaded(tmp_path, ["product_id", "changed_at"], **former)


def test_a_former_name_in_settings_is_answered_with_the_present_one(tmp_path: Path) -> None:
    loaded(tmp_path, ["product_id", "changed_at"])
    settings = tmp_path / "config" / "development.yaml"
    settings.write_text(settings.read_text() + "\nengine: {slice_bytes: 2000000}\n")
    with pytest.raises(ConfigError, match=r"engine\.slice_bytes: .* now called batch_bytes$"):
        load_project({"HEADRACE_CONFIG": str(settings.parent), "HEADRACE_HOME": "/scratch"})
