"""Validation of the configuration's SQL conditions before a run, by text and by the engine."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.config.entities.entity import EntityConfig
from headrace.config.model import did_you_mean
from headrace.config.star.models import DimensionConfig
from headrace.engine.values.types import spark_schema
from headrace.errors import ConfigError
from headrace.lineage_schema import LINEAGE
from headrace.schema import PARTITION_COLUMN, TableSchema
from headrace.schema import Column as SchemaColumn

# One value of each type on which expressions are most likely to fail.
_PROBE_VALUES = {
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
_RESULT = "_condition_{}"
_TOKEN = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?P<quoted>[^"]*)"|(?P<word>[A-Za-z_]\w*)(?P<call>\s*\()?"""
)
_COMPARES_WITH_NULL = re.compile(r"(?<![<=])(?:==?|<>|!=|<=|>=|<|>)\s*null\b", re.IGNORECASE)
_NOT_IN_WITH_NULL = re.compile(r"\bnot\s+in\s*\((?:[^()]*,)?\s*null\s*[,)]", re.IGNORECASE)
_NOT_ROW_BY_ROW = {"over": "a window function", "select": "a query"}
_CAPTURE_TIME = "_captured_at, when the source was read"
_CAPTURE_DATE = "cast(_captured_at as date), the day on which the source was read"
_DIFFERS_BETWEEN_RUNS = "has another value in each run, so a rebuild would give other rows"
_ROW_VALUE = "a value of the row, such as pmod(id, 10)"
# Functions whose value differs between runs, and the replacement.
_DIFFERENT_IN_EACH_RUN = {
    "current_timestamp": _CAPTURE_TIME,
    "localtimestamp": _CAPTURE_TIME,
    "current_date": _CAPTURE_DATE,
    "current_time": _CAPTURE_TIME,
    "now": _CAPTURE_TIME,
    "curdate": _CAPTURE_DATE,
    **dict.fromkeys(
        ("rand", "random", "randn", "randstr", "uniform", "uuid", "shuffle"), _ROW_VALUE
    ),
    **dict.fromkeys(("monotonically_increasing_id", "spark_partition_id"), "_source_position"),
    "input_file_name": "_source_object",
    **dict.fromkeys(("current_user", "session_user", "user"), "a column"),
}
_CALLED_WITHOUT_PARENTHESES = (
    "current_timestamp",
    "localtimestamp",
    "current_date",
    "current_user",
)
_NOW = re.compile(
    r"\b(?:unix_timestamp\s*\(\s*\)|(?:date|timestamp)\s*'(?:now|today|yesterday|tomorrow)')",
    re.IGNORECASE,
)
_MAKES_ROWS = {"explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "stack"}

_NO_COLUMN = re.compile(r"attribute ObjectName\(\[(.*?)\]\) is missing")
_IDENTIFIER = re.compile(r'Identifier\("(.*?)"\)')
_NO_FUNCTION = re.compile(r"unknown function: (\w+)")
_SYNTAX = re.compile(r"found (.+?) (?:at (\d+):(\d+) )?expected")
_MAX_MESSAGE = 160
_SAFE = "use try_cast(… as …) for a text, nullif(…, 0) for a divisor"
# A name of at most so many letters is a code rather than a misspelt column.
_SHORT = 3

# Functions and operators of other dialects, and their equivalent here.
_EQUIVALENTS = {
    "~": "rlike",
    "[": "names without brackets",
    "getdate": _CAPTURE_TIME,
    "sysdate": _CAPTURE_TIME,
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
    """The conditions that an entity declares on its rows."""
    place = f"entities[{entity.name}]"
    where = [Condition(f"{place}.where", entity.where)] if entity.where is not None else []
    rules = [Condition(f"{place}.rules[{r.name}].expect", r.expect) for r in entity.rules]
    return where + rules


def dimension_conditions(dimension: DimensionConfig) -> list[Condition]:
    """The conditions that a dimension declares on its entity's rows."""
    if dimension.deleted_when is None:
        return []
    return [Condition(f"dimensions[{dimension.name}].deleted_when", dimension.deleted_when)]


def condition_schema(entity: EntityConfig) -> TableSchema:
    """The columns that a condition may use: declared ones, lineage columns, the partition's day."""
    return entity.declared_schema().plus((*LINEAGE, SchemaColumn(PARTITION_COLUMN, "date")))


def require_valid_conditions(
    spark: SparkSession, entity: EntityConfig, conditions: Sequence[Condition], rows_of: str = ""
) -> None:
    """Check that the engine accepts all conditions.

    Args:
        spark: The engine.
        entity: The entity whose rows the conditions read.
        conditions: The conditions.
        rows_of: The entity's name, for a dimension of several entities.

    Raises:
        ConfigError: One line for each condition that it rejects.
    """
    faults = condition_faults(spark, condition_schema(entity), conditions)
    rows = f"for rows of {rows_of}, " if rows_of else ""
    if lines := [f"{place}: {rows}{why}" for place, why in faults]:
        raise ConfigError("\n".join(lines), fix="headrace check names file and line")


def condition_faults(
    spark: SparkSession, schema: TableSchema, conditions: Sequence[Condition]
) -> Iterator[tuple[str, str]]:
    """Faults of conditions: the path in the configuration, and the message.

    Each condition is evaluated on two rows: one of NULLs, and one of zeros and of texts that are no
    numbers. An expression that fails on one of them could fail a whole partition in a run.

    Args:
        spark: The engine.
        schema: The columns that a condition may use.
        conditions: The conditions, at most a few hundred.
    """
    if not conditions:
        return
    rows = [
        tuple(None for _ in schema),
        tuple(_PROBE_VALUES.get(column.type, Decimal(0)) for column in schema),
    ]
    frame = spark.createDataFrame(rows, spark_schema(schema))
    written = {c: _textual_fault(c.sql, schema.names) for c in conditions}
    if not any(written.values()) and _all_valid(frame, conditions):
        return
    for condition in conditions:
        if why := written[condition] or _fault_of(frame, condition.sql, schema.names):
            yield condition.place, why


def _all_valid(frame: DataFrame, conditions: Sequence[Condition]) -> bool:
    """Whether the engine accepts all conditions, in one query instead of three per condition."""
    try:
        result = frame.select(
            *(F.expr(f"({c.sql})").alias(_RESULT.format(i)) for i, c in enumerate(conditions)),
            # With a plain column beside the conditions, the engine rejects aggregates.
            F.col(frame.columns[0]).alias("_row"),
        ).toArrow()
    except PySparkException:
        return False
    types = result.schema.types[:-1]
    # An expression such as explode gives more than two rows.
    return result.num_rows == 2 and all(str(each) in {"bool", "null"} for each in types)  # noqa: PLR2004


def _textual_fault(text: str, names: Collection[str]) -> str | None:
    """The first fault that the engine would not report, such as a comparison with NULL."""
    if not text.strip():
        return "is empty"
    without_texts = _TOKEN.sub(lambda token: token[0] if token["word"] else "''", text)
    if _COMPARES_WITH_NULL.search(without_texts) or _NOT_IN_WITH_NULL.search(without_texts):
        return "compares with NULL, which is never true: write is null, or is not null"
    for token in _TOKEN.finditer(text):
        quoted, word = token["quoted"], (token["word"] or "").lower()
        if quoted is not None and quoted.lower() in names:
            return f'"{quoted}" is a text here, not the column: write {quoted}, or `{quoted}`'
        if word in _NOT_ROW_BY_ROW and (word == "select" or token["call"]):
            return f"holds {_NOT_ROW_BY_ROW[word]}: a condition reads one row only"
        if word in _MAKES_ROWS and token["call"]:
            return f"{word} turns one row into several: a condition reads one row only"
    return _difference_between_runs(text, names)


def _difference_between_runs(text: str, names: Collection[str]) -> str | None:
    """A function whose value differs between runs, so that a rebuild would give other rows."""
    for token in _TOKEN.finditer(text):
        word = (token["word"] or "").lower()
        is_called = token["call"] or (word in _CALLED_WITHOUT_PARENTHESES and word not in names)
        if word in _DIFFERENT_IN_EACH_RUN and is_called:
            return f"{word}() {_DIFFERS_BETWEEN_RUNS}: use {_DIFFERENT_IN_EACH_RUN[word]}"
    found = _NOW.search(text)
    return f"{found[0]} {_DIFFERS_BETWEEN_RUNS}: use {_CAPTURE_TIME}" if found else None


def _fault_of(frame: DataFrame, text: str, names: Collection[str]) -> str | None:
    try:
        # Parenthesised as in a run, so that an unbalanced parenthesis or a comment fails here too.
        result = frame.select(F.expr(f"({text})").alias("_is"), F.col(frame.columns[0]))
        kind = result.schema["_is"].dataType.simpleString()
    except PySparkException as error:
        return _message_of(error, text, names)
    if kind not in {"boolean", "void"}:
        return f"is a {kind}, not true or false: compare it with a value"
    for is_probe in (False, True):  # First the row of NULLs, then the row of probe values.
        part = frame.where(_is_probe_row(frame) if is_probe else ~_is_probe_row(frame))
        try:
            part.select(F.expr(f"({text})").alias("_is"), F.col(frame.columns[0])).collect()
        except PySparkException as error:
            message = _message_of(error, text, names)
            if not is_probe:
                return message
            return f"{message}; one such row would fail its whole partition: {_SAFE}"
    return None


def _is_probe_row(frame: DataFrame) -> Column:
    return F.col(frame.columns[0]).isNotNull()


def _message_of(error: PySparkException, text: str, names: Collection[str]) -> str:
    """The engine's error as a message for users."""
    message = str(error)
    if found := _NO_COLUMN.search(message):
        parts = _IDENTIFIER.findall(found[1])
        if len(parts) > 1:
            return f"'{'.'.join(parts)}': write columns without a table name"
        return f"there is no column '{parts[0]}'{_instead_of_column(parts[0], text, names)}"
    if found := _NO_FUNCTION.search(message):
        return f"there is no function {found[1]}{_instead(found[1]) or _near_function(found[1])}"
    if "No field named" in message:
        return "aggregates rows (sum, count, max, …): a condition reads one row only"
    if found := _SYNTAX.search(message):
        at = f" at character {found[2]}" if found[2] else ""
        return f"cannot be read as SQL: unexpected {found[1]}{at}{_instead(found[1])}"
    return f"the engine rejects it: {message.splitlines()[0][:_MAX_MESSAGE]}"


def _instead_of_column(name: str, text: str, names: Collection[str]) -> str:
    """A hint for an unknown name; after a comparison it is most often a text without quotes."""
    is_compared = rf"(?:[=<>]|\blike|\bin\s*\([^()]*)\s*`?{re.escape(name)}\b"
    if re.search(is_compared, text, re.IGNORECASE):
        near = did_you_mean(name, names) if len(name) > _SHORT else ""
        return f": put a text in quotes, '{name}'{near}"
    return did_you_mean(name, names)


def _instead(word: str) -> str:
    return f"; use {_EQUIVALENTS[word.lower()]}" if word.lower() in _EQUIVALENTS else ""


def _near_function(word: str) -> str:
    return did_you_mean(word, [name for name in dir(F) if name.islower() and name[0] != "_"])
