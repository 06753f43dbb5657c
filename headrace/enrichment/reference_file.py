"""Files of the configuration's folder, parsed once while they are unchanged."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from headrace.errors import ConfigError

T = TypeVar("T")
# By path and parser: the file's identity, and what was parsed.
_PARSED: dict[tuple[Path, str], tuple[tuple[int, int], object]] = {}


def parsed(path: Path, parse: Callable[[Path], T]) -> T:
    """What a parser makes of a file.

    Raises:
        ConfigError: There is no such file, or the parser refuses it.
    """
    try:
        stat = path.stat()
        identity = stat.st_mtime_ns, stat.st_size
        known = _PARSED.get((path, parse.__qualname__))
        if known is None or known[0] != identity:
            known = identity, parse(path)
            _PARSED[path, parse.__qualname__] = known
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}",
            fix="paths are relative to the configuration's folder",
        ) from None
    return known[1]  # type: ignore[return-value]
