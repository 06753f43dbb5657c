"""Values of a database's text form as Arrow values of the declared types.

A value that the declared type does not hold is never changed: its row becomes a corrupt record.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.lineage_schema import POSITION
from headrace.schema import arrow_type, decimal_parts
from headrace.sources.corrupt_rows import CORRUPT_REASON, CORRUPT_RECORD, set_aside

Mask = npt.NDArray[np.bool_]

_TRUE, _FALSE = pa.array(["t", "1"]), pa.array(["f", "0"])
_TIME = r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(?:\.\d{1,6})?"
# Texts that Arrow reads as the value that the database means. BC, infinity, zero dates and years of
# five digits are none of them.
_READABLE = {
    "int": r"^-?\d{1,10}$",
    "bigint": r"^-?\d{1,19}$",
    "date": r"^\d{4}-\d{2}-\d{2}$",
    "timestamp": rf"^{_TIME}$",
    "timestamptz": rf"^{_TIME}\+00$",
}


def typed(
    texts: pa.RecordBatch, types: dict[str, str], position: int, kept: str | None = None
) -> pa.RecordBatch:
    """Rows of the declared types, with the technical columns of `Connector.read`.

    Args:
        texts: Columns, in the order of `types`: all as text, or all of their types; NULL is null.
        types: By column its type, one of headrace.schema.TYPE_NAMES.
        position: How many rows were read before.
        kept: Column that a corrupt row keeps if it is readable, so that the row stays in its
            partition.
    """
    count = texts.num_rows
    lost: Mask = np.zeros(count, dtype=bool)
    reasons = np.full(count, None, dtype=object)
    columns: dict[str, pa.Array] = {}
    for name, kind in types.items():
        values, bad = _typed(texts.column(name), kind)
        columns[name] = values
        if bad is not None:
            reasons[bad & ~lost] = f"{name}: {_why(kind)}"
            lost |= bad
    nothing = pa.nulls(count, pa.string())
    technical = {CORRUPT_RECORD: nothing, CORRUPT_REASON: nothing}
    if lost.any():
        whole = pa.RecordBatch.from_pydict({**_columns(texts), **technical})
        aside = set_aside(whole, lost, pa.array(reasons, pa.string()), ",")
        technical = {name: aside.column(name) for name in technical}
        is_lost = pa.array(lost)
        columns = {
            name: values
            if name == kept
            else pc.if_else(is_lost, pa.scalar(None, values.type), values)
            for name, values in columns.items()
        }
    places = pa.array(np.arange(position + 1, position + count + 1, dtype=np.int64))
    return pa.RecordBatch.from_pydict({**columns, **technical, POSITION: places})


def _columns(texts: pa.RecordBatch) -> dict[str, pa.Array]:
    # An absent value of a corrupt record is an empty text.
    return {name: texts.column(name).fill_null("") for name in texts.schema.names}


def _why(kind: str) -> str:
    if kind == "decimal" or decimal_parts(kind):
        return f"no {kind} holds this number"
    return f"no {kind} holds this value"


def _typed(texts: pa.StringArray, kind: str) -> tuple[pa.Array, Mask | None]:
    """Values, and which of the texts are none; None: all are."""
    if texts.type == arrow_type(kind):
        return texts, None
    if kind == "boolean":
        return _booleans(texts)
    try:
        return _cast(texts, kind), None
    except pa.ArrowInvalid:
        pass
    parts = decimal_parts(kind)
    pattern = _READABLE.get(kind)
    if parts:
        whole, places = parts[0] - parts[1], parts[1]
        fraction = rf"(?:\.\d{{0,{places}}}0*)?"
        pattern = rf"^-?0*\d{{0,{whole}}}{fraction}$"
    good = pc.match_substring_regex(texts, pattern or "^$").fill_null(False)  # noqa: FBT003
    readable = pc.if_else(good, texts, pa.scalar(None, pa.string()))
    if parts:
        # Zeros after the last place that the type has; without them every text fits.
        readable = pc.replace_substring_regex(readable, r"(\.\d*?)0+$", r"\1")
        readable = pc.utf8_rtrim(readable, ".")
    values, more = _each(readable, kind)
    bad = ~good.to_numpy(zero_copy_only=False) & texts.is_valid().to_numpy(zero_copy_only=False)
    return values, bad if more is None else bad | more


def _booleans(texts: pa.StringArray) -> tuple[pa.Array, Mask | None]:
    """PostgreSQL writes t and f; MySQL has no boolean: a number may be neither 0 nor 1."""
    values = pc.is_in(texts, _TRUE)
    good = pc.or_(values, pc.is_in(texts, _FALSE))
    values = pc.if_else(good, values, pa.scalar(None, pa.bool_()))
    bad = pc.and_(pc.invert(good), texts.is_valid()).to_numpy(zero_copy_only=False)
    return values, bad if bad.any() else None


def _each(texts: pa.StringArray, kind: str) -> tuple[pa.Array, Mask | None]:
    """As `_cast`, text by text where some are beyond the type's bounds."""
    try:
        return _cast(texts, kind), None
    except pa.ArrowInvalid:
        pass
    bad = np.zeros(len(texts), dtype=bool)
    parts = []
    for number in range(len(texts)):
        one = texts.slice(number, 1)
        try:
            parts.append(_cast(one, kind))
        except pa.ArrowInvalid:
            bad[number] = True
            parts.append(pa.nulls(1, arrow_type(kind)))
    return pa.concat_arrays(parts), bad


def _cast(texts: pa.StringArray, kind: str) -> pa.Array:
    return pc.cast(texts, arrow_type(kind))
