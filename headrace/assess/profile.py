"""Profiles a sample with DuckDB: texts of each column, then its typed values."""

import atexit
import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import functions as F

from headrace.assess.column_types import ColumnTexts
from headrace.assess.sample_source import DAY, POSITION, FoundEntity
from headrace.config.entities.entity import EntityConfig
from headrace.engine.session import SessionSettings, connect
from headrace.engine.values.numbers import BLANKS
from headrace.schema import PARTITION_COLUMN
from headrace.sources.corrupt_rows import CORRUPT_REASON
from headrace.standardize.typed_columns import is_given, typed_where

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_MEMORY = "512MB"
_FREQUENT_TEXTS, _TEXTS_OF_A_SHAPE = 1200, 3
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # Local times are only labelled.
_BINS, _TOP, _VALUES = 20, 10, 500
_MISFIT = "_misfit_"
# Different values are counted in memory, column by column.
_COUNTED_AT_ONCE = 8
_NUMBERS = ("int", "bigint", "double", "decimal")
# Of a key with few values, or hardly any repetition, dependence is chance.
_FEWEST_KEYS, _ROWS_A_KEY = 4, 2
# Further out than so many times the middle half of the values.
_FENCE = 3.0


@dataclass(frozen=True)
class ColumnProfile:
    """What the values of a column are like.

    Attributes:
        rows: Rows of the sample.
        given: Rows with a value.
        distinct: Different values.
        least: The smallest value, as text; None without values.
        largest: The largest one.
        shortest: Length of the shortest text.
        longest: Length of the longest text.
        padded: Rows whose text has blanks around it.
        patterns: Shapes of texts (`A` a letter, `9` a digit), the most frequent first.
        top: The most frequent values and their rows.
        values: More of them, for what is concluded from values.
        bins: Borders and rows of a histogram of numbers and times.
        quartiles: Of numbers.
        outliers: Numbers far from the middle half of the values.
    """

    rows: int
    given: int
    distinct: int
    least: str | None = None
    largest: str | None = None
    shortest: int = 0
    longest: int = 0
    padded: int = 0
    patterns: tuple[tuple[str, int], ...] = ()
    top: tuple[tuple[str, int], ...] = ()
    values: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    bins: tuple[tuple[str, int], ...] = ()
    quartiles: tuple[float, ...] = ()
    outliers: int = 0


@dataclass(frozen=True)
class EntityProfile:
    """What the rows of an entity are like.

    Attributes:
        rows: Rows of the sample, corrupt records apart.
        corrupt: Corrupt records by their reason.
        repeated: Rows that agree with another one of their day in every column.
        columns: By column.
        misfits: Rows whose value does not fit the type, by column.
        rows_by_day: Rows of each day of a file that is in the sample.
    """

    rows: int
    corrupt: Mapping[str, int]
    repeated: int
    columns: Mapping[str, ColumnProfile]
    misfits: Mapping[str, int] = field(default_factory=dict)
    rows_by_day: Mapping[date, int] = field(default_factory=dict)


def connect_beside_duckdb() -> "SparkSession":
    """A session of the engine in this process, for a process that uses DuckDB too."""
    # DuckDB's binding reports objects that live at exit, and the engine's exit freezes all of
    # them. Handlers run last in, first out: this one undoes it.
    atexit.register(gc.unfreeze)
    return connect(SessionSettings())


class Sample:
    """Sampled rows in a file, and DuckDB over them."""

    def __init__(
        self, folder: Path, entity: FoundEntity, batches: Iterable[pa.RecordBatch]
    ) -> None:
        self.path, self._typed = folder / "sample.parquet", folder / "typed"
        self.names = [f.name for f in entity.fields]
        self.types = {f.name: f.type for f in entity.fields}
        self.rows = 0
        writer: pq.ParquetWriter | None = None
        for batch in batches:
            writer = writer or pq.ParquetWriter(self.path, batch.schema)
            writer.write_batch(batch.select(writer.schema.names))
            # A corrupt record is no row: its columns are NULL.
            self.rows += batch.column(CORRUPT_REASON).null_count
        if writer is not None:
            writer.close()
        # A database of its own, on disk: memory stays bounded, and each column is read alone.
        self._duckdb = duckdb.connect(str(folder / "sample.duckdb"))
        self._duckdb.execute(f"set memory_limit = '{_MEMORY}'")
        self._duckdb.execute("set threads = 2")
        self._duckdb.execute("set enable_progress_bar = false")
        self._duckdb.execute(f"set temp_directory = {_text(str(folder / 'spill'))}")
        if writer is not None:
            self._load("sample", str(self.path), f"where {CORRUPT_REASON} is null")

    def corrupt(self) -> dict[str, int]:
        """Corrupt records by their reason."""
        query = f"select {CORRUPT_REASON}, count(*) from {self._file} group by 1"
        return {reason: n for reason, n in self.query(query) if reason is not None}

    def texts(self) -> list[ColumnTexts]:
        """Frequent texts of each text column, and some of every shape."""
        found = []
        for name in self.names:
            if self.types[name] != "string":
                continue
            value = f"trim({_quoted(name)}, {_text(BLANKS)})"
            counted = f"""
                select {value} as text, {DAY} as day, count(*) as n
                from sample where {value} <> '' group by 1, 2
            """
            ordered = "order by n desc, hash(text), day"
            # In a query of its own: a column may be called as one of this query's.
            query = f"select * from ({counted}) {ordered} limit {_FREQUENT_TEXTS + 1}"
            rows = self.query(query)
            if len(rows) > _FREQUENT_TEXTS:
                rows = self._texts_of_each_shape(counted, ordered)
            found.append(ColumnTexts(name, {(t, day): n for t, day, n in rows}))
        return found

    def _texts_of_each_shape(self, counted: str, ordered: str) -> list[tuple[Any, ...]]:
        query = f"""
            with counted as ({counted}),
            ranked as (
                select *, row_number() over ({ordered}) as place,
                    row_number() over (
                        partition by {_shape("text")} {ordered}
                    ) as place_in_shape
                from counted
            )
            select text, day, n from ranked
            where place <= {_FREQUENT_TEXTS} or place_in_shape <= {_TEXTS_OF_A_SHAPE}
            order by place limit 4000
        """
        return self.query(query)

    def type_rows(self, spark: "SparkSession", entity: EntityConfig) -> dict[str, int]:
        """Type all sampled rows as they will be standardized; returns misfits by column.

        Later profiles are of the typed values.
        """
        rows = spark.read.parquet(str(self.path)).where(F.col(CORRUPT_REASON).isNull())
        raw = rows.withColumns(
            {
                "_corrupt_record": F.lit(None).cast("string"),
                "_captured_at": F.lit(None).cast("timestamp"),
                "_delivery_order": F.lit(None).cast("string"),
                "_operation": F.lit(None).cast("string"),
                PARTITION_COLUMN: F.col(DAY),
            }
        )
        checked = [c for c in entity.columns if c.type != "string"]
        misfits = [(is_given(c) & F.col(c.name).isNull()).alias(_MISFIT + c.name) for c in checked]
        typed = typed_where(raw, entity, F.lit(True)).select(
            *(F.col(c.name) for c in entity.columns),
            *misfits,
            F.col(POSITION),
            F.col(PARTITION_COLUMN).alias(DAY),
        )
        typed.write.mode("overwrite").parquet(str(self._typed))
        self._load("typed", f"{self._typed}/*.parquet")
        if not checked:
            return {}
        sums = ", ".join(f"count_if({_quoted(_MISFIT + c.name)})" for c in checked)
        (counts,) = self.query(f"select {sums} from typed")
        return {c.name: n for c, n in zip(checked, counts, strict=True)}

    def profile(self, entity: EntityConfig) -> dict[str, ColumnProfile]:
        """The profile of each column, of its typed values."""
        (rows,) = self.query("select count(*) from typed")[0]
        names = [_quoted(c.name) for c in entity.columns]
        summary = self.query(f"summarize select {', '.join(names)} from typed")
        counts = self._counts(names)
        padded = self._padded()
        found = {}
        for line, column, known in zip(summary, entity.columns, counts, strict=True):
            one = self._column(column.name, column.kind, line, known)
            found[column.name] = replace(one, rows=rows, padded=padded.get(column.name, 0))
        return found

    def count_distinct(
        self, columns: Sequence[str], *, whole_rows: bool = False
    ) -> tuple[int, int]:
        """Rows, and different values of some columns among the rows of each day.

        Args:
            columns: Together they may be a key.
            whole_rows: Count rows that agree in every column once.
        """
        names = ", ".join(_quoted(name) for name in columns)
        every = ", ".join(_quoted(name) for name in self.names)
        rows = f"(select distinct {every}, {DAY} from typed)" if whole_rows else "typed"
        query = f"""
            with keys as (select {names}, {DAY}, count(*) as _n from {rows} group by all)
            select coalesce(sum(_n), 0)::bigint, count(*) from keys
        """
        count, distinct = self.query(query)[0]
        return int(count), int(distinct)

    def share_within(self, column: str, period: str) -> float:
        """Share of the rows whose time is of the period that their file names."""
        query = f"""
            select avg((date_trunc('{period}', {_quoted(column)}::timestamp)::date = {DAY})::int)
            from typed where {DAY} is not null
        """
        return float(self.query(query)[0][0] or 0)

    def share_later(self, column: str, other: str) -> float:
        """Share of the rows in which one time is later than another."""
        times = [f"{_quoted(name)}::timestamp" for name in (column, other)]
        query = f"select avg(({times[0]} > {times[1]})::int) from typed"
        return float(self.query(query)[0][0] or 0)

    def rows_by_day(self) -> dict[date, int]:
        """Sampled rows of each file's day."""
        query = f"select {DAY}, count(*) from typed where {DAY} is not null group by 1 order by 1"
        return dict(self.query(query))

    def values(self, column: str, limit: int = 1000) -> list[tuple[str, int]]:
        """Values of a column as text with their rows, the most frequent first."""
        query = f"""
            select {_quoted(column)}::varchar, count(*) from typed
            where {_quoted(column)} is not null group by 1 order by 2 desc, 1 limit {limit}
        """
        return [(text, n) for text, n in self.query(query)]

    def dependence(self, key: str, columns: Sequence[str]) -> dict[str, float]:
        """By column, the share of a key's values with which only one of its values goes.

        Empty where the key hardly repeats: everything depends on it then.
        """
        one = _quoted(key)
        rows, keys = self.query(f"select count({one}), count(distinct {one}) from typed")[0]
        if keys < _FEWEST_KEYS or rows < keys * _ROWS_A_KEY or not columns:
            return {}
        counts = ", ".join(
            f"count(distinct {_quoted(c)}) <= 1 as d{i}" for i, c in enumerate(columns)
        )
        shares = ", ".join(f"avg(d{i}::int)" for i in range(len(columns)))
        query = f"""
            select {shares} from (select {counts} from typed where {one} is not null group by {one})
        """
        return dict(zip(columns, map(float, self.query(query)[0]), strict=True))

    def shared_keys(self, columns: Sequence[str]) -> float | None:
        """Share of a day's keys that the sample's next day has again; None with one day."""
        names = ", ".join(_quoted(name) for name in columns)
        query = f"""
            with keys as (select distinct {names}, dense_rank() over (order by {DAY}) as _nth
                          from typed where {DAY} is not null)
            select avg((b._nth is not null)::int) from keys a
            left join keys b on ({_same(columns)}) and b._nth = a._nth + 1
            where a._nth < (select max(_nth) from keys)
        """
        share = self.query(query)[0][0]
        return None if share is None else float(share)

    def referred(self, column: str, other: "Sample", key: str) -> float:
        """Share of a column's different values that another entity's key has in its sample."""
        there = {text for text, _ in other.values(key, 10**6)}
        here = [text for text, _ in self.values(column, 10**5)]
        return sum(text in there for text in here) / len(here) if here else 0.0

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        return self._duckdb.execute(sql).fetchall()

    def close(self) -> None:
        """Release what DuckDB holds."""
        self._duckdb.close()

    @property
    def _file(self) -> str:
        return f"read_parquet({_text(str(self.path))})"

    def _load(self, name: str, files: str, condition: str = "") -> None:
        self.query(
            f"create or replace table {name} as "
            f"select * from read_parquet({_text(files)}) {condition}"
        )

    def _column(
        self, name: str, kind: str, summary: Sequence[Any], counts: Sequence[int]
    ) -> ColumnProfile:
        least, largest = summary[2], summary[3]
        given, distinct, shortest, longest = counts
        values = self.values(name, _VALUES)
        quartiles: tuple[float, ...] = ()
        outliers = 0
        if kind in _NUMBERS and given:
            quartiles = tuple(float(q) for q in summary[-5:-2])
            outliers = self._outliers(name, quartiles)
        return ColumnProfile(
            rows=0,
            given=given,
            distinct=distinct,
            least=least,
            largest=largest,
            shortest=shortest or 0,
            longest=longest or 0,
            patterns=self._patterns(name) if kind == "string" else (),
            top=tuple(values[:_TOP]),
            values=tuple(values),
            bins=self._bins(name, kind) if given else (),
            quartiles=quartiles,
            outliers=outliers,
        )

    def _counts(self, columns: Sequence[str]) -> list[tuple[int, int, int, int]]:
        """Of each column: rows with a value, different values, shortest and longest text."""
        found = []
        for start in range(0, len(columns), _COUNTED_AT_ONCE):
            measures = ", ".join(
                f"struct_pack(a := count({c}), b := count(distinct {c}),"
                f" c := min(length({c}::varchar)), d := max(length({c}::varchar)))"
                for c in columns[start : start + _COUNTED_AT_ONCE]
            )
            (row,) = self.query(f"select {measures} from typed")
            found += [(one["a"], one["b"], one["c"], one["d"]) for one in row]
        return found

    def _padded(self) -> dict[str, int]:
        """By text column, rows whose text has blanks around it."""
        names = [name for name in self.names if self.types[name] == "string"]
        if not names:
            return {}
        counts = ", ".join(f"count_if({c} <> trim({c}))" for c in map(_quoted, names))
        (found,) = self.query(f"select {counts} from sample")
        return {name: count or 0 for name, count in zip(names, found, strict=True)}

    def _patterns(self, name: str) -> tuple[tuple[str, int], ...]:
        column = _quoted(name)
        query = f"""
            select {_shape(column)} as shape, count(*) from typed where {column} is not null
            group by 1 order by 2 desc, 1 limit 5
        """
        return tuple((shape, n) for shape, n in self.query(query))

    def _outliers(self, name: str, quartiles: Sequence[float]) -> int:
        reach = (quartiles[2] - quartiles[0]) * _FENCE
        if not reach:
            return 0
        least, most = quartiles[0] - reach, quartiles[2] + reach
        query = f"select count_if({_quoted(name)} < {least} or {_quoted(name)} > {most}) from typed"
        return int(self.query(query)[0][0])

    def _bins(self, name: str, kind: str) -> tuple[tuple[str, int], ...]:
        column = _quoted(name)
        if kind in _NUMBERS:
            number = f"{column}::double"
        elif kind in ("date", "timestamp", "timestamptz"):
            number = f"epoch({column}::timestamp)"
        else:
            return ()
        query = f"""
            with bounds as (select min({number}) as _low, max({number}) as _high from typed),
            binned as (
                select least(floor(({number} - _low) / nullif(_high - _low, 0) * {_BINS}),
                             {_BINS - 1})::int as _bin
                from typed, bounds where {column} is not null
            )
            select coalesce(_bin, 0), count(*), any_value(_low), any_value(_high)
            from binned, bounds group by 1 order by 1
        """
        found = self.query(query)
        counts = {int(bin_): n for bin_, n, _, _ in found}
        low, high = found[0][2], found[0][3]
        step = (high - low) / _BINS
        labels = [_label(low + step * i, kind) for i in range(_BINS)]
        return tuple((labels[i], counts.get(i, 0)) for i in range(_BINS))


def _label(value: float, kind: str) -> str:
    if kind in _NUMBERS:
        return f"{value:.6g}"
    return (_EPOCH + timedelta(seconds=value)).date().isoformat()


def _same(columns: Sequence[str]) -> str:
    return " and ".join(f"a.{_quoted(c)} is not distinct from b.{_quoted(c)}" for c in columns)


def _shape(column: str) -> str:
    """SQL of a text's shape: letters as A, digits as 9, runs of each shortened to four."""
    letters = f"regexp_replace(left({column}, 60), '\\p{{L}}', 'A', 'g')"
    digits = f"regexp_replace({letters}, '[0-9]', '9', 'g')"
    return f"regexp_replace({digits}, 'A{{4,}}', 'AAAA', 'g')"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
