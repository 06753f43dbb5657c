"""A YAML file of the configuration: its values, and the line of each value."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.errors import ConfigError

Place = tuple[str | int, ...]

_KEY_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}
_NO_TAG = re.compile(r"could not determine a constructor for the tag '(?:tag:yaml.org,2002:)?(.*)'")
# Keys that name an entry of a list; the first one that it has counts.
_LABELS = ("name", "role", "dimension")
_SYNTAX = "correct the syntax there: indentation by spaces, a blank after each colon"
_AS_TEXT = "save it as UTF-8, without control characters"
# Signs without quotes that YAML does not read as values, so that the key has none.
_LOST_SIGN = re.compile(
    r"[{,\s](?P<key>comment|decimal_mark|delimiter|escape|grouping|quote):[ \t]+"
    r"(?:(?P<comment>#)[ \t]*[,}]?[ \t]*$|(?P<comma>,))"
    r"|[{,\s](?P<texts>null_texts):[ \t]+(?P<null>null|Null|NULL|~)[ \t]*(?:[,}#]|$)",
    re.MULTILINE,
)
_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


@dataclass(frozen=True)
class Document:
    """A YAML file as read; `root` is None for an empty one."""

    path: Path
    values: dict[str, Any]
    root: yaml.Node | None

    def line_of(self, place: Place) -> int | None:
        """The line of a value, from 1; of a missing value, that of the entry it belongs to."""
        return _deepest(self.root, place)[0]

    def holds(self, place: Place) -> bool:
        """Whether there is a value at `place`."""
        return _deepest(self.root, place)[1] == len(place)


def read_document(path: Path) -> Document:
    """Read one file.

    Raises:
        ConfigError: It is not YAML, is not a mapping, or repeats a key.
    """
    text = _text_of(path)
    _refuse_lost_signs(path, text)
    root: yaml.Node | None = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        repeated = list(_repeated_keys(root, set())) if root is not None else []
        _refuse_other_keys(root, set())
        values = {} if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        at = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{at}: not YAML: {_in_words(error)}", fix=_SYNTAX) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}", fix=_AS_TEXT) from None
    except ValueError as error:
        raise ConfigError(
            f"{path}{_line_of_bad_scalar(root)}: no such value: {error}",
            fix="correct it, or put it in quotes if it is a text",
        ) from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply", fix=_SYNTAX) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        what = "a list" if isinstance(values, list) else "one text"
        raise ConfigError(
            f"{path}: must hold keys and values, not {what}",
            fix="see docs/reference/configuration.md",
        )
    if repeated:
        lines = [
            f"{path}:{again}: '{key}' is given twice, in line {first} too; only one would count"
            for key, first, again in repeated
        ]
        raise ConfigError("\n".join(lines), fix="keep one of them")
    return Document(path, values, root)


def _text_of(path: Path) -> str:
    try:
        # utf-8-sig: editors on Windows begin a file with a byte order mark.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", fix="create it; see config/ for one") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", fix="make it a file that you may read"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not YAML: {error}", fix=_AS_TEXT) from None


def _refuse_lost_signs(path: Path, text: str) -> None:
    """A sign or text without quotes that YAML does not read as one: the key would have no value.

    Raises:
        ConfigError: There is one.
    """
    if lost := _LOST_SIGN.search(text):
        key = lost["key"] or lost["texts"]
        line = text.count("\n", 0, lost.start() + 1) + 1
        if lost["null"]:
            what = f"YAML reads {lost['null']} as no value: write ['{lost['null']}']"
        elif lost["comma"]:
            what = "YAML reads , as the end of the value: write ','"
        else:
            what = "YAML reads # as the beginning of a comment: write '#'"
        raise ConfigError(f"{path}:{line}: {key}: {what}", fix="put the sign in quotes")


def _in_words(error: yaml.MarkedYAMLError) -> str:
    """The parser's error without names of tokens."""
    problem = str(error.problem or error.context)
    begun = error.context_mark.line + 1 if error.context_mark else None
    if found := _NO_TAG.search(problem):
        return f"{found[1]!r} means nothing here: put a text that begins with ! in quotes"
    if "<block end>" in problem and problem.endswith(("'-'", "'?'", "start>'")):
        return f"this line fits no indentation before it; what holds it begins in line {begun}"
    said = {
        "<block end>": "a text ends too early: look at the quotes of this line and the last",
        "expected ',' or": "a ], a }, a comma or quotes around a text are missing, in a list or "
        f"mapping that begins in line {begun}",
        "'\\t' that cannot start": "nothing may begin with a tab: indent by spaces",
        "cannot start any token": "no text may begin with this sign: put it in quotes",
        "while scanning a quoted": f"the quote that opens in line {begun} is not closed",
        "could not find expected ':'": "a colon with a blank after it is missing in this line or "
        "the one before",
        "mapping values are not allowed": "a key cannot stand here: look at the indentation of "
        "this line and the one before, and put a text with a colon in quotes",
        "expected alphabetic or numeric": "a text that begins with * or & needs quotes",
    }
    whole = f"{error.context} {problem}"
    return next((words for sign, words in said.items() if sign in whole), problem)


def _refuse_other_keys(node: yaml.Node | None, seen: set[int]) -> None:
    """Refuse keys that YAML reads as a number, a boolean or a list: no valid key is one.

    Raises:
        MarkedYAMLError: There is one; its mark has the line.
    """
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag not in _KEY_TAGS:
                shown = f"'{key.value}'" if isinstance(key, yaml.ScalarNode) else "a list"
                raise yaml.MarkedYAMLError(
                    problem=f"{shown} is no key here: put a text in quotes, and a number with a "
                    "decimal point (0.1, not 0,1)",
                    problem_mark=key.start_mark,
                )
            _refuse_other_keys(value, seen)
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_other_keys(child, seen)


def _line_of_bad_scalar(node: yaml.Node | None, seen: frozenset[int] = frozenset()) -> str:
    """`:12`, for the line of the first value that looks like a date or number and is invalid."""
    if isinstance(node, yaml.ScalarNode):
        try:
            yaml.SafeLoader("").construct_object(node)
        except ValueError:
            return f":{node.start_mark.line + 1}"
        return ""
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [value for _, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    seen |= {id(node)}
    lines = (_line_of_bad_scalar(child, seen) for child in children if id(child) not in seen)
    return next(filter(None, lines), "")


def show_place(values: object, place: Place) -> str:
    """A path for people: entries of lists by their names, such as `entities[orders].key`."""
    path, at = "", values
    for part in place:
        if isinstance(part, int):
            path += f"[{_label(at, part)}]"
            at = at[part] if isinstance(at, list) and part < len(at) else None
        else:
            path += f".{part}" if path else part
            at = at.get(part) if isinstance(at, dict) else None
    return path


def read_place(values: object, text: str) -> Place:
    """Parse a path as `show_place` writes it, with entries of lists by number or by name."""
    place: list[str | int] = []
    at = values
    for entry, key in _STEP.findall(text):
        part: str | int = key
        if entry:
            names = [_label(at, i) for i in range(len(at))] if isinstance(at, list) else []
            part = int(entry) if entry.isdigit() else names.index(entry) if entry in names else 0
        place.append(part)
        at = _child(at, part)
    return tuple(place)


def _child(at: object, part: str | int) -> object:
    if isinstance(at, list) and isinstance(part, int):
        return at[part] if part < len(at) else None
    return at.get(part) if isinstance(at, dict) else None


def _label(entries: object, index: int) -> str:
    """The name of an entry of a list if it is unique, else its number."""
    if not isinstance(entries, list) or index >= len(entries):
        return str(index)
    names = [_name(entry) for entry in entries]
    mine = names[index]
    return mine if mine and names.count(mine) == 1 else str(index)


def _name(entry: object) -> str | None:
    if not isinstance(entry, dict):
        return None
    return next((entry[k] for k in _LABELS if isinstance(entry.get(k), str)), None)


def _deepest(root: yaml.Node | None, place: Place) -> tuple[int | None, int]:
    """The line of the deepest node on the way to `place`, and how many steps lead there."""
    line, node = None, root
    for steps, part in enumerate(place):
        found = _step(node, part)
        if found is None:
            return line, steps
        key, node = found
        line = key.start_mark.line + 1
    return line, len(place)


def _step(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, yaml.MappingNode):
        # The last one: keys merged by `<<` come before the keys of the mapping itself.
        return next(((k, v) for k, v in reversed(node.value) if k.value == part), None)
    return None


def _repeated_keys(node: yaml.Node, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    """Each key that a mapping has twice, with both lines; an anchored node is visited once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in lines:
                    yield key.value, lines[key.value], line
                lines.setdefault(key.value, line)
            yield from _repeated_keys(value, seen)
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _repeated_keys(child, seen)
