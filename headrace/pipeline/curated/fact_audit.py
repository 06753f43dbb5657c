"""Audit of facts: totals in the lake against Postgres, and foreign keys without a member."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import reduce
from operator import add, or_

import pyarrow as pa
from psycopg import sql
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from headrace.engine import functions as parse
from headrace.quality.pandera_schemas import validate_rows
from headrace.quality.partition_checks import ROWS
from headrace.schema import TableSchema, decimal_parts
from headrace.star.facts import DATE_KEY
from headrace.warehouse.identifiers import longest_texts
from headrace.warehouse.loading.staged_loads import StagedLoad, StagingTable
from headrace.warehouse.loading.workers import Workers
from headrace.warehouse.sessions import Connect, Session, map_errors
from headrace.warehouse.tables import Reference, WarehouseTable

Totals = Mapping[str, Decimal]

# Engines return the sum of a decimal(p) as decimal(p + 10), with at most 38 digits.
_DIGITS_WITH_ROOM = 28
_LONG_DIGITS = 20
# Digits of one half of a decimal whose sum would not fit.
_HALF = 20
# Python's default context rounds to 28 digits.
_EXACT = Context(prec=200)
# Sessions that audit in parallel.
_SESSIONS = 2


def plus(one: Totals, other: Totals) -> Totals:
    """The sum of two totals."""
    zero = Decimal(0)
    names = {**one, **other}
    return {name: _EXACT.add(one.get(name, zero), other.get(name, zero)) for name in names}


def exact_measures(measures: Sequence[str], schema: TableSchema) -> list[str]:
    """The measures with exact sums; sums of doubles depend on the order of addition."""
    return [name for name in measures if schema.column(name).type != "double"]


def engine_sums(measures: Sequence[str], schema: TableSchema) -> list[Column]:
    """Aggregate expressions whose result `totals_of` reads.

    Args:
        measures: Integers and decimals of the frame.
        schema: Their types.
    """
    found = [F.count(F.lit(1)).alias(ROWS)]
    for name in measures:
        column, kind = F.col(name), schema.column(name).type
        if (parts := decimal_parts(kind)) is None:
            found.append(F.sum(column.cast(f"decimal({_LONG_DIGITS},0)")).alias(name))
        elif parts[0] <= _DIGITS_WITH_ROOM:
            found.append(F.sum(column).alias(name))
        else:
            halves = enumerate(_halves(name, kind))
            found += [F.sum(half).alias(f"_{n}_{name}") for n, half in halves]
    return found


def totals_of(row: Row, measures: Sequence[str], schema: TableSchema) -> Totals:
    """The totals from a row of `engine_sums`; a sum of only NULLs is 0."""
    found = {ROWS: Decimal(row[ROWS])}
    for name in measures:
        parts = decimal_parts(schema.column(name).type)
        if parts is None or parts[0] <= _DIGITS_WITH_ROOM:
            found[name] = Decimal(row[name] or 0)
        else:
            high, low = (Decimal(row[f"_{n}_{name}"] or 0) for n in range(2))
            whole = _EXACT.add(_EXACT.scaleb(high, _HALF), low)
            found[name] = _EXACT.scaleb(whole, -parts[1])
    return found


def summable(column: pa.Array) -> pa.Array:
    """Cast the column to an Arrow type whose sum cannot overflow."""
    kind = column.type
    if pa.types.is_int64(kind):
        return column.cast(pa.decimal128(38, 0))
    if pa.types.is_decimal128(kind) and kind.precision > _DIGITS_WITH_ROOM:
        return column.cast(pa.decimal256(76, kind.scale))
    return column


def _halves(name: str, kind: str) -> list[Column]:
    """A decimal's digits without the point, as two numbers with its sign."""
    text = parse.canonical_text(F.col(name), kind)
    digits = F.lpad(F.translate(text, "-.", ""), 2 * _HALF, "0")
    # Not `< 0`: Spark compares in a type with too few places for the smallest values.
    sign = F.when(F.startswith(text, F.lit("-")), F.lit("-")).otherwise(F.lit(""))
    return [
        F.concat(sign, F.substring(digits, start, _HALF)).cast(f"decimal({_HALF},0)")
        for start in (1, _HALF + 1)
    ]


@dataclass(frozen=True)
class LakeTotals:
    """Row counts and sums by date key, computed while batches are copied; thread-safe.

    Attributes:
        measures: Columns to sum.
        samples: The first batch of every stream.
    """

    measures: Sequence[str]
    samples: list[pa.RecordBatch] = field(default_factory=list)
    _partial: list[pa.Table] = field(default_factory=list)

    def counted(self, rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
        """The same rows, counted while they are read: a second read would take 10 % of a load."""
        return pa.RecordBatchReader.from_batches(rows.schema, self._counted(rows))

    def validate_sample(self, table: WarehouseTable) -> None:
        """Validate a sample of the rows against pandera's schema of the table.

        Raises:
            IncompatibleSchemaError: The rows do not match the declared schema.
        """
        if self.samples:
            first = self.samples[0]
            rows = pa.RecordBatchReader.from_batches(first.schema, [first])
            validate_rows(table.label, table.schema, rows)

    def by_day(self) -> dict[int, Totals]:
        """Totals of all batches so far."""
        found: dict[int, Totals] = {}
        for table in self._partial:
            for row in table.to_pylist():
                totals = {ROWS: Decimal(row["count_all"])}
                totals |= {name: Decimal(row[f"{name}_sum"] or 0) for name in self.measures}
                found[row[DATE_KEY]] = plus(found.get(row[DATE_KEY], {}), totals)
        return found

    def _counted(self, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        wanted = [(name, "sum") for name in self.measures]
        for number, batch in enumerate(rows):
            if number == 0:
                self.samples.append(batch)
            measured = pa.Table.from_pydict(
                {name: summable(batch.column(name)) for name in (DATE_KEY, *self.measures)}
            )
            grouped = measured.group_by(DATE_KEY)
            self._partial.append(grouped.aggregate([*wanted, ([], "count_all")]))
            yield batch


def key_faults(rows: DataFrame, table: WarehouseTable) -> dict[int, dict[str, int]]:
    """By date key: kinds of primary key violations, with the number of keys of each.

    Found in the lake, because Postgres rejects the whole load for one such row.

    Args:
        rows: Rows of the lake, with the columns of the primary key.
        table: Its primary key contains the date key.
    """
    key = table.primary_key
    texts = [name for name in key if table.schema.column(name).type == "string"]
    longest = longest_texts(len(key) - len(texts))
    is_null = reduce(or_, (F.col(name).isNull() for name in key))
    size = reduce(add, (F.octet_length(name) for name in texts), F.lit(0))
    each = rows.groupBy(*key).agg(F.count(F.lit(1)).alias("_rows"))
    kinds = {
        "repeated": ~is_null & (F.col("_rows") > 1),
        "with NULL": is_null,
        f"with texts of over {longest} bytes": ~is_null & (size > longest),
    }
    counts = [
        F.sum(F.when(holds, 1).otherwise(0)).alias(f"_{n}")
        for n, holds in enumerate(kinds.values())
    ]
    found = each.groupBy(DATE_KEY).agg(*counts).collect()
    return {
        row[DATE_KEY]: {kind: row[f"_{n}"] for n, kind in enumerate(kinds)}
        for row in found
        if any(row[f"_{n}"] for n in range(len(kinds)))
    }


@dataclass(frozen=True)
class DayTotals:
    """Totals and orphans of one day's staged facts.

    Attributes:
        totals: Number of rows, and the sum of each measure.
        orphans: By foreign key, the number of rows whose key has no member.
    """

    totals: Totals
    orphans: Mapping[str, int]

    def plus(self, other: "DayTotals") -> "DayTotals":
        """The sum of two days."""
        orphans = {key: count + other.orphans[key] for key, count in self.orphans.items()}
        return DayTotals(plus(self.totals, other.totals), orphans)


def audit_staged_facts(
    connect: Connect,
    load: StagedLoad,
    measures: Sequence[str],
    references: Sequence[Reference],
    members: Mapping[str, StagedLoad],
) -> dict[int, DayTotals]:
    """Totals and orphans of staged facts by date key.

    One query joins all dimensions: it takes a third of the time of one query for each foreign key.
    Two sessions share the parts, to use two cores.

    Args:
        connect: Opens sessions with the warehouse.
        load: The facts.
        measures: Columns to sum.
        references: The facts' foreign keys.
        members: By name, staged dimensions that are published with the facts; keys are looked up
            in their future state. Other dimensions are read as published.
    """
    lookups = [
        _Lookup(number, load.table.namespace, reference, members.get(reference.table))
        for number, reference in enumerate(references)
    ]
    found: dict[int, DayTotals] = {}

    def audit(session: Session, parts: Sequence[StagingTable]) -> None:
        # Staging makes one part a month, so that no day is in two parts.
        found.update(_query(session, load.relation(parts), measures, references, lookups))

    shares = [load.parts[first::_SESSIONS] for first in range(_SESSIONS)]
    with map_errors("auditing staged facts"):
        Workers(connect, _SESSIONS, load.owner).run([share for share in shares if share], audit)
    return found


def audit_published_facts(
    connect: Connect,
    table: WarehouseTable,
    measures: Sequence[str],
    references: Sequence[Reference],
    days: Collection[int],
) -> dict[int, DayTotals]:
    """Totals and orphans of published facts by date key; days without rows are missing."""
    lookups = [
        _Lookup(number, table.namespace, reference, None)
        for number, reference in enumerate(references)
    ]
    facts = sql.SQL("(select * from {} where {} in ({}))").format(
        sql.Identifier(table.namespace, table.name),
        sql.Identifier(DATE_KEY),
        sql.SQL(", ").join(map(sql.Literal, sorted(days))),
    )
    with map_errors("auditing published facts"), connect() as session:
        return _query(session, facts, measures, references, lookups) if days else {}


def _query(
    session: Session,
    facts: sql.Composable,
    measures: Sequence[str],
    references: Sequence[Reference],
    lookups: Sequence["_Lookup"],
) -> dict[int, DayTotals]:
    sums = [sql.SQL("sum(f.{})").format(sql.Identifier(name)) for name in measures]
    missing = [
        sql.SQL("count(*) filter (where {})").format(lookup.is_missing) for lookup in lookups
    ]
    query = sql.SQL("select f.{date}, {columns} from {facts} as f {joins} group by 1").format(
        date=sql.Identifier(DATE_KEY),
        columns=sql.SQL(", ").join([sql.SQL("count(*)"), *sums, *missing]),
        facts=facts,
        joins=sql.SQL(" ").join(lookup.joins for lookup in lookups),
    )
    names = (ROWS, *measures)
    keys = [reference.column for reference in references]
    found = {}
    for day, *values in session.execute(query).fetchall():
        totals = {n: Decimal(v or 0) for n, v in zip(names, values[: len(names)], strict=True)}
        found[day] = DayTotals(totals, dict(zip(keys, values[len(names) :], strict=True)))
    return found


class _Lookup:
    """Joins of one foreign key to its dimension, and the condition for a missing member."""

    def __init__(
        self, number: int, namespace: str, reference: Reference, staged: StagedLoad | None
    ) -> None:
        self._reference = reference
        self._number = number
        column = sql.Identifier("f", reference.column)
        published = sql.Identifier(namespace, reference.table)
        if staged is None or staged.deletes is None:
            relation = staged.relation() if staged else published
            self.joins = self._joined("m", relation)
            missing = [self._is_null("m")]
        else:
            # The dimension's future state: published rows less deletes, plus upserts.
            deleted = sql.SQL("(select distinct {} from {})").format(
                sql.Identifier(reference.key), staged.deletes_relation()
            )
            joins = (("m", published), ("deleted", deleted), ("upserted", staged.relation()))
            self.joins = sql.SQL(" ").join(self._joined(*each) for each in joins)
            absent = sql.SQL("({} or {} is not null)").format(
                self._is_null("m"), self._key("deleted")
            )
            missing = [absent, self._is_null("upserted")]
        self.is_missing = sql.SQL(" and ").join(
            [sql.SQL("{} is not null").format(column), *missing]
        )

    def _key(self, alias: str) -> sql.Identifier:
        return sql.Identifier(f"{alias}_{self._number}", self._reference.key)

    def _is_null(self, alias: str) -> sql.Composed:
        return sql.SQL("{} is null").format(self._key(alias))

    def _joined(self, alias: str, relation: sql.Composable) -> sql.Composed:
        return sql.SQL("left join {} as {} on {} = {}").format(
            relation,
            sql.Identifier(f"{alias}_{self._number}"),
            self._key(alias),
            sql.Identifier("f", self._reference.column),
        )
