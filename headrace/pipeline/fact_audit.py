"""Facts judged on their way: do they add up to the lake's, and has every key its member?"""

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
from headrace.warehouse.loading.staged_loads import StagedLoad, StagedPart
from headrace.warehouse.loading.workers import Workers
from headrace.warehouse.sessions import Connect, Session, map_errors
from headrace.warehouse.tables import Reference, WarehouseTable

Totals = Mapping[str, Decimal]

# Engines add ten digits to a decimal's for its sum, and have 38.
_DIGITS_WITH_ROOM = 28
_LONG_DIGITS = 20
# A decimal of 38 digits has a point, too, and a zero before it where all digits come after.
_HALF = 20
# Python's own context rounds to 28 digits.
_EXACT = Context(prec=200)


def plus(one: Totals, other: Totals) -> Totals:
    """The totals of both."""
    zero = Decimal(0)
    names = {**one, **other}
    return {name: _EXACT.add(one.get(name, zero), other.get(name, zero)) for name in names}


def exact_measures(measures: Sequence[str], schema: TableSchema) -> list[str]:
    """The measures whose sums are a proof: those of doubles depend on the order of addition."""
    return [name for name in measures if schema.column(name).type != "double"]


def engine_sums(measures: Sequence[str], schema: TableSchema) -> list[Column]:
    """Aggregates of a frame; `totals_of` reads them.

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
    """The totals that `engine_sums` gave; a sum of nothing but NULLs is 0."""
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
    """The column in a type of Arrow whose sum has room."""
    kind = column.type
    if pa.types.is_int64(kind):
        return column.cast(pa.decimal128(38, 0))
    if pa.types.is_decimal128(kind) and kind.precision > _DIGITS_WITH_ROOM:
        return column.cast(pa.decimal256(76, kind.scale))
    return column


def _halves(name: str, kind: str) -> list[Column]:
    """A decimal's digits without its point, cut in two numbers of its sign."""
    text = parse.canonical_text(F.col(name), kind)
    digits = F.lpad(F.translate(text, "-.", ""), 2 * _HALF, "0")
    # Not `< 0`: Spark compares in a type that has too few places for the smallest values.
    sign = F.when(F.startswith(text, F.lit("-")), F.lit("-")).otherwise(F.lit(""))
    return [
        F.concat(sign, F.substring(digits, start, _HALF)).cast(f"decimal({_HALF},0)")
        for start in (1, _HALF + 1)
    ]


_SESSIONS = 2


@dataclass(frozen=True)
class LakeTotals:
    """Rows and sums of the measures by date key, of batches that pass by in any thread.

    Attributes:
        measures: Columns that are added up.
        samples: The first batch of every stream.
    """

    measures: Sequence[str]
    samples: list[pa.RecordBatch] = field(default_factory=list)
    _partial: list[pa.Table] = field(default_factory=list)

    def watched(self, rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
        """The same rows, counted as they are read: reading them twice costs a tenth of a load."""
        return pa.RecordBatchReader.from_batches(rows.schema, self._counted(rows))

    def guard(self, table: WarehouseTable) -> None:
        """Validate a sample of what passed by against pandera's schema of the table.

        Raises:
            IncompatibleSchemaError: The rows are not what is declared.
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
    """What keeps rows from having the table's primary key, by date key: kind to number of keys.

    Looked at before rows are staged: with one such row Postgres takes none.

    Args:
        rows: Of the lake, with the columns of the primary key.
        table: Its primary key holds the date key.
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
class StagedDay:
    """What is staged of one day.

    Attributes:
        totals: Rows, and the sum of each measure.
        orphans: Per foreign key, rows whose key has no member.
    """

    totals: Totals
    orphans: Mapping[str, int]

    def plus(self, other: "StagedDay") -> "StagedDay":
        """Both days."""
        orphans = {key: count + other.orphans[key] for key, count in self.orphans.items()}
        return StagedDay(plus(self.totals, other.totals), orphans)


def judge(
    connect: Connect,
    load: StagedLoad,
    measures: Sequence[str],
    references: Sequence[Reference],
    members: Mapping[str, StagedLoad],
) -> dict[int, StagedDay]:
    """What is staged, by date key; in one pass, which costs a third of a query for each key.

    Two sessions share the parts: one would leave the other core with nothing to do.

    Args:
        connect: Opens sessions with the warehouse.
        load: The facts.
        measures: Columns that are added up.
        references: The facts' foreign keys.
        members: By name, dimensions that are published with the facts: members are those of a
            dimension as it will be then. The others are taken as they are.
    """
    lookups = [
        _Lookup(number, load.table.namespace, reference, members.get(reference.table))
        for number, reference in enumerate(references)
    ]
    found: dict[int, StagedDay] = {}

    def ask(session: Session, parts: Sequence[StagedPart]) -> None:
        # Staging leaves one part a month, so that no day is in two.
        found.update(_ask(session, load.relation(parts), measures, references, lookups))

    shares = [load.parts[first::_SESSIONS] for first in range(_SESSIONS)]
    with map_errors("auditing staged facts"):
        Workers(connect, _SESSIONS, load.owner).run([share for share in shares if share], ask)
    return found


def judge_published(
    connect: Connect,
    table: WarehouseTable,
    measures: Sequence[str],
    references: Sequence[Reference],
    days: Collection[int],
) -> dict[int, StagedDay]:
    """What readers see of some days, by date key; days without rows are missing."""
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
        return _ask(session, facts, measures, references, lookups) if days else {}


def _ask(
    session: Session,
    facts: sql.Composable,
    measures: Sequence[str],
    references: Sequence[Reference],
    lookups: Sequence["_Lookup"],
) -> dict[int, StagedDay]:
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
        found[day] = StagedDay(totals, dict(zip(keys, values[len(names) :], strict=True)))
    return found


class _Lookup:
    """One foreign key: how its members are joined, and when there is none."""

    def __init__(
        self, number: int, namespace: str, reference: Reference, staged: StagedLoad | None
    ) -> None:
        self._reference = reference
        self._number = number
        column = sql.Identifier("f", reference.column)
        published = sql.Identifier(namespace, reference.table)
        if staged is None or staged.gone is None:
            relation = staged.relation() if staged else published
            self.joins = self._joined("m", relation)
            missing = [self._is_null("m")]
        else:
            # Rows that went and those that came are few: their history stays untouched.
            went = sql.SQL("(select distinct {} from {})").format(
                sql.Identifier(reference.key), staged.gone_relation()
            )
            joins = (("m", published), ("gone", went), ("come", staged.relation()))
            self.joins = sql.SQL(" ").join(self._joined(*each) for each in joins)
            stays = sql.SQL("({} or {} is not null)").format(self._is_null("m"), self._key("gone"))
            missing = [stays, self._is_null("come")]
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
