r"""Unicode normalization of texts as column expressions: NFC, invisible characters, case folding.

Neither engine has NFC. This module composes by a table of characters and their combining marks,
which lacks conjoining jamo (Hangul in single letters) and CJK compatibility forms.
"""

import unicodedata
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from pyspark.sql import Column
from pyspark.sql import functions as F

_PLAIN = r"^[ -~]*\z"
# Default ignorable code points, and control characters except tab and line ends.
_INVISIBLE = (
    "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_OTHER_BLANKS = "[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
# The last character, except Hangul and CJK, with a decomposition into two.
_LAST_CHARACTER = 0x30FF
# Singletons, which decompose into one other character, and their canonical forms.
_SINGLETONS = "\u212b\u2126\u212a\u0340\u0341\u0343\u0374\u037e\u0387\u1fef"
_SINGLETONS_COMPOSED = "".join(unicodedata.normalize("NFC", one) for one in _SINGLETONS)
# Delimiters of the table: around an entry, and between a sequence and its composed form.
_AROUND, _BETWEEN = "\x01", "\x02"
# Canonical combining class of marks above a character; lower classes come first.
_ABOVE = 230
# Grave to caron: with these, sequences of a mark below and one above are in the table.
_FREQUENT_MARKS = 12
_SIGMAS = "\u03c2\u03c3"  # Final sigma, and the sigma elsewhere in a word.


def normalized(text: Column, forms: Collection[str]) -> Column:
    """Normalize a text; plain ASCII, the most frequent case, passes unchanged.

    Args:
        text: Any text.
        forms: `nfc`: composed characters. `strip_invisible`: no zero-width and control characters,
            and a space for every kind of blank. `casefold`: lower case, with `ss` for `ß`.
    """
    if not forms:
        return text
    cleaned = text
    if "strip_invisible" in forms:
        cleaned = F.regexp_replace(F.regexp_replace(cleaned, _INVISIBLE, ""), _OTHER_BLANKS, " ")
    if "nfc" in forms:
        cleaned = _composed(F.translate(cleaned, _SINGLETONS, _SINGLETONS_COMPOSED))
    found = F.when(text.rlike(_PLAIN), text).otherwise(cleaned)
    if "casefold" in forms:
        # Upper case first, because it expands ß and ligatures. Lower case writes a final sigma at
        # the end of a word.
        found = F.translate(F.lower(F.upper(found)), *_SIGMAS)
    return found


def pushdown_barrier(text: Column) -> Column:
    """The unchanged text, as an expression below which no engine pushes a filter.

    Sail 0.7 loses the columns of a lambda in a filter that it pushes down
    (`No field named "?table?"`), and `normalized` has a lambda. Engines do not push filters below
    a random expression.
    """
    return F.when(F.rand() >= 0, text)


def _composed(text: Column) -> Column:
    table, marks = _table()
    above, below = _marks_by_place(marks)
    in_order = F.regexp_replace(text, f"([{above}]+)([{below}]+)", "$2$1")
    characters = F.regexp_extract_all(in_order, F.lit(f"(?s).[{marks}]*"), F.lit(0))
    composed = F.array_join(F.transform(characters, lambda one: _looked_up(one, table)), "")
    return F.when(text.rlike(f"[{marks}]"), composed).otherwise(text)


def _looked_up(text: Column, table: str) -> Column:
    """The composed form of a character with its marks; unchanged if the table lacks it."""
    # The searched text is prepended as an entry that maps to itself, and the last entry wins. This
    # avoids a CASE, which takes milliseconds to plan in a lambda.
    around, between = F.lit(_AROUND), F.lit(_BETWEEN)
    entries = F.concat(around, text, between, text, F.lit(table))
    found = F.call_function("substring_index", entries, F.concat(around, text, between), F.lit(-1))
    return F.substring_index(found, _AROUND, 1)


@cache
def _table() -> tuple[str, str]:
    """The table of sequences and their composed forms, and all combining marks.

    A character has an entry for each of its fully or partly decomposed sequences.
    """
    pairs = {
        pair: composed for code in range(_LAST_CHARACTER) if (pair := _pair(composed := chr(code)))
    }
    marks = "".join(sorted({pair[1] for pair in pairs}))
    above = [mark for mark in marks[:_FREQUENT_MARKS] if unicodedata.combining(mark) == _ABOVE]
    texts = dict.fromkeys(pairs)
    for composed in pairs.values():
        texts |= dict.fromkeys(_partly_composed(composed, pairs))
    # A character with a mark below and one above, as in Yoruba, composes with the mark below alone.
    below = [pair for pair in pairs if 0 < unicodedata.combining(pair[1]) < _ABOVE]
    texts |= dict.fromkeys(pair + mark for pair in below for mark in above)
    entries = (f"{_AROUND}{text}{_BETWEEN}{unicodedata.normalize('NFC', text)}" for text in texts)
    return "".join((*entries, _AROUND)), marks


def _pair(composed: str) -> str | None:
    """The base character and mark of a composed character; None if it has no such pair."""
    parts = unicodedata.decomposition(composed).split()
    if len(parts) != 2 or parts[0].startswith("<"):  # noqa: PLR2004
        return None
    pair = "".join(chr(int(part, 16)) for part in parts)
    return pair if unicodedata.normalize("NFC", pair) == composed else None


def _partly_composed(composed: str, pairs: Mapping[str, str]) -> Iterator[str]:
    """The sequences that are canonically equivalent to a character, less decomposed ones first."""
    text = composed
    while (pair := _pair(text[0])) in pairs:
        text = f"{pair}{text[1:]}"
        yield text


def _marks_by_place(marks: str) -> tuple[str, str]:
    """Marks above a character, and marks with a lower combining class, which come before them."""
    above = [mark for mark in marks if unicodedata.combining(mark) == _ABOVE]
    below = [mark for mark in marks if 0 < unicodedata.combining(mark) < _ABOVE]
    return "".join(above), "".join(below)
