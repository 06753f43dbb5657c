"""Conditions: what no engine could judge in a run is refused before it, in words."""

import pytest
from pyspark.sql import SparkSession

from headrace.config.sources.file_source import FileEntity
from headrace.quality.conditions import Condition, condition_faults, condition_schema
from headrace.schema import Column, TableSchema

SCHEMA = TableSchema(
    (
        Column("id", "bigint"),
        Column("status", "string"),
        Column("amount", "decimal(12,2)"),
        Column("units", "int"),
        Column("sold_at", "timestamp"),
        Column("sold_on", "date"),
        Column("is_open", "boolean"),
        Column("current_date", "date"),
        Column("_source_position", "bigint"),
        Column("_captured_at", "timestamptz"),
    )
)


def why(spark: SparkSession, *conditions: str) -> list[str]:
    given = [Condition(text, text) for text in conditions]
    return [what for _, what in condition_faults(spark, SCHEMA, given)]


SOUND = (
    "units > 0 or amount = 0",
    "status in ('open', 'closed') and status is not null",
    "STATUS rlike '^[a-z]+$'",
    "sold_at <= _captured_at and sold_on <= cast(_captured_at as date)",
    "current_date > date '2024-01-01' or status = 'now() or rand()'",
    "unix_timestamp(sold_at) > 0 and pmod(id, 10) < 3",
    "sold_on between date '2024-01-01' and '2024-12-31'",
    "amount / nullif(units, 0) < 1000",
    "try_cast(status as int) > 5",
    "case when status rlike '^[0-9]+$' then cast(status as int) > 5 else true end",
    "is_open",
    "not is_open",
    "`units` > 0 and _source_position > 1",
    "abs(amount) < 10 and length(trim(status)) > 1",
    "coalesce(status, '') = 'a select over the counter: \"units\"'",
    "status <=> null and units in (1, null)",
    "coalesce(status, '= null') = ' = null'",
    "null",
    "true",
)


def test_what_can_be_judged_of_a_row_is_no_fault(spark: SparkSession) -> None:
    assert why(spark, *SOUND) == []
    assert [each for each in SOUND if why(spark, each)] == []


def test_a_condition_may_use_every_lineage_column(spark: SparkSession) -> None:
    entity = FileEntity.model_validate(
        {
            "name": "orders",
            "extract": {"mode": "files", "path": "orders.csv"},
            "key": ["id"],
            "columns": [{"name": "id", "type": "bigint"}],
        }
    )
    given = [
        Condition(text, text)
        for text in (
            "_operation = 'delete'",
            "_source_object like 'eu/%' and _source_position > 1",
            "_captured_at > timestamp '2024-01-01' and _partition_date >= date '2024-01-01'",
            "_delivery_order is not null",
        )
    ]
    assert list(condition_faults(spark, condition_schema(entity), given)) == []


# Sail's words; Spark says the same in others, and is asked only where it is the configured engine.
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("unit > 0", "there is no column 'unit'; did you mean units?"),
        ("colour = 'red'", "there is no column 'colour'"),
        ("status == D", "there is no column 'D': put a text in quotes, 'D'"),
        ("status in ('open', closed)", "'closed': put a text in quotes, 'closed'"),
        ("status = statsu", "put a text in quotes, 'statsu'; did you mean status?"),
        (
            "rand() < 0.1",
            "rand() has another value in each run, so a rebuild would give other rows",
        ),
        ("sold_at <= current_timestamp()", "use _captured_at, when the source was read"),
        ("sold_at <= CURRENT_TIMESTAMP", "use _captured_at, when the source was read"),
        ("sold_at <= now()", "now() has another value in each run"),
        ("sold_on <= current_date()", "use cast(_captured_at as date), the day on which the sou"),
        ("length(uuid()) = 36", "uuid() has another value in each run"),
        ("unix_timestamp() > 0", "unix_timestamp() has another value in each run"),
        ("sold_at > timestamp 'now'", "timestamp 'now' has another value in each run"),
        ("orders.units > 0", "'orders.units': write columns without a table name"),
        ("units >", "cannot be read as SQL: unexpected ) at character 8"),
        ("units > 0 -- at least one", "cannot be read as SQL: unexpected end of input"),
        ("units > 0; drop table x", "cannot be read as SQL: unexpected ; at character 10"),
        ("status ~ '^a'", "unexpected ~ at character 8; use rlike"),
        ("[units] > 0", "unexpected [ at character 1; use names without brackets"),
        ("isnumeric(status)", "no function isnumeric; use try_cast(… as double) is not"),
        ("getdate() > sold_at", "no function getdate; use _captured_at, when the source was"),
        ("uper(status) = 'A'", "there is no function uper; did you mean upper?"),
        ("units", "is a int, not true or false: compare it with a value"),
        ("status", "is a string, not true or false"),
        ("not status", "the engine rejects it: "),
        ("is_open = 'yes'", "the engine rejects it: Cannot infer common argument type"),
        ("sum(units) > 0", "aggregates rows (sum, count, max, …): a condition reads one row"),
        ("row_number() over (order by id) = 1", "holds a window function: a condition reads"),
        ("id in (select 1)", "holds a query: a condition reads one row only"),
        ("explode(array(true, false))", "explode turns one row into several"),
        ("\"status\" = 'open'", '"status" is a text here, not the column: write status'),
        ("sold_on > '01/02/2024'", "Cannot cast string '01/02/2024'"),
        ("date_format(sold_at, 'YYYY') = '2024'", "week-based pattern letter 'Y'"),
        ("status rlike '('", "the engine rejects it: "),
        ("units = 'many'", "Cannot cast string 'many'"),
        ("status > 5", "one such row would fail its whole partition: use try_cast(… as …)"),
        ("cast(status as date) > sold_on", "one such row would fail its whole partition"),
        ("status = null", "compares with NULL, which is never true: write is null, or is not"),
        ("units > 0 and status <> NULL", "compares with NULL"),
        ("status not in ('open', null)", "compares with NULL"),
        (" ", "is empty"),
        ("amount / units < 10", "one such row would fail its whole partition: use try_cast"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    sail: SparkSession, condition: str, expected: str
) -> None:
    found = why(sail, condition)
    assert len(found) == 1
    assert expected in found[0]


def test_one_bad_condition_is_found_among_good_ones(spark: SparkSession) -> None:
    given = [Condition(f"rules[{i}]", text) for i, text in enumerate((*SOUND, "nope > 0"))]
    assert [place for place, _ in condition_faults(spark, SCHEMA, given)] == [
        f"rules[{len(SOUND)}]"
    ]
