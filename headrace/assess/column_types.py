"""Chooses the type and the options of each column by what the engine's own readers accept."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column
from pyspark.sql import functions as F

from headrace.assess.candidates import (
    WIDE_DECIMAL,
    Candidate,
    number_candidates,
    places_of,
    time_candidates,
)
from headrace.assess.name_words import is_birth, is_code, is_flag, is_identifier, is_time
from headrace.config.entities.columns import TIMES
from headrace.engine import functions as parse

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Texts that mean NULL; `-` and words of people only beside numbers and times.
SURE_NULLS = frozenset({"null", "(null)", "\\n", "#n/a", "n/a", "<null>", "[null]"})
NULLS = SURE_NULLS | {"na", "none", "nil", "nan", "-", "--", "?", ".", "n.a.", "k.a.", "unknown"}
_ZERO_TIMES = re.compile(r"0{4}[-/.]?00[-/.]?00(?:[ T]00:00(?::00)?)?|00[-/.]00[-/.]0{4}|0")
_FOR_EVER = re.compile(r"9999[-/.]?12[-/.]?31.*|(?:31[-/.]12|12[-/.]31)[-/.]9999.*")
_LATEST_YEAR = 2200
_YEARS = range(1880, 2201)
# A column has a type if so many of its rows are of it; identifiers have none that all are not.
_FITS, _MEASURES_FIT = 0.9, 0.99
_MOST_PLACES, _MONEY = 10, (12, 2)
_INT_DIGITS = 9
_TRUE, _FALSE = {"true", "t", "yes", "y"}, {"false", "f", "no", "n"}


@dataclass(frozen=True)
class ColumnTexts:
    """Texts of one column, chosen so that each shape is among them.

    Attributes:
        name: Its name once processed.
        rows: Trimmed text and the day of its file, to the number of rows.
    """

    name: str
    rows: Mapping[tuple[str, date | None], int]

    @property
    def texts(self) -> dict[str, int]:
        """Trimmed texts and how many rows have them."""
        found: dict[str, int] = defaultdict(int)
        for (text, _), count in self.rows.items():
            found[text] += count
        return dict(found)


@dataclass(frozen=True)
class TypeChoice:
    """How a column is read.

    Attributes:
        type: Its logical type.
        options: `formats`, `decimal_mark` and so on.
        null_texts: Texts that mean NULL.
        evidence: Why, one phrase each.
        misfits: Rows that do not fit and would be quarantined.
        doubt: What somebody has to decide; '' if nothing.
    """

    type: str = "string"
    options: Mapping[str, Any] = field(default_factory=dict)
    null_texts: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    misfits: int = 0
    doubt: str = ""


@dataclass(frozen=True)
class _Fit:
    """What the engine makes of a column's texts by one candidate."""

    rows: int
    file_days: int = 0
    first: date | None = None
    last: date | None = None


def choose_types(
    spark: "SparkSession", columns: Sequence[ColumnTexts], delimiter: str
) -> dict[str, TypeChoice]:
    """The type of each column.

    Args:
        spark: The engine that will read the columns.
        columns: Their texts.
        delimiter: Between the fields; beside `;` a comma is a decimal mark.
    """
    given = {c.name: _without_nulls(c) for c in columns}
    numbers = {n: number_candidates(c.texts) for n, c in given.items() if not is_code(n)}
    times = {n: time_candidates(c.texts, is_birth=is_birth(n)) for n, c in given.items()}
    asked = {n: [*numbers.get(n, []), *times[n]] for n in given}
    fits = _ask_engine(spark, given, asked)
    chosen = {}
    for column in columns:
        name, some = column.name, given[column.name]
        choice = (
            _as_boolean(name, some)
            or _as_time(name, some, times[name], fits[name])
            or _as_number(name, some, numbers.get(name, []), fits[name], delimiter)
            or TypeChoice()
        )
        chosen[name] = _with_nulls(choice, column)
    return _of_one_order(chosen, times, fits)


def _without_nulls(column: ColumnTexts) -> ColumnTexts:
    rows = {
        (text, day): count
        for (text, day), count in column.rows.items()
        if text.lower() not in NULLS and not _FOR_EVER.fullmatch(text) and text
    }
    return replace(column, rows=rows)


def _with_nulls(choice: TypeChoice, column: ColumnTexts) -> TypeChoice:
    """The choice with the texts that mean NULL; of words in a text column only the sure ones."""
    known = SURE_NULLS if choice.type == "string" else NULLS
    found = [text for text in column.texts if text.lower() in known]
    if choice.type in TIMES:
        found += [text for text in column.texts if _ZERO_TIMES.fullmatch(text)]
        found += [text for text in column.texts if _FOR_EVER.fullmatch(text)]
    if not found:
        return choice
    zero = sum(n for text, n in column.texts.items() if _ZERO_TIMES.fullmatch(text))
    misfits = choice.misfits - zero if choice.type in TIMES else choice.misfits
    rows = sum(column.texts[text] for text in found)
    why = f"{', '.join(sorted(found))} mean NULL ({rows} rows)"
    return replace(
        choice,
        null_texts=tuple(sorted(found)),
        misfits=max(misfits, 0),
        evidence=(*choice.evidence, why),
    )


def _ask_engine(
    spark: "SparkSession",
    columns: Mapping[str, ColumnTexts],
    asked: Mapping[str, Sequence[Candidate]],
) -> dict[str, dict[Candidate, _Fit]]:
    """What fits each candidate, in one query."""
    users: dict[Candidate, list[str]] = defaultdict(list)
    for name, candidates in asked.items():
        for candidate in candidates:
            users[candidate].append(name)
    fits: dict[str, dict[Candidate, _Fit]] = {name: {} for name in columns}
    if not users:
        return fits
    measures = [m for n, user in enumerate(users.items()) for m in _measures(n, *user)]
    with tempfile.TemporaryDirectory(prefix="headrace-assess-") as folder:
        path = Path(folder) / "texts.parquet"
        _write_texts(path, [columns[name] for name, some in asked.items() if some])
        texts = spark.read.parquet(str(path))
        rows = [row.asDict() for row in texts.groupBy("name").agg(*measures).collect()]
    for row in rows:
        for number, (candidate, used_by) in enumerate(users.items()):
            if row["name"] in used_by:
                fits[row["name"]][candidate] = _Fit(
                    row[f"rows{number}"] or 0,
                    row.get(f"file_days{number}") or 0,
                    row.get(f"first{number}"),
                    row.get(f"last{number}"),
                )
    return fits


def _write_texts(path: Path, columns: Sequence[ColumnTexts]) -> None:
    flat = [(c.name, text, day, n) for c in columns for (text, day), n in c.rows.items()]
    schema = pa.schema(
        [("name", pa.string()), ("text", pa.string()), ("day", pa.date32()), ("n", pa.int64())]
    )
    arrays = [pa.array(c, f.type) for c, f in zip(zip(*flat, strict=True), schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def _measures(number: int, candidate: Candidate, used_by: Sequence[str]) -> list[Column]:
    """Rows that fit a candidate; of times also the first and last day, and the file's day."""
    text = F.when(F.col("name").isin([*used_by]), F.col("text"))
    value = parse.parse_declared(candidate.column(), text)
    rows = F.sum(F.when(value.isNotNull(), F.col("n"))).alias(f"rows{number}")
    if candidate.type not in TIMES:
        return [rows]
    day = value.cast("date")
    file_days = F.sum(F.when(day == F.col("day"), F.col("n"))).alias(f"file_days{number}")
    bounds = [F.min(day).alias(f"first{number}"), F.max(day).alias(f"last{number}")]
    return [rows, file_days, *bounds]


def _as_boolean(name: str, column: ColumnTexts) -> TypeChoice | None:
    texts = {text.lower() for text in column.texts}
    if not texts:
        return None
    is_word = texts <= _TRUE | _FALSE and (
        (texts & _TRUE and texts & _FALSE) or texts <= {"true", "false"} or is_flag(name)
    )
    if is_word or (texts <= {"0", "1"} and is_flag(name)):
        return TypeChoice("boolean", evidence=(f"all are {' or '.join(sorted(texts))}",))
    return None


def _as_time(
    name: str,
    column: ColumnTexts,
    candidates: Sequence[Candidate],
    fits: Mapping[Candidate, _Fit],
) -> TypeChoice | None:
    texts = column.texts
    rows = sum(n for text, n in texts.items() if not _ZERO_TIMES.fullmatch(text))
    known = [c for c in candidates if fits[c].rows and _is_plausible(c, fits[c], name)]
    if not known or not rows:
        return None
    best = max(known, key=lambda c: _time_rank(c, fits[c]))
    share = fits[best].rows / rows
    if share < _FITS:
        return None
    choice = TypeChoice(
        best.type,
        dict(best.options),
        misfits=rows - fits[best].rows,
        evidence=(f"{fits[best].first} to {fits[best].last}",),
    )
    twin = best.other_order
    if twin is None or twin not in fits or fits[twin].rows < fits[best].rows:
        return choice
    return _with_order(choice, best, fits)


def _is_plausible(candidate: Candidate, fit: _Fit, name: str) -> bool:
    """Whether days are of years that people write; digits alone need a name that says so."""
    if fit.first is None or fit.last is None:
        return False
    if fit.first.year not in _YEARS or fit.last.year > _LATEST_YEAR:
        return False
    return not candidate.pattern.startswith("yyyyMMdd") or is_time(name) or not is_identifier(name)


def _time_rank(candidate: Candidate, fit: _Fit) -> tuple[Any, ...]:
    span = (fit.last - fit.first).days if fit.first and fit.last else 0
    has_short_year = "pivot" in dict(candidate.options)
    # An optional part is a second choice, and so are two digits of a year.
    return (
        fit.rows,
        not has_short_year,
        fit.file_days,
        -span,
        not candidate.pattern,
        candidate.type != "timestamptz",
        "[" not in candidate.pattern,
        candidate.is_day_first,
    )


def _with_order(choice: TypeChoice, best: Candidate, fits: Mapping[Candidate, _Fit]) -> TypeChoice:
    """The choice with what says that the day, or the month, comes first, or with a doubt."""
    twin = best.other_order
    order = "the day first" if best.is_day_first else "the month first"
    if twin is None:
        return choice
    one, other = fits[best], fits[twin]
    if one.file_days > other.file_days:
        why = f"{order}: so {one.file_days} rows are of the day of their file"
        return replace(choice, evidence=(*choice.evidence, why))
    if best.is_day_first and best.pattern.startswith("d."):
        return replace(choice, evidence=(*choice.evidence, "the day first, as before a point"))
    doubt = f"day and month could be the other way round; {order} is a guess"
    return replace(choice, doubt=doubt)


def _of_one_order(
    chosen: Mapping[str, TypeChoice],
    times: Mapping[str, Sequence[Candidate]],
    fits: Mapping[str, Mapping[Candidate, _Fit]],
) -> dict[str, TypeChoice]:
    """The choices, doubtful orders of day and month decided by columns that are sure of theirs."""
    sure: dict[str, set[bool]] = defaultdict(set)
    for choice in chosen.values():
        candidate = _candidate_of(choice)
        if candidate.other_order is not None and not choice.doubt:
            sure[_sign(candidate)].add(candidate.is_day_first)
    decided = dict(chosen)
    for name, choice in chosen.items():
        candidate = _candidate_of(choice)
        orders = sure.get(_sign(candidate), set())
        if not choice.doubt or len(orders) != 1:
            continue
        twin = candidate.other_order
        if twin is not None and twin in times[name] and candidate.is_day_first not in orders:
            candidate = twin
        fit = fits[name][candidate]
        order = "the day first" if candidate.is_day_first else "the month first"
        decided[name] = replace(
            choice,
            options=dict(candidate.options),
            doubt="",
            evidence=(f"{fit.first} to {fit.last}", f"{order}, as other columns have it"),
        )
    return decided


def _candidate_of(choice: TypeChoice) -> Candidate:
    return Candidate(choice.type, tuple(choice.options.items()))


def _sign(candidate: Candidate) -> str:
    """What stands between day and month."""
    return candidate.pattern[1:2]


def _as_number(
    name: str,
    column: ColumnTexts,
    candidates: Sequence[Candidate],
    fits: Mapping[Candidate, _Fit],
    delimiter: str,
) -> TypeChoice | None:
    texts = column.texts
    rows = sum(texts.values())
    if not candidates or any(re.match(r"0\d", text) for text in texts):
        return None  # 00123 is a code, not 123.
    best = max(candidates, key=lambda c: (fits[c].rows, _number_rank(c, delimiter)))
    misfits = rows - fits[best].rows
    if misfits and not _is_tolerable(name, column, misfits / rows):
        return None
    options = dict(best.options)
    written = [places_of(text, best) for text in texts if re.search(r"\d", text)]
    whole, places = (max(n) for n in zip(*written, strict=True)) if written else (1, 0)
    choice = TypeChoice(_number_type(name, best, whole, places), options, misfits=misfits)
    if _is_doubtful(texts, best):
        mark = "fraction" if "decimal_mark" in options else "thousands"
        why = f"',' before three digits is taken for {mark}: 1,234 could be either"
        return replace(choice, doubt=why)
    return choice


def _number_rank(candidate: Candidate, delimiter: str) -> tuple[Any, ...]:
    options = dict(candidate.options)
    grouping = options.get("grouping", "")
    mark = options.get("decimal_mark", "")
    # Beside ; a comma is a decimal mark, since it could have been the delimiter.
    comma = (grouping != ",") if delimiter == ";" else (mark != ",")
    order = ("double", WIDE_DECIMAL, "bigint")
    return (
        not (grouping or mark),
        comma,
        len(options.get("group_sizes", (3,))) == 1,
        not (grouping and mark),
        order.index(candidate.type),
    )


def _is_doubtful(texts: Mapping[str, int], candidate: Candidate) -> bool:
    """Whether each comma has three digits behind it, and no point says what it is."""
    options = dict(candidate.options)
    if options.get("grouping") != "," and options.get("decimal_mark") != ",":
        return False
    with_comma = [text for text in texts if "," in text]
    return bool(with_comma) and all(
        re.fullmatch(r"[^,.]*,\d{3}\D*", text) and "." not in text for text in with_comma
    )


def _is_tolerable(name: str, column: ColumnTexts, share: float) -> bool:
    """Whether rows that are no numbers are slips in a column of numbers."""
    if is_identifier(name):
        return False
    if share > 1 - _FITS:
        return False
    texts = column.texts
    words = sum(n for text, n in texts.items() if not re.search(r"\d", text)) / sum(texts.values())
    return words >= share or share <= 1 - _MEASURES_FIT


def _number_type(name: str, candidate: Candidate, whole: int, places: int) -> str:
    if candidate.type == "bigint" and places <= 1:
        is_wide = whole > _INT_DIGITS or is_identifier(name)
        return "bigint" if is_wide else "int"
    if candidate.type == "double" or places > _MOST_PLACES:
        return "double"
    scale = max(places, _MONEY[1]) if places else 0
    precision = max(_MONEY[0] if scale == _MONEY[1] else 18, whole + scale + 2)
    return f"decimal({min(precision, 38)},{scale})"
