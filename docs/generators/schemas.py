"""Generates docs/reference/schemas: JSON Schemas with which editors check the YAML files."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from headrace.config.settings import Settings
from headrace.config.sources.models import source_schema
from headrace.config.star.models import StarConfig

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def files() -> dict[str, str]:
    """Name and text of each schema."""
    made = {
        "settings.json": _schema(Settings),
        # Overlays such as development.yaml have only the keys that differ from base.yaml.
        "overlay.json": _with_nothing_required(_schema(Settings)),
        "source.json": {"$schema": _DIALECT, **source_schema()},
        "star.json": _schema(StarConfig),
    }
    return {
        name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in made.items()
    }


def _schema(root: type[BaseModel]) -> dict[str, Any]:
    schema = root.model_json_schema(by_alias=True)
    return {"$schema": _DIALECT, **schema}


def _with_nothing_required(schema: dict[str, Any]) -> dict[str, Any]:
    for part in _parts(schema):
        part.pop("required", None)
    # A secret has no other key than the name of its variable.
    schema["$defs"]["Secret"]["required"] = ["env"]
    return schema


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from _parts(value)
