"""COPY's output by psql, in a process of its own (decisions/0047).

psycopg's loop over rows takes Python's lock, which the threads that parse, hash and write need too.
psql reads 1M rows in 0.1 s of CPU where the loop takes 0.7 to 4 s.
"""

import os
import queue
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TypeAlias

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from headrace.embedded_postgres.data_directory import programs
from headrace.errors import ConfigError
from headrace.sources.postgres.session import Session

_PIPE_BYTES = 2**20
# The word before it is in the server's language.
_STATE = re.compile(r"^.*:\s+([0-9A-Z]{5})$", re.MULTILINE)
# Of a command line's argument (Linux).
_LONGEST_STATEMENT = 100_000
_Pieces: TypeAlias = "queue.Queue[bytes | BaseException]"


def psql_command(
    session: Session, statement: sql.Composed, settings: Mapping[str, str], snapshot: str | None
) -> list[str] | None:
    """The command that prints a `copy … to stdout`, without the password; None: psql cannot.

    Args:
        session: Says how to connect.
        statement: What to run.
        settings: Of its session.
        snapshot: See HeldSnapshot.
    """
    try:
        program = programs() / "psql"
    except ConfigError:
        return None
    known = session.info.get_parameters()
    text = statement.as_string(session)
    # Other users of the machine see a command line.
    if not program.exists() or "sslpassword" in known or len(text) > _LONGEST_STATEMENT:
        return None
    known |= {"host": session.info.host, "port": str(session.info.port)}
    statements = [_assigned(name, value) for name, value in settings.items()]
    begin = ["begin isolation level repeatable read read only"]
    if snapshot is not None:
        begin.append(f"set transaction snapshot {_literal(snapshot)}")
    command = [str(program), "--no-psqlrc", "--quiet", "--no-password"]
    # Messages have the SQLSTATE alone: texts may quote rows.
    command += ["--set", "ON_ERROR_STOP=1", "--set", "VERBOSITY=sqlstate"]
    for one in ("; ".join(statements), *begin, text):
        command += ["--command", one]
    return [*command, "--dbname", make_conninfo("", **known)]


def copied_by_psql(command: list[str], password: str, size: int) -> Iterator[bytes]:
    """The output in pieces of whole rows; two are read ahead.

    Args:
        command: Of `psql_command`.
        password: Empty for none.
        size: Bytes of a piece; one row may be longer.

    Raises:
        psycopg.Error: With the SQLSTATE, as psycopg raises it.
    """
    environment = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(  # noqa: S603  # a program of the wheel
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            env=environment,
            bufsize=0,
            pipesize=_PIPE_BYTES,
            cwd=Path("/"),
        ) as process,
    ):
        pieces: _Pieces = queue.Queue(maxsize=1)
        stream = process.stdout
        reader = threading.Thread(target=_read_pieces, args=(stream, size, pieces), daemon=True)
        reader.start()
        try:
            while piece := pieces.get():
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
            if process.wait():
                messages.seek(0)
                raise _error(messages.read().decode(errors="replace"))
        finally:
            process.kill()
            while reader.is_alive():
                _discard(pieces)
                reader.join(timeout=0.01)


def _read_pieces(stream: IO[bytes], size: int, pieces: "_Pieces") -> None:
    """Queue the pieces, then an empty one; an error of this thread ends the caller, too."""
    try:
        waiting = bytearray()
        while read := stream.read(_PIPE_BYTES):
            waiting += read
            # A line feed within a value is escaped.
            end = waiting.rfind(b"\n") + 1 if len(waiting) >= size else 0
            if end:
                pieces.put(bytes(memoryview(waiting)[:end]))
                del waiting[:end]
        # Without its end, a row is a part of one: the error follows.
        if end := waiting.rfind(b"\n") + 1:
            pieces.put(bytes(memoryview(waiting)[:end]))
        pieces.put(b"")
    except BaseException as error:  # noqa: BLE001  # otherwise the rows so far would count as all
        pieces.put(error)


def _discard(pieces: "_Pieces") -> None:
    try:
        pieces.get_nowait()
    except queue.Empty:
        return


def _error(messages: str) -> psycopg.Error:
    found = _STATE.findall(messages)
    if not found:
        return psycopg.OperationalError("the connection was lost")
    try:
        return errors.lookup(found[-1])(found[-1])
    except KeyError:
        return psycopg.DatabaseError(found[-1])


def _assigned(name: str, value: str) -> str:
    return f"set {name} = {_literal(value)}"


def _literal(value: str) -> str:
    return sql.Literal(value).as_string(None).strip()
