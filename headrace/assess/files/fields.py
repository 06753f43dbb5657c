"""Names and types of the fields of files, and which files lack one."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.assess.files.text_dialect import Dialect, records_of
from headrace.assess.sample_source import SourceField
from headrace.sources.files.signatures import peek
from headrace.sources.files.text.csv_header import plain
from headrace.sources.files.text.decoding import decompressed, read_chunks

_HEADER_BYTES = 2**15
_LETTERS = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "o", "€": "eur", "%": "pct"}


def snake_case(name: str, fallback: str, most: int = 63) -> str:
    """A name as lower snake case: `InvoiceNo` is `invoice_no`; `fallback` if no letter is left."""
    text = "".join(_LETTERS.get(c, c) for c in name.strip().replace("ß", "ss"))
    text = "".join(_LETTERS.get(c.lower(), c) for c in unicodedata.normalize("NFC", text))
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    text = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()
    if not text or not text.strip("0123456789_"):
        return fallback
    return (text if text[0].isalpha() else f"n_{text}")[:most].rstrip("_")


def field_names(source_names: Sequence[str]) -> tuple[str, ...]:
    """A name once processed for each name in the source; none is there twice."""
    found: list[str] = []
    for number, name in enumerate(source_names, start=1):
        base = snake_case(name, f"column_{number}", most=59)
        options = (base, *(f"{base}_{i}" for i in range(2, len(source_names) + 2)))
        found.append(next(text for text in options if text not in found))
    return tuple(found)


def text_fields(
    root: Path, paths: Sequence[str], dialect: Dialect, days: Mapping[str, date]
) -> tuple[SourceField, ...]:
    """The columns of text files of one dialect.

    Args:
        root: Their folder.
        paths: Their paths in it.
        dialect: How they are written.
        days: By path, the day that a file names.
    """
    declared = dialect.as_format().get("header", True)
    if declared is True:
        headers = {path: _header_of(root / path, dialect) for path in paths}
    else:
        headers = dict.fromkeys(paths, tuple(declared or dialect.names))
    order = list(dict.fromkeys(name for names in headers.values() for name in names))
    names = zip(order, field_names(order), strict=True)
    return tuple(
        SourceField(own, name, "string", *absence(name, headers, days)) for name, own in names
    )


def parquet_fields(
    root: Path, paths: Sequence[str], days: Mapping[str, date]
) -> tuple[tuple[SourceField, ...], list[str]]:
    """The columns of Parquet files, and a remark on each that is left out."""
    types: dict[str, pa.DataType] = {}
    headers: dict[str, tuple[str, ...]] = {}
    for path in paths:
        schema = pq.read_schema(root / path)
        headers[path] = tuple(schema.names)
        types |= dict(zip(schema.names, schema.types, strict=True))
    fields, left_out = [], []
    for name, own in zip(types, field_names([*types]), strict=True):
        kind = logical_type(types[name])
        if kind is None:
            left_out.append(f"column '{name}' is left out: {types[name]} has no column type")
        else:
            fields.append(SourceField(own, name, kind, *absence(name, headers, days)))
    return tuple(fields), left_out


def _header_of(path: Path, dialect: Dialect) -> tuple[str, ...]:
    lines = _head_of(path, dialect.encoding).splitlines(keepends=True)[dialect.skip_lines :]
    first = next(records_of(lines, dialect), None)
    return tuple(map(plain, first or dialect.names))


def _head_of(path: Path, encoding: str) -> str:
    with path.open("rb") as stream:
        head, _ = peek(decompressed(read_chunks(stream, _HEADER_BYTES), path.name), _HEADER_BYTES)
        return head.decode(encoding, "ignore").removeprefix("\ufeff")


def absence(
    name: str, headers: Mapping[str, Sequence[str]], days: Mapping[str, date]
) -> tuple[dict[str, Any], str]:
    """What a column says of files that lack it."""
    lacking = [path for path, names in headers.items() if name not in names]
    if not lacking:
        return {}, ""
    why = f"{len(lacking)} of {len(headers)} files lack it"
    having = [days[path] for path in headers if path not in lacking and path in days]
    without = [days[path] for path in lacking if path in days]
    if having and without and max(without) < min(having):
        return {"since": min(having)}, why
    if having and without and max(having) < min(without):
        return {"until": min(without)}, why
    return {"optional": True}, why


def logical_type(kind: pa.DataType) -> str | None:
    """The logical type by which raw keeps an Arrow type without loss; None if there is none."""
    if pa.types.is_dictionary(kind):
        return logical_type(kind.value_type)
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if pa.types.is_integer(kind):
        bits = kind.bit_width + pa.types.is_unsigned_integer(kind)
        return "int" if bits <= 32 else "bigint" if bits <= 64 else None  # noqa: PLR2004
    checks = (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_floating, "double"),
        (pa.types.is_date, "date"),
        (pa.types.is_string, "string"),
        (pa.types.is_large_string, "string"),
        (pa.types.is_string_view, "string"),
        (pa.types.is_null, "string"),
    )
    return next((name for is_one, name in checks if is_one(kind)), None)
