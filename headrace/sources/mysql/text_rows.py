"""Rows of MySQL's text protocol as columns of text, a batch at a time.

PyMySQL reads each row and each value by itself: 26k rows/s where this module reads 190k. It begins
where PyMySQL has read the names of the columns (decisions/0046).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pymysql.connections import Connection
from pymysql.constants import CR
from pymysql.err import OperationalError, raise_mysql_exception

Places = npt.NDArray[np.int64]

_PIECE = 2**20
# A packet begins with 3 bytes of length and a number. One of the greatest length goes on in the
# next packet.
_HEADER = 4
_LONGEST = 2**24 - 1
_EOF_BYTES = 9
# First byte of a value: its length if below; NULL; or how many bytes after it are its length.
_NULL, _TWO_BYTES, _THREE_BYTES, _EIGHT_BYTES = 0xFB, 0xFC, 0xFD, 0xFE
# First byte of a packet that is no row.
_EOF, _ERROR = 0xFE, 0xFF


def read_text(session: "Connection[Any]", statement: str, size: int) -> Iterator[list[pa.Array]]:
    """The rows of a statement as arrays of text, one a column; NULL is null.

    Args:
        session: Nothing else may be read from it until all rows are; it may be closed before.
        statement: A select.
        size: Bytes of a batch; one row may be longer.

    Raises:
        MySQLError: As PyMySQL does.
    """
    session.query(statement, unbuffered=True)
    result = session._result  # type: ignore[attr-defined]  # noqa: SLF001
    # PyMySQL would read the rest when the session is closed.
    result.unbuffered_active = False
    rows = _Rows(session._rfile)  # type: ignore[attr-defined]  # noqa: SLF001
    while not rows.is_done:
        text, starts = rows.read(size)
        if starts:
            yield _columns(text, starts, result.field_count)


class _Rows:
    """Packets of rows in a stream, up to the packet that ends them."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.buffer = bytearray()
        self.is_done = False

    def read(self, size: int) -> tuple[bytes, list[int]]:
        """Packets of whole rows, of about `size` bytes, and where the rows begin in them."""
        starts: list[int] = []
        place = self._scan(0, starts)
        while not self.is_done and (place < size or not starts):
            self.buffer += self._piece()
            place = self._scan(place, starts)
        text = bytes(memoryview(self.buffer)[:place])
        del self.buffer[:place]
        return text, starts

    def _piece(self) -> bytes:
        try:
            piece: bytes = self.stream.read1(_PIECE)
        except OSError:
            piece = b""
        if not piece:
            raise OperationalError(CR.CR_SERVER_LOST, "the connection was lost")
        return piece

    def _scan(self, place: int, starts: list[int]) -> int:
        """Note where rows begin, from a packet's begin on; the first packet that is not whole."""
        buffer, end = self.buffer, len(self.buffer)
        while place + _HEADER < end:
            length = buffer[place] | buffer[place + 1] << 8 | buffer[place + 2] << 16
            if length == _LONGEST:
                return self._scan_long(place, starts)
            after = place + _HEADER + length
            if after > end:
                break
            first = buffer[place + _HEADER]
            if first == _ERROR:
                raise_mysql_exception(bytes(buffer[place + _HEADER : after]))
            if first == _EOF and length < _EOF_BYTES:
                self.is_done = True
                break
            starts.append(place + _HEADER)
            place = after
        return place

    def _scan_long(self, place: int, starts: list[int]) -> int:
        """As `_scan`, of a row of several packets: only the first one keeps its header."""
        headers, at, length = [], place, _LONGEST
        while length == _LONGEST:
            if at + _HEADER > len(self.buffer):
                return place
            length = int.from_bytes(self.buffer[at : at + 3], "little")
            headers.append(at)
            at += _HEADER + length
        if at > len(self.buffer):
            return place
        for header in reversed(headers[1:]):
            del self.buffer[header : header + _HEADER]
        starts.append(place + _HEADER)
        return self._scan(at - _HEADER * (len(headers) - 1), starts)


def _columns(text: bytes, starts: list[int], width: int) -> list[pa.Array]:
    places = np.array(starts, dtype=np.int64)
    octets = np.frombuffer(text, dtype=np.uint8)
    columns = []
    for _ in range(width):
        begins, ends, is_null = _bounds(octets, places)
        columns.append(_texts(text, begins, ends, is_null))
        places = ends
    return columns


def _bounds(
    octets: npt.NDArray[np.uint8], places: Places
) -> tuple[Places, Places, npt.NDArray[np.bool_]]:
    """Begins and ends of values, and which of them are NULL."""
    first = octets[places]
    begins, lengths = places + 1, first.astype(np.int64)
    is_null = first == _NULL
    lengths[is_null] = 0
    for mark, count in ((_TWO_BYTES, 2), (_THREE_BYTES, 3), (_EIGHT_BYTES, 8)):
        (long,) = np.nonzero(first == mark)
        if len(long):
            lengths[long] = 0
            for number in range(count):
                digit = octets[begins[long] + number].astype(np.int64)
                lengths[long] |= digit << (8 * number)
            begins[long] += count
    return begins, begins + lengths, is_null


def _texts(
    text: bytes, begins: Places, ends: Places, is_null: npt.NDArray[np.bool_]
) -> pa.StringArray:
    # Values and what lies between them as one array without a copy; every second one is a value.
    count = len(begins)
    offsets = np.empty(2 * count, dtype=np.int32)
    offsets[0::2], offsets[1::2] = begins, ends
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    whole = pa.Array.from_buffers(pa.string(), 2 * count - 1, buffers)
    values = whole.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int32)))
    if is_null.any():
        values = pc.if_else(pa.array(is_null), pa.scalar(None, pa.string()), values)
    return values
