"""Generates docs/reference/ledger.md from the DDL of the ledger's tables."""

import inspect
import re

from docs.generators.markdown import MADE, code, table
from docs.generators.wording import LEDGER, LEDGER_COLUMNS
from headrace.ledger.records import PartitionRecord
from headrace.ledger.tables import TABLES

_TABLE = re.compile(r"create table if not exists (\S+) \((.*?)\n\);", re.DOTALL)
_COLUMN = re.compile(
    r"^    (?!primary key)(?P<name>\w+) (?P<type>\w+)(?P<rest>.*?),?$", re.MULTILINE
)
_COMMENT = re.compile(r"comment on table (\S+) is\s+'([^']*)'")
_ATTRIBUTE = re.compile(r"^(?P<name>\w+): (?P<text>.*(?:\n {4,}.*)*)", re.MULTILINE)


def page() -> str:
    """The page."""
    comments = dict(_COMMENT.findall(TABLES))
    parts = [MADE, "# The ledger\n", LEDGER]
    for name, body in _TABLE.findall(TABLES):
        rows = [_row(name, match) for match in _COLUMN.finditer(body)]
        columns = ("column", "type", "null", "meaning")
        parts += [f"## {name}\n", comments[name] + "\n", table(columns, rows)]
    return "\n".join(parts)


def _row(relation: str, match: re.Match[str]) -> tuple[str, str, str, str]:
    name, rest = match["name"], match["rest"]
    meaning = {**_attributes(PartitionRecord), **LEDGER_COLUMNS[relation]}[name]
    kind = match["type"] + "".join(re.findall(r"^\(.*?\)", rest))
    nullable = "no" if "not null" in rest or "primary key" in rest else "yes"
    return code(name), kind, nullable, meaning


def _attributes(record: type) -> dict[str, str]:
    """The description of each attribute in a dataclass's docstring."""
    _, _, listed = inspect.getdoc(record).partition("Attributes:\n")  # type: ignore[union-attr]
    return {
        m["name"]: " ".join(m["text"].split())
        for m in _ATTRIBUTE.finditer(inspect.cleandoc(listed))
    }
