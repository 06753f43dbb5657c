"""Nested values as JSON text."""

import json
from collections.abc import Callable
from typing import Any

quoted = json.JSONEncoder(ensure_ascii=False).encode


def json_text(value: Any, scalar: Callable[[Any], str]) -> str:
    """JSON without blanks; json.dumps would write a Decimal as a double.

    Args:
        value: Objects, arrays, texts, null, and values that `scalar` knows.
        scalar: JSON of any other value.
    """
    if isinstance(value, dict):
        members = [f"{quoted(name)}:{json_text(v, scalar)}" for name, v in value.items()]
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join([json_text(v, scalar) for v in value])}]"
    if value is None:
        return "null"
    # Types of their own that are texts to Python, such as code, are the caller's.
    return quoted(value) if type(value) is str else scalar(value)
