"""The data directory outside the home, for a server whose account cannot enter the home."""

import hashlib
import logging
import os
import pwd
import shutil
import stat
from pathlib import Path

from headrace.errors import ConfigError

ROOT = Path("/var/lib/headrace")

# Not structlog, which prints to stdout by default: shells evaluate the output of `headrace env`.
_log = logging.getLogger(__name__)
_ANYBODY_ENTERS = stat.S_IRWXU | stat.S_IXGRP | stat.S_IXOTH


def closed_folder(path: Path, account: pwd.struct_passwd) -> Path | None:
    """The first folder on the way to `path` that an account cannot enter; None if there is none."""
    for folder in (*reversed(path.parents), path):
        found = folder.stat()
        if found.st_uid == account.pw_uid:
            allowed = stat.S_IXUSR
        elif found.st_gid == account.pw_gid:
            allowed = stat.S_IXGRP
        else:
            allowed = stat.S_IXOTH
        if not found.st_mode & allowed:
            return folder
    return None


def data_directory(folder: Path) -> Path:
    """The data directory of a folder's server: in the folder, or the target of its link."""
    inside = folder / "data"
    return inside.resolve() if inside.is_symlink() else inside


def outside_folder(folder: Path) -> Path:
    """The folder outside the home for the server of the home's `folder`; unique for each home."""
    return ROOT / hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]


def require_link_target(folder: Path) -> None:
    """Check that the folder's link to an outside data directory, if there is one, has a target.

    Raises:
        ConfigError: The target does not exist, for example because its container was removed.
    """
    inside = folder / "data"
    if inside.is_symlink() and not inside.resolve().parent.is_dir():
        raise ConfigError(
            f"the database of {folder} was in {inside.resolve()}, which does not exist",
            fix="restore it, or remove the whole home; a home that must outlive its container has "
            "to be in a folder that all users can enter",
        )


def move_out(folder: Path, closed: Path) -> Path:
    """Create the outside folder of a new server and a link to it; returns the data directory.

    Raises:
        ConfigError: The outside folder cannot be created.
    """
    outside = outside_folder(folder)
    _make_open(outside, closed)
    (folder / "data").symlink_to(outside / "data")
    _log.warning(
        "PostgreSQL does not run as root, and no other user can enter %s: the database of %s is "
        "in %s. Remove both together.",
        closed,
        folder.parent,
        outside,
    )
    return outside / "data"


def reachable_programs(programs: Path, account: pwd.struct_passwd) -> Path:
    """The folder of PostgreSQL's programs, or of a copy that the account can execute."""
    closed = closed_folder(programs, account)
    if closed is None:
        return programs
    wheel = programs.parents[2]
    package, found = programs.parents[1].name, (programs / "postgres").stat()
    stamp = f"{programs}:{found.st_size}:{found.st_mtime_ns}"
    copy = ROOT / f"programs-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    if not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        _make_open(unfinished, closed)
        # The programs find their libraries beside the package, as in the wheel.
        for part in (programs.parent.relative_to(wheel), Path(f"{package}.libs")):
            if (wheel / part).exists():
                shutil.copytree(wheel / part, unfinished / part, symlinks=True)
        try:
            unfinished.rename(copy)
        except OSError:  # Another process has created it.
            shutil.rmtree(unfinished)
    return copy / programs.relative_to(wheel)


def _make_open(outside: Path, closed: Path) -> None:
    """Create a folder below ROOT that every account can enter."""
    try:
        for folder in (ROOT, outside):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(_ANYBODY_ENTERS)
    except OSError as error:
        raise ConfigError(
            f"PostgreSQL does not run as root, no other user can enter {closed}, and {outside} "
            f"cannot be created: {error.strerror}",
            fix=f"chmod o+x {closed}, set HEADRACE_HOME to a folder open to all users, "
            "or run as a user other than root",
        ) from error
