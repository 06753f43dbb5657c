"""The first record of a delimited file: which of its fields are the declared columns.

Belongs here: finding the header and judging it against the configuration.
Elsewhere: the rows after it (headrace.ingestion.csv_reader).
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from headrace.config.sources import CsvFormat, EntityConfig
from headrace.errors import SourceRejectedError

# A longer first line is a file of another kind, or has a quote that is never closed.
_MAX_BYTES = 2**20
_BYTE_ORDER_MARK = "\ufeff".encode()
_SHOWN = 60


def split_header(
    chunks: Iterable[bytes], form: CsvFormat, path: str
) -> tuple[tuple[str, ...], Iterator[bytes]]:
    """The names in the first record that is not blank, trimmed, and the bytes after it.

    Args:
        chunks: The file as UTF-8.
        form: Delimiter and quote.
        path: Its name, for errors.

    Raises:
        SourceRejectedError: The file is empty, or its first line is too long to be a header.
    """
    rest, head = iter(chunks), b""
    for chunk in rest:
        head += chunk
        if (found := _first_record(head, form)) or len(head) > _MAX_BYTES:
            break
    else:
        # The file ends here, so the last record needs no line end.
        found = _first_record(head + b"\n", form)
    if found is None and len(head) > _MAX_BYTES:
        raise SourceRejectedError(
            f"{path}: line 1 has more than {_MAX_BYTES:,} bytes",
            fix="see that the file is text, and that no quote in its header is left open",
        )
    if found is None:
        raise SourceRejectedError(
            f"{path} is empty: it has not even a header",
            fix="deliver the file again; a day without rows has a header alone",
        )
    names, length = found
    return names, chain([head[length:]], rest)


def find_columns(names: Sequence[str], entity: EntityConfig, path: str) -> tuple[int, ...]:
    """The position in `names` of each declared column, in their declared order.

    Raises:
        SourceRejectedError: A declared column is missing or there twice, or one that is not
            declared is there and `extra_columns` is `fail`.
    """
    # Names that look equal are equal, however their accents are encoded.
    names = [unicodedata.normalize("NFC", name) for name in names]
    wanted = [unicodedata.normalize("NFC", column.source_name) for column in entity.columns]
    missing = [name for name in wanted if name not in names]
    if len(missing) == len(wanted):
        # Then line 1 may be a row, and its fields are not shown.
        raise SourceRejectedError(
            f"{path}: line 1 names none of the columns {', '.join(wanted)}",
            fix="see that the file has a header and is delimited by "
            f"'{entity.extract.format.delimiter}', or declare the names it uses (from: …)",
        )
    if missing:
        raise SourceRejectedError(
            f"{path}: line 1: {_columns(missing)} missing",
            fix=_missing_fix(missing[0], names),
        )
    extra = [name for name in names if name not in wanted]
    if repeated := [name for name in wanted if names.count(name) > 1]:
        raise SourceRejectedError(
            f"{path}: line 1: {_columns(repeated)} there more than once",
            fix="give every column a name of its own",
        )
    if extra and entity.extract.extra_columns == "fail":
        raise SourceRejectedError(
            f"{path}: line 1: {_columns(extra)} not declared",
            fix=f"declare it in columns of {entity.name}, or set extra_columns: ignore",
        )
    return tuple(names.index(name) for name in wanted)


def records_in(lines: Iterable[str], form: CsvFormat) -> Iterator[list[str]]:
    """The fields of each record, by Python's own reader: for a few lines, not for a file."""
    if form.quote is None:
        return csv.reader(lines, delimiter=form.delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=form.delimiter, quotechar=form.quote)


def _first_record(head: bytes, form: CsvFormat) -> tuple[tuple[str, ...], int] | None:
    """The names and the length in bytes of the first record that is complete and not blank."""
    mark = len(_BYTE_ORDER_MARK) if head.startswith(_BYTE_ORDER_MARK) else 0
    text = head[mark:].decode(errors="ignore")  # A character may be cut at the end.
    consumed = 0

    def lines() -> Iterator[str]:
        nonlocal consumed
        for line in io.StringIO(text, newline=""):
            consumed += len(line)
            yield line

    try:
        for fields in records_in(lines(), form):
            names = tuple(field.strip() for field in fields)
            if any(names):
                record = text[:consumed]
                ends = record.endswith(("\n", "\r"))
                return (names, mark + len(record.encode())) if ends else None
    except csv.Error:  # A field longer than Python's csv takes: not a header.
        return None
    return None


def _columns(names: Sequence[str]) -> str:
    if len(names) == 1:
        shown = f"column '{names[0][:_SHOWN]}'" if names[0] else "a column without a name"
        return f"{shown} is"
    listed = ", ".join(f"'{name[:_SHOWN]}'" for name in names)
    return f"columns {listed} are"


def _missing_fix(missing: str, names: Sequence[str]) -> str:
    alike = [name for name in names if name.casefold() == missing.casefold()]
    if alike:
        return f"the file calls it '{alike[0][:_SHOWN]}': declare that name (from: …)"
    return (
        "deliver the file with it; declare its new name (from: [old, new]), since when files have "
        "it (since: …) or that they may lack it (optional: true); or remove it from columns"
    )
