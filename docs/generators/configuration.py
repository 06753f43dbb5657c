"""Generates docs/reference/configuration.md from the models of the configuration."""

import types
import typing
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.generators.markdown import MADE, anchor, code, sentence, table
from docs.generators.wording import CONFIGURATION, CONFIGURATION_FILES, TITLES, TYPES, VARIABLES
from headrace.config.entities.entity import EntityConfig, SourceConfig
from headrace.config.settings import Settings
from headrace.config.sources.models import MODELS
from headrace.config.star.models import StarConfig
from headrace.schema import TYPE_NAMES

ROOTS: dict[str, tuple[type[BaseModel], ...]] = {
    "base.yaml and its overlays": (Settings,),
    "sources/*.yaml": (SourceConfig, *dict.fromkeys(MODELS.values())),
    "star.yaml": (StarConfig,),
}
# Models of connectors derive from these, whose keys are listed once.
_COMMON = (SourceConfig, EntityConfig)
_SCALARS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    date: "date",
    types.NoneType: "null",
}


def page() -> str:
    """The page."""
    parts = [MADE, "# Configuration\n", CONFIGURATION]
    parts += ["## Environment variables\n", table(("variable", "meaning"), list(VARIABLES.items()))]
    for title, roots in ROOTS.items():
        parts += [f"## {title}\n", CONFIGURATION_FILES[title]]
        parts += [_section(model) for model in models_below(*roots)]
    kinds = [(code(name), TYPES[name]) for name in TYPE_NAMES]
    parts += ["## Column types\n", table(("type", "what it holds"), kinds)]
    return "\n".join(parts)


def models_below(*roots: type[BaseModel]) -> list[type[BaseModel]]:
    """The models and the models of their keys, outer ones first, each once."""
    found: dict[type[BaseModel], None] = {}
    for root in roots:
        found[root] = None
        for field in root.model_fields.values():
            for model in _models_in(field.annotation):
                found |= dict.fromkeys(models_below(model))
    return list(found)


def own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a model's section: of a connector's models those that not all have."""
    if model in _COMMON or not issubclass(model, _COMMON):
        return model.model_fields
    return {name: model.model_fields[name] for name in model.__annotations__}


def key_of(name: str, field: FieldInfo) -> str:
    """A field's name in YAML."""
    return field.alias or name


def title_of(model: type[BaseModel]) -> str:
    """Title of a model's section."""
    return TITLES[model.__name__]


def _section(model: type[BaseModel]) -> str:
    rows = [
        (
            code(key_of(name, field)),
            shown_type(field.annotation),
            _default(field),
            (field.description or "") + _examples(field),
        )
        for name, field in own_fields(model).items()
    ]
    what = sentence(model.__doc__ or "")
    heading = f"### {title_of(model)}\n"
    return "\n".join([heading, what + "\n", table(("key", "type", "default", "meaning"), rows)])


def shown_type(kind: Any) -> str:
    """A type as the page shows it; a model is a link to its section."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"[{title_of(kind)}](#{anchor(title_of(kind))})"
    inner = typing.get_args(kind)
    return _composed(typing.get_origin(kind), inner) if inner else _SCALARS[kind]


def _composed(origin: Any, inner: tuple[Any, ...]) -> str:
    if origin is Literal:
        return " or ".join(code(_yaml(value)) for value in inner)
    if origin is tuple:
        return f"list of {shown_type(inner[0])}"
    if origin is dict:
        return f"{shown_type(inner[0])}: {shown_type(inner[1])}, …"
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(shown_type(one) for one in inner)
    return shown_type(inner[0])  # Annotated


def _models_in(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in typing.get_args(kind):
        yield from _models_in(inner)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "none"
    return "" if field.default is PydanticUndefined else _shown_default(field.default)


def _shown_default(value: Any) -> str:
    if isinstance(value, BaseModel):
        given = value.model_dump(mode="json", exclude_unset=True)
        return code(", ".join(f"{name}: {_yaml(given[name])}" for name in given)) or "its defaults"
    if value in ((), ""):
        return "none"
    return code(_yaml(value))


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and (not value or not value[0].isalnum()):
        return f"'{value}'" if "'" not in value else f'"{value}"'
    return str(value)


def _examples(field: FieldInfo) -> str:
    return f" For example {', '.join(code(e) for e in field.examples)}." if field.examples else ""
