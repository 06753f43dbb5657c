"""Where records and values are in a JSON document: JSONPath (RFC 9535), compiled once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, cast

import jsonpath
from jsonpath.segments import JSONPathChildSegment
from jsonpath.selectors import IndexSelector, NameSelector, WildcardSelector

Step = str | int


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


# There is no such member; null is None.
MISSING: Final = _Missing()

_SHOWN = re.compile(r"[A-Za-z_@$][\w.-]{0,39}")
_MOST_SHOWN = 10


@dataclass(frozen=True)
class SinglePath:
    """A path to one value, such as `$.meta.total` or `@.address.city`.

    Attributes:
        text: As it is declared.
        steps: Names of members and indices of arrays.
        root: `$`: from the record, or the page; `@`: from the element of a child array; `{`: from
            the values of the list that is read.
    """

    text: str
    steps: tuple[Step, ...]
    root: Literal["$", "@", "{"] = "$"

    def value(self, node: Any) -> Any:
        """The value in a document; MISSING if there is none."""
        return walk(node, self.steps)


@dataclass(frozen=True)
class ListPath:
    """A path to a list of values, such as `$.data[*]` or `$.data[?@.kind == 'sale']`.

    Attributes:
        text: As it is declared.
        prefix: Steps to the list, which must exist.
        takes_all: Whether all elements of the list are the values.
        is_single: Whether the path names one value: an object there is the only value.
        compiled: Finds the values otherwise.
    """

    text: str
    prefix: tuple[Step, ...]
    takes_all: bool
    is_single: bool
    compiled: jsonpath.JSONPath

    @property
    def prefix_text(self) -> str:
        """The path of the list."""
        return self.text[0] + "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.prefix
        )

    def values(self, node: Any) -> list[Any] | None:
        """The values in a document; None if there is no list. null is an empty list."""
        found = walk(node, self.prefix)
        if found is None:
            return []
        if self.takes_all and isinstance(found, list):
            return found
        if self.is_single and isinstance(found, dict):
            return [found]
        if self.takes_all or found is MISSING:
            return None
        if not isinstance(found, list | dict):
            return None
        return cast("list[Any]", self.compiled.findall(node))


def walk(node: Any, steps: Sequence[Step]) -> Any:
    """The value that steps lead to; MISSING if there is none."""
    for step in steps:
        if isinstance(step, str):
            node = node.get(step, MISSING) if isinstance(node, dict) else MISSING
        elif isinstance(node, list) and -len(node) <= step < len(node):
            node = node[step]
        else:
            return MISSING
    return node


@cache
def single_path(text: str) -> SinglePath:
    """A path of config.json_paths.SingleJsonPath, or one that begins with @."""
    compiled = _compiled(text)
    steps, _ = _prefix(compiled)
    return SinglePath(text, steps, "@" if text.startswith("@") else "$")


@cache
def list_path(text: str) -> ListPath:
    """A path of config.json_paths.JsonPath, or one that begins with @.

    One that names a single value names the list: `$.data` is `$.data[*]`.
    """
    compiled = _compiled(text)
    steps, rest = _prefix(compiled)
    is_all = len(rest) == 1 and isinstance(rest[0], JSONPathChildSegment)
    takes_all = not rest or (
        is_all and [type(selector) for selector in rest[0].selectors] == [WildcardSelector]
    )
    return ListPath(text, steps, takes_all, not rest, compiled)


def members(node: Any) -> str:
    """What a value is, for errors: names of members, and no value."""
    if isinstance(node, list):
        return f"an array of {len(node)}"
    if not isinstance(node, dict):
        return "null" if node is None else f"a {_kind(node)}"
    names = [name for name in node if _SHOWN.fullmatch(name)][:_MOST_SHOWN]
    more = f" and {len(node) - len(names)} more" if len(node) > len(names) else ""
    return f"an object with {', '.join(names)}{more}" if node else "an object without members"


def shown_name(name: str) -> str:
    """The name of a member, for errors; one that may be data, such as an address, is not shown."""
    return name if _SHOWN.fullmatch(name) else "…"


def _kind(node: object) -> str:
    return "boolean" if isinstance(node, bool) else "text" if isinstance(node, str) else "number"


def _compiled(text: str) -> jsonpath.JSONPath:
    return cast("jsonpath.JSONPath", jsonpath.compile(f"${text[1:]}", strict=True))


def _prefix(path: jsonpath.JSONPath) -> tuple[tuple[Step, ...], list[Any]]:
    """Steps of the segments that name one value, and the segments after them."""
    steps: list[Step] = []
    segments = list(path.segments)
    for number, segment in enumerate(segments):
        selectors = segment.selectors
        if not isinstance(segment, JSONPathChildSegment) or len(selectors) != 1:
            return tuple(steps), segments[number:]
        match selectors[0]:
            case NameSelector(name=str(name)):
                steps.append(name)
            case IndexSelector(index=int(index)):
                steps.append(index)
            case _:
                return tuple(steps), segments[number:]
    return tuple(steps), []
