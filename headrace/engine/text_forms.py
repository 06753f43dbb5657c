r"""Texts that look equal made equal: composed, without invisible characters, without case.

Neither engine has NFC. Composition here is by a table of characters with their marks, which leaves
out Hangul that is written in single letters (conjoining jamo) and CJK compatibility forms.
"""

import unicodedata
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from pyspark.sql import Column
from pyspark.sql import functions as F

_PLAIN = r"^[ -~]*\z"
# Default ignorable code points, and control characters but tab and line ends.
_INVISIBLE = (
    "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_OTHER_BLANKS = "[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"
# The last character, but Hangul and CJK, that has a decomposition into two.
_LAST_CHARACTER = 0x30FF
# Single characters and what they are by definition.
_TWINS = "\u212b\u2126\u212a\u0340\u0341\u0343\u0374\u037e\u0387\u1fef"
_TWINS_OF = "".join(unicodedata.normalize("NFC", twin) for twin in _TWINS)
# Around an entry of the table, and between a text and what it is composed to.
_AROUND, _BETWEEN = "\x01", "\x02"
# Canonical place of marks above a character; those of lower ones come before them.
_ABOVE = 230
_SIGMAS = "\u03c2\u03c3"  # At the end of a word, and elsewhere.


def normalized(text: Column, forms: Collection[str]) -> Column:
    """The text in the forms that are asked for; most texts are plain ASCII and stay as they are.

    Args:
        text: Any text.
        forms: `nfc`: composed characters. `strip_invisible`: no zero-width and control characters,
            and every kind of blank a space. `casefold`: in lower case, `ß` being `ss`.
    """
    if not forms:
        return text
    odd = text
    if "strip_invisible" in forms:
        odd = F.regexp_replace(F.regexp_replace(odd, _INVISIBLE, ""), _OTHER_BLANKS, " ")
    if "nfc" in forms:
        odd = _composed(F.translate(odd, _TWINS, _TWINS_OF))
    found = F.when(text.rlike(_PLAIN), text).otherwise(odd)
    if "casefold" in forms:
        # Upper case first: it spells out ß and ligatures. At the end of a word the engines write
        # another sigma.
        found = F.translate(F.lower(F.upper(found)), *_SIGMAS)
    return found


def opaque(text: Column) -> Column:
    """The text as it is, but no filter is moved below it.

    Sail 0.7 loses the columns of a lambda in a filter that it moves (`No field named "?table?"`),
    and `normalized` has one. No engine moves what is random.
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
    """What a character with its marks is composed to; itself if it is in no entry of the table."""
    # An entry of its own before all others, and the last one counts: each CASE of a lambda takes
    # milliseconds to plan.
    around, between = F.lit(_AROUND), F.lit(_BETWEEN)
    entries = F.concat(around, text, between, text, F.lit(table))
    found = F.call_function("substring_index", entries, F.concat(around, text, between), F.lit(-1))
    return F.substring_index(found, _AROUND, 1)


@cache
def _table() -> tuple[str, str]:
    """Entries of a character with marks and its composed form, and all marks.

    Characters are there in each form that is not composed, whole or in part.
    """
    pairs = {
        pair: composed for code in range(_LAST_CHARACTER) if (pair := _pair(composed := chr(code)))
    }
    marks = "".join(sorted({pair[1] for pair in pairs}))
    above = [mark for mark in marks[:12] if unicodedata.combining(mark) == _ABOVE]
    texts = dict.fromkeys(pairs)
    for composed in pairs.values():
        texts |= dict.fromkeys(_partly_composed(composed, pairs))
    # A mark above one that is composed already, as Yoruba has it, stays as it is.
    below = [pair for pair in pairs if 0 < unicodedata.combining(pair[1]) < _ABOVE]
    texts |= dict.fromkeys(pair + mark for pair in below for mark in above)
    entries = (f"{_AROUND}{text}{_BETWEEN}{unicodedata.normalize('NFC', text)}" for text in texts)
    return "".join((*entries, _AROUND)), marks


def _pair(composed: str) -> str | None:
    """The character and the mark that it is composed of; None if it is of none."""
    parts = unicodedata.decomposition(composed).split()
    if len(parts) != 2 or parts[0].startswith("<"):  # noqa: PLR2004
        return None
    pair = "".join(chr(int(part, 16)) for part in parts)
    return pair if unicodedata.normalize("NFC", pair) == composed else None


def _partly_composed(composed: str, pairs: Mapping[str, str]) -> Iterator[str]:
    """Every text that means the character, the longer the less composed."""
    text = composed
    while (pair := _pair(text[0])) in pairs:
        text = f"{pair}{text[1:]}"
        yield text


def _marks_by_place(marks: str) -> tuple[str, str]:
    """Those above a character, and those that canonical order puts before them."""
    above = [mark for mark in marks if unicodedata.combining(mark) == _ABOVE]
    below = [mark for mark in marks if 0 < unicodedata.combining(mark) < _ABOVE]
    return "".join(above), "".join(below)
