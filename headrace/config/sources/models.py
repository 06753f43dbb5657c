"""The model of a source for each connector."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import TypeAdapter

from headrace.config.entities.entity import SourceConfig
from headrace.config.model import nearest
from headrace.config.sources.file_source import FilesSource
from headrace.config.sources.mongodb_source import MongoSource
from headrace.config.sources.rest_source import RestSource
from headrace.config.sources.table_source import DatabaseSource

# One model may serve several connectors. A new one is one more member here, and a factory in
# headrace.sources.registry.
AnySource = FilesSource | DatabaseSource | RestSource | MongoSource

MODELS: Mapping[str, type[SourceConfig]] = {
    name: model
    for model in get_args(AnySource)
    for name in get_args(model.model_fields["connector"].annotation)
}


def source_model(values: Mapping[str, Any]) -> type[SourceConfig]:
    """The model for the values of a source's file.

    Of an unknown connector it is that of the nearest name: the file's other faults are found too.
    """
    name = values.get("connector")
    if not isinstance(name, str):
        return FilesSource
    return MODELS.get(name) or MODELS[nearest(name, MODELS) or "files"]


def parse_source(values: Mapping[str, Any]) -> SourceConfig:
    """The source that some values declare.

    Raises:
        ValidationError: They do not.
    """
    return source_model(values).model_validate(values)


def source_schema() -> dict[str, Any]:
    """The JSON Schema of a source's file."""
    adapter: TypeAdapter[AnySource] = TypeAdapter(AnySource)
    return adapter.json_schema(by_alias=True)
