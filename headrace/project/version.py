"""Version of Headrace, and code versions: hashes of the configuration that builds an asset."""

import hashlib
import json
from collections.abc import Sequence

from pydantic import BaseModel

VERSION = "0.1.0"

# These keys change no row: a new owner must not make every day stale.
_DESCRIPTIVE = frozenset({"description", "owners", "tags"})


def code_version(*configured: BaseModel | Sequence[object]) -> str:
    """This release and a hash of the configuration, without descriptions, owners and tags."""
    text = json.dumps([_of_rows(model) for model in configured], sort_keys=True, default=str)
    return f"{VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _of_rows(value: object) -> object:
    """A configured value as JSON, without its descriptive keys."""
    if isinstance(value, BaseModel):
        names = type(value).model_fields.keys() - _DESCRIPTIVE
        return {name: _of_rows(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {str(key): _of_rows(one) for key, one in value.items()}
    return [_of_rows(one) for one in value] if isinstance(value, list | tuple) else value
