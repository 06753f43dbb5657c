"""pandera, imported without what it would import and nothing here uses.

Belongs here: the import. Elsewhere: what is done with it (headrace.quality.frames).
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

# For data made up from a schema, and for pandas' interface to PySpark: together they take twice as
# long as all the rest (0.35 s of each command that publishes).
_UNUSED = ("hypothesis", "pyspark.pandas")


@contextmanager
def _unseen(modules: Sequence[str]) -> Iterator[None]:
    """Let imports do without modules that nobody imported yet."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not to be found
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _unseen(_UNUSED):
    import pandera.pandas as pandera

    # It would import this with the first frame.
    import_module("pandera.backends.pandas.builtin_checks")

__all__ = ["pandera"]
