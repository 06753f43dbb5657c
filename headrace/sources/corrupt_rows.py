"""Corrupt rows: text and reason of a row whose columns cannot be read or stored."""

import re
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

CORRUPT_RECORD = "_corrupt_record"
CORRUPT_REASON = "_corrupt_reason"
NUL = "a NUL character"


class NulWatch:
    """Detects NUL characters in a stream of text, in one pass over its bytes.

    PostgreSQL stores no text with a NUL, so that one such value would fail a whole load. Most
    often it is a field that a program with fixed-width records did not fill.
    """

    def __init__(self) -> None:
        self.found = False

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks; sets `found` once one of them has a NUL."""
        for chunk in chunks:
            self.found = self.found or b"\0" in chunk
            yield chunk


def without_nuls(read: pa.RecordBatch, delimiter: str) -> pa.RecordBatch:
    """The same rows; those with a NUL character in a text column become corrupt rows."""
    is_corrupt = np.zeros(len(read), dtype=bool)
    for name in columns_of(read):
        texts = read.column(name)
        if pa.types.is_string(texts.type):
            has_nul = pc.match_substring(texts, "\0").fill_null(False)  # noqa: FBT003
            is_corrupt |= has_nul.to_numpy(zero_copy_only=False)
    return set_aside(read, is_corrupt, pa.scalar(NUL), delimiter) if is_corrupt.any() else read


def columns_of(read: pa.RecordBatch) -> list[str]:
    """Names of the source's columns in a batch; technical columns begin with `_`."""
    return [name for name in read.schema.names if not name.startswith("_")]


def set_aside(
    read: pa.RecordBatch,
    is_corrupt: npt.NDArray[np.bool_],
    reasons: pa.StringArray | pa.StringScalar,
    delimiter: str,
) -> pa.RecordBatch:
    """Make some rows corrupt: NULL columns, their text in `_corrupt_record`, and a reason.

    Rows that are corrupt already stay unchanged.
    """
    to_corrupt = pa.array(
        is_corrupt & read.column(CORRUPT_RECORD).is_null().to_numpy(zero_copy_only=False)
    )
    columns = dict(zip(read.schema.names, read.columns, strict=True))
    names = columns_of(read)
    # The text of the record has no field for a column that the file lacks.
    present = [name for name in names if columns[name].null_count < len(read)]
    quoted = [_quoted(_text_of(columns[name]), delimiter) for name in present or names]
    joined = pc.binary_join_element_wise(*quoted, delimiter)
    columns[CORRUPT_RECORD] = pc.if_else(to_corrupt, joined, columns[CORRUPT_RECORD])
    columns[CORRUPT_REASON] = pc.if_else(to_corrupt, reasons, columns[CORRUPT_REASON])
    for name in names:
        columns[name] = pc.if_else(to_corrupt, pa.scalar(None, columns[name].type), columns[name])
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=read.schema)


def _text_of(values: pa.Array) -> pa.StringArray:
    # A NULL value is an empty text; a NULL among the parts would make the whole record NULL.
    is_text = pa.types.is_string(values.type)
    return (values if is_text else values.cast(pa.string())).fill_null("")


def _quoted(texts: pa.StringArray, delimiter: str) -> pa.StringArray:
    doubled = pc.replace_substring(texts, '"', '""')
    wrapped = pc.binary_join_element_wise('"', doubled, '"', "")
    special = pc.match_substring_regex(texts, rf'["\r\n]|{re.escape(delimiter)}')
    return pc.if_else(special, wrapped, texts)
