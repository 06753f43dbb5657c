"""Imports pandera without hypothesis and pyspark.pandas (decisions/0039)."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

# pandera imports them for generated data and for pandas-on-Spark, neither of which is used here.
# Together they take 0.7 s of CPU, pandera without them 0.3 s.
_UNUSED = ("hypothesis", "pyspark.pandas")


@contextmanager
def _hidden(modules: Sequence[str]) -> Iterator[None]:
    """Make imports of modules that are not loaded yet raise ImportError."""
    hidden = [name for name in modules if name not in sys.modules]
    # The import system takes None for a module that does not exist.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden(_UNUSED):
    import pandera.pandas as pandera

    # Imported here, too: pandera would import it with the first data frame, without hiding modules.
    import_module("pandera.backends.pandas.builtin_checks")

__all__ = ["pandera"]
