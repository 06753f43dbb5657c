"""MariaDB of the distribution (mariadb-server), on a free local port and gone at the end."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql

_START_SECONDS = 60.0
_SBIN = "/usr/sbin:/usr/local/sbin"
# A server that tests throw away need not wait for the disk.
_SETTINGS = (
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--performance-schema=off",
    "--default-time-zone=-03:30",
    "--max-allowed-packet=64M",
)


@dataclass
class MariaDB:
    """A server with an empty database `shop`.

    Attributes:
        folder: Its data, socket and log.
        port: Of 127.0.0.1.
        settings: Further options of its command line.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    settings: tuple[str, ...] = ()

    def url(self, user: str = "root", password: str = "", database: str = "shop") -> str:
        """The URL of a connection."""
        secret = f":{password}" if password else ""
        return f"mysql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str | None = "shop") -> pymysql.Connection:
        """A session of the administrator, which commits each statement, in UTC."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="root",
            database=database,
            autocommit=True,
            init_command="set time_zone = '+00:00', sql_mode = ''",
        )

    def restart(self) -> None:
        """End the server, which ends all sessions, and start it again with its data."""
        self.process.terminate()
        self.process.wait()
        self.process = _start(self.folder, self.port, self.settings)


def missing() -> str | None:
    """Why MariaDB cannot run here; None if it can."""
    if _path("mariadbd") and _path("mariadb-install-db"):
        return None
    return "MariaDB is missing: install Debian's mariadb-server"


@contextmanager
def running(folder: Path, *settings: str) -> Iterator[MariaDB]:
    """Start a server whose files are in `folder`, which other accounts may enter; end it."""
    data = folder / "data"
    data.mkdir()
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, _account())
    install = [str(_path("mariadb-install-db")), "--no-defaults", f"--datadir={data}"]
    install += ["--auth-root-authentication-method=normal", "--skip-test-db", *_user()]
    done = subprocess.run(install, capture_output=True, check=False, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"mariadb-install-db failed: {done.stdout.decode()[-2000:]}")
    port = _free_port()
    server = MariaDB(folder, port, _start(folder, port, settings), settings)
    try:
        with server.connect(None) as session, session.cursor() as cursor:
            cursor.execute("create database shop character set utf8mb4")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def _start(folder: Path, port: int, settings: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [str(_path("mariadbd")), "--no-defaults", f"--datadir={folder / 'data'}"]
    command += [f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"]
    command += [f"--port={port}", "--bind-address=127.0.0.1", *_SETTINGS, *settings, *_user()]
    # InnoDB says when transactions began in the time of the machine: nothing may depend on it.
    environment = {**os.environ, "TZ": "Asia/Kathmandu"}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        _await(process, folder, port)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def _await(process: subprocess.Popen[bytes], folder: Path, port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            session = pymysql.connect(host="127.0.0.1", port=port, user="root")
        except pymysql.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                log = (folder / "log").read_text()[-2000:]
                raise RuntimeError(f"MariaDB did not start: {log}") from None
            time.sleep(0.05)
            continue
        with session, session.cursor() as cursor:
            cursor.execute("select @@datadir")
            ((found,),) = cursor.fetchall()
        # Another server may listen on the port.
        assert Path(found) == folder / "data"
        return


def _path(command: str) -> str | None:
    return shutil.which(command) or shutil.which(command, path=_SBIN)


def _user() -> list[str]:
    return [f"--user={_account()}"] if os.getuid() == 0 else []


def _account() -> str:
    return "mysql"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
