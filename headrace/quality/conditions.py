"""SQL conditions of the configuration, parsed and typed by the engine before a row is read."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.model import did_you_mean
from headrace.config.sources import PLACE_COLUMNS, EntityConfig
from headrace.config.star import DimensionConfig
from headrace.engine.types import spark_schema
from headrace.errors import ConfigError
from headrace.schema import Column as SchemaColumn
from headrace.schema import TableSchema

# One value of each type that a row may hold, and that an engine stumbles over first.
_ODD = {
    "string": "x",
    "boolean": False,
    "int": 0,
    "bigint": 0,
    "double": 0.0,
    "date": date(2000, 1, 1),
    "timestamp": datetime(2000, 1, 1),  # noqa: DTZ001  # wall-clock time
    "timestamptz": datetime(2000, 1, 1),  # noqa: DTZ001  # in the session's zone, UTC
    "list<string>": ["x"],
}
# Columns that come from no file.
_OF_EVERY_ROW = (
    SchemaColumn("_captured_at", "timestamptz", description="When the source was read."),
    SchemaColumn("_partition_date", "date", description="Day of the row, UTC."),
)
_IS = "_condition_{}"
_TOKEN = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?P<quoted>[^"]*)"|(?P<word>[A-Za-z_]\w*)(?P<call>\s*\()?"""
)
_WITH_NULL = re.compile(r"(?<![<=])(?:==?|<>|!=|<=|>=|<|>)\s*null\b", re.IGNORECASE)
_AMONG_NULL = re.compile(r"\bnot\s+in\s*\((?:[^()]*,)?\s*null\s*[,)]", re.IGNORECASE)
_LOOKS_AROUND = {"over": "a window function", "select": "a query"}
_MAKES_ROWS = {"explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "stack"}

_NO_COLUMN = re.compile(r"attribute ObjectName\(\[(.*?)\]\) is missing")
_IDENTIFIER = re.compile(r'Identifier\("(.*?)"\)')
_NO_FUNCTION = re.compile(r"unknown function: (\w+)")
_SYNTAX = re.compile(r"found (.+?) (?:at (\d+):(\d+) )?expected")
_MOST = 160

# What other dialects write, and what this one does.
_ELSEWHERE = {
    "~": "rlike",
    "[": "names without brackets",
    "getdate": "current_timestamp()",
    "sysdate": "current_timestamp()",
    "isnumeric": "try_cast(… as double) is not null",
    "iif": "if(…, …, …)",
    "regexp_matches": "… rlike '…'",
    "try_to_date": "try_cast(… as date)",
    "to_number": "try_cast(… as decimal(p,s))",
    "isdate": "try_cast(… as date) is not null",
    "strftime": "date_format",
    "datepart": "extract(… from …)",
}


@dataclass(frozen=True)
class Condition:
    """A SQL condition and its path in the file, such as `entities[orders].where`."""

    place: str
    sql: str


def entity_conditions(entity: EntityConfig) -> list[Condition]:
    """The conditions on an entity's rows that its source declares."""
    place = f"entities[{entity.name}]"
    where = [Condition(f"{place}.where", entity.where)] if entity.where is not None else []
    rules = [Condition(f"{place}.rules[{r.name}].expect", r.expect) for r in entity.rules]
    return where + rules


def dimension_conditions(dimension: DimensionConfig) -> list[Condition]:
    """The conditions on an entity's rows that a dimension declares."""
    if dimension.deleted_when is None:
        return []
    return [Condition(f"dimensions[{dimension.name}].deleted_when", dimension.deleted_when)]


def condition_schema(entity: EntityConfig) -> TableSchema:
    """The columns that a condition may use: the declared ones, and where a row was read."""
    return entity.declared_schema().plus((*PLACE_COLUMNS.values(), *_OF_EVERY_ROW))


def require_sound(
    spark: SparkSession, entity: EntityConfig, conditions: Sequence[Condition]
) -> None:
    """See before any row is read that the engine takes all conditions.

    Raises:
        ConfigError: One line a condition that it refuses.
    """
    faults = condition_faults(spark, condition_schema(entity), conditions)
    if lines := [f"{place}: {why}" for place, why in faults]:
        raise ConfigError("\n".join(lines), fix="headrace check names file and line")


def condition_faults(
    spark: SparkSession, schema: TableSchema, conditions: Sequence[Condition]
) -> Iterator[tuple[str, str]]:
    """What is wrong with conditions on a table's rows: the place, and why no day could be judged.

    Each is tried on two rows, one of NULLs and one of zeros and of texts that are no numbers. What
    an engine refuses there, it refuses in the middle of a run, for all rows of a day.

    Args:
        spark: The engine.
        schema: The columns that a condition may use.
        conditions: The conditions, at most a few hundred.
    """
    if not conditions:
        return
    rows = [
        tuple(None for _ in schema),
        tuple(_ODD.get(column.type, Decimal(0)) for column in schema),
    ]
    frame = spark.createDataFrame(rows, spark_schema(schema))
    written = {c: _misleading(c.sql, schema.names) for c in conditions}
    if not any(written.values()) and _are_sound(frame, conditions):
        return
    for condition in conditions:
        if why := written[condition] or _why_not(frame, condition.sql, schema.names):
            yield condition.place, why


def _are_sound(frame: DataFrame, conditions: Sequence[Condition]) -> bool:
    """Whether the engine takes them all: one question instead of three each."""
    try:
        judged = frame.select(
            *(F.expr(f"({c.sql})").alias(_IS.format(i)) for i, c in enumerate(conditions)),
            # A column of the rows beside them: a sum stands alone in a query, but not here.
            F.col(frame.columns[0]).alias("_row"),
        ).toArrow()
    except PySparkException:
        return False
    types = judged.schema.types[:-1]
    # Two rows stay two: an expression may turn a row into several.
    return judged.num_rows == 2 and all(str(each) in {"bool", "null"} for each in types)  # noqa: PLR2004


def _misleading(text: str, names: Collection[str]) -> str | None:
    """What the engine takes, and what does not mean what it says."""
    if not text.strip():
        return "is empty"
    without_texts = _TOKEN.sub(lambda token: token[0] if token["word"] else "''", text)
    if _WITH_NULL.search(without_texts) or _AMONG_NULL.search(without_texts):
        return "compares with NULL, which is true of no row: write is null, or is not null"
    for token in _TOKEN.finditer(text):
        quoted, word = token["quoted"], (token["word"] or "").lower()
        if quoted is not None and quoted.lower() in names:
            return f'"{quoted}" is a text here, not the column: write {quoted}, or `{quoted}`'
        if word in _LOOKS_AROUND and (word == "select" or token["call"]):
            return f"holds {_LOOKS_AROUND[word]}: a condition looks at one row alone"
        if word in _MAKES_ROWS and token["call"]:
            return f"{word} makes several rows of one: a condition looks at one row alone"
    return None


def _why_not(frame: DataFrame, text: str, names: Collection[str]) -> str | None:
    try:
        # The same parentheses as in a run: what closes them too early, or a comment, shows here.
        judged = frame.select(F.expr(f"({text})").alias("_is"), F.col(frame.columns[0]))
        kind = judged.schema["_is"].dataType.simpleString()
    except PySparkException as error:
        return _in_words(error, names)
    if kind not in {"boolean", "void"}:
        return f"is a {kind}, not true or false: compare it with something"
    for is_odd in (False, True):
        part = frame.where(_is_odd(frame) if is_odd else ~_is_odd(frame))
        try:
            part.select(F.expr(f"({text})").alias("_is"), F.col(frame.columns[0])).collect()
        except PySparkException as error:
            what = _in_words(error, names)
            if not is_odd:
                return what
            return f"{what}; one such row would fail its whole day: {_SAFE}"
    return None


_SAFE = "use try_cast(… as …) for a text, nullif(…, 0) for a divisor"


def _is_odd(frame: DataFrame) -> Column:
    return F.col(frame.columns[0]).isNotNull()


def _in_words(error: PySparkException, names: Collection[str]) -> str:
    """The engine's refusal, without what only its authors can read."""
    message = str(error)
    if found := _NO_COLUMN.search(message):
        parts = _IDENTIFIER.findall(found[1])
        if len(parts) > 1:
            return f"'{'.'.join(parts)}': columns stand alone, without a table before them"
        return f"there is no column '{parts[0]}'{did_you_mean(parts[0], names)}"
    if found := _NO_FUNCTION.search(message):
        return f"there is no function {found[1]}{_instead(found[1]) or _near_function(found[1])}"
    if "No field named" in message:
        return "adds up rows (sum, count, max, …): a condition looks at one row alone"
    if found := _SYNTAX.search(message):
        at = f" at character {found[2]}" if found[2] else ""
        return f"cannot be read as SQL: unexpected {found[1]}{at}{_instead(found[1])}"
    return f"the engine refuses it: {message.splitlines()[0][:_MOST]}"


def _instead(word: str) -> str:
    return f"; here it is {_ELSEWHERE[word.lower()]}" if word.lower() in _ELSEWHERE else ""


def _near_function(word: str) -> str:
    return did_you_mean(word, [name for name in dir(F) if name.islower() and name[0] != "_"])
