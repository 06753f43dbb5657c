"""JSONPath (RFC 9535) in the configuration: where records and values are in a document."""

import re
from typing import Annotated

from pydantic import AfterValidator

from headrace.config.entities.columns import ColumnConfig

# Members and elements by name or number: what most paths are, and what needs no parser.
_SINGLE = re.compile(r"\$(?:\.[A-Za-z_][A-Za-z0-9_]*|\[(?:0|[1-9][0-9]{0,8})\])*")
_PLAIN = re.compile(rf"{_SINGLE.pattern}(?:\[\*\]|\.\*)?")


def json_path(text: str) -> str:
    """Check a path; raises ValueError."""
    if _PLAIN.fullmatch(text):
        return text
    # It takes a tenth of a second to import, for which few projects have to wait.
    import jsonpath  # noqa: PLC0415

    try:
        jsonpath.compile(text, strict=True)
    except jsonpath.JSONPathError as error:
        # Its text shows the place in lines of their own.
        raise ValueError(f"is no JSONPath (RFC 9535), such as $.data[*]: {error.args[0]}") from None
    return text


def single_json_path(text: str) -> str:
    """Check a path that names one value; raises ValueError."""
    if _SINGLE.fullmatch(text):
        return text
    import jsonpath  # noqa: PLC0415

    path = jsonpath.compile(json_path(text), strict=True)
    if not isinstance(path, jsonpath.JSONPath) or not path.singular_query():
        raise ValueError("must name one value, such as $.meta.total, and no list of them")
    return text


def require_column_paths(columns: tuple[ColumnConfig, ...]) -> None:
    """Check the names of columns that are paths: `$…` or `@…`.

    Raises:
        ValueError: One does not name one value.
    """
    for i, column in enumerate(columns):
        for name in column.source_names:
            if not name.startswith(("$", "@")):
                continue
            try:
                single_json_path(f"${name[1:]}")
            except ValueError as error:
                raise ValueError(f"columns[{i}].from: '{name}' {error}") from None


JsonPath = Annotated[str, AfterValidator(json_path)]
SingleJsonPath = Annotated[str, AfterValidator(single_json_path)]
