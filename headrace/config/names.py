"""Names that were meant: the nearest of those that exist.

Belongs here: suggestions for a misspelt name.
Elsewhere: which names exist at a place (the modules that refuse one).
"""

import difflib
from collections.abc import Iterable

# A name of which half is right is worth showing; below that, suggestions are noise.
_CUTOFF = 0.55


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `word`, whatever its case; None where none is near.

    A word that only one name begins with is near to it, however short: `op` to `operation`.
    """
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=_CUTOFF)
    close = close or [name for name in by_lower if name.startswith(word.lower())]
    return by_lower[close[0]] if len(close) == 1 else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean amount?`, or nothing where no known name is near."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def unknown_name(word: str, known: Iterable[str]) -> str:
    """`'amuont' is not one of amount, id; did you mean amount?`."""
    names = list(known)
    return f"'{word}' is not one of {', '.join(names) or 'none'}{did_you_mean(word, names)}"
