"""Whether a warm process may be used, and whether one that is there fits.

Belongs here: when there is one at all, and the stamp of all that it took in when it started.
Elsewhere: talking to it (headrace.warm.client).

Of the standard library, and little of that: each command imports this first.
"""

import hashlib
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

MINUTES = "HEADRACE_WARM_MINUTES"
_DEFAULT_MINUTES = 15.0
# Longer than any command needs: `dev` stays for hours and starts others, `stop` ends this.
_BY_THEMSELVES = {"dev", "stop"}
_PACKAGES = ("headrace", "resources", "io_managers", "platform_assets", "sensors", "jobs", "demo")
# Variables that Python, the loader and libraries look at once, as they start.
_READ_AT_IMPORT = (
    *("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OPENBLAS_", "OMP_", "MKL_", "NUMEXPR_"),
    *("ARROW_", "JE_ARROW_", "MIMALLOC_", "GRPC_", "PROTOCOL_BUFFERS_", "RUST_", "SAIL_"),
    *("SPARK_", "PYSPARK_"),
    *("DAGSTER_", "DBT_", "PYDANTIC_", "PANDERA_", "PYICEBERG_", "SQLALCHEMY_", "OPENSSL_", "SSL_"),
    *("TYPER_", "_TYPER_", "TERMINAL_WIDTH", "HYPOTHESIS_", "DISABLE_SQLALCHEMY_"),
)
_LIMITS = ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE")
_SPACES = ("mnt", "net", "pid", "user")


def minutes(environ: Mapping[str, str]) -> float:
    """How long an idle warm process stays; 0: there is none.

    HEADRACE_WARM_MINUTES says so. Without it: 15 in development, none where the platform runs for
    others, in CI, and where forking is not sound or a caller cannot be known (not Linux).
    """
    if sys.platform != "linux":
        return 0.0
    configured = environ.get(MINUTES)
    if configured is not None:
        try:
            return max(0.0, float(configured))
        except ValueError:
            return 0.0
    is_shared = environ.get("PIPELINE_ENV", "development") not in ("", "development")
    return 0.0 if is_shared or environ.get("CI") else _DEFAULT_MINUTES


def may_run_warm(arguments: list[str]) -> bool:
    """Whether a command of these words gains from it: not the ones that only print help."""
    if not arguments or arguments[0].startswith("-") or arguments[0] in _BY_THEMSELVES:
        return False
    return "--help" not in arguments


def home(environ: Mapping[str, str]) -> Path:
    """HEADRACE_HOME, as headrace.config.loading has it."""
    return Path(environ.get("HEADRACE_HOME") or ".headrace").absolute()


def stamp(environ: Mapping[str, str], home_folder: Path) -> str:
    """A hash of all that a process takes in as it starts: it fits where the hash is the same.

    Python, its packages and our code (paths, sizes, times of change), the user, limits, name
    spaces, and the variables that libraries read once. One way: no value can be read from it.
    """
    content = hashlib.sha256()
    for part in (str(home_folder), *_parts(environ)):
        content.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return content.hexdigest()


def _parts(environ: Mapping[str, str]) -> Iterator[str]:
    yield f"{sys.executable} {sys.version} {sys.warnoptions}"
    yield f"{os.getresuid()} {os.getresgid()} {sorted(os.getgroups())} {os.getpriority(0, 0)}"
    yield f"{sorted(os.sched_getaffinity(0))}"
    for limit in _LIMITS:
        yield f"{limit} {resource.getrlimit(getattr(resource, limit))}"
    for space in _SPACES:
        yield os.readlink(f"/proc/self/ns/{space}")  # noqa: PTH115  # pathlib adds nothing here
    for name in sorted(environ):
        if name.startswith(_READ_AT_IMPORT):
            yield f"{name}={environ[name]}"
    for folder in sys.path:
        if folder.endswith("site-packages"):
            yield f"{folder} {_changed(folder)}"
    root = Path(__file__).parents[2]
    for package in _PACKAGES:
        yield from _files(str(root / package))


def _files(folder: str) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name == "__pycache__":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        else:
            found = entry.stat()
            yield f"{entry.path} {found.st_size} {found.st_mtime_ns}"


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  # pathlib is not imported for this
    except FileNotFoundError:
        return 0
