"""What names of columns say of their content, in English and German."""

import re

_IDENTIFIERS = {"id", "key", "no", "nr", "number", "code", "uuid", "guid", "sku", "ean", "isbn"}
_IDENTIFIERS |= {"nummer", "kennung", "ref", "reference", "gtin", "upc", "ids", "pk"}
_LINES = {"line", "position", "pos", "seq", "sequence", "index", "zeile", "lfd", "step", "version"}
_CODES = {"zip", "zipcode", "postcode", "postal", "plz", "phone", "telephone", "tel", "mobile"}
_CODES |= {
    "fax",
    "iban",
    "bic",
    "swift",
    "ssn",
    "card",
    "vat",
    "ean",
    "isbn",
    "gtin",
    "telefon",
    "handy",
}
_TIMES = {"date", "day", "time", "timestamp", "ts", "at", "dt", "datum", "zeit", "tag", "datetime"}
_FLAGS = {"is", "has", "flag", "active", "enabled", "deleted", "valid", "ist", "aktiv"}
_BIRTH = {"birth", "birthday", "birthdate", "dob", "born", "geburtsdatum", "geburtstag"}
# A time that says since when a row is as it is, and not when what it tells happened.
_STATES = {"created", "updated", "modified", "changed", "birth", "valid", "expires", "expiry"}
_STATES |= {"until", "from", "to", "end", "ends", "due", "opened", "joined", "founded", "since"}
_STATES |= {"installed", "commissioned", "released", "manufactured"}
_STATES |= {"registered", "signup", "launched", "launch", "opening", "hired", "geboren"}
# A time that says when a row was last written, or first.
_UPDATES = ("updated", "modified", "changed", "update", "modification", "change", "geaendert")
_INSERTS = ("created", "inserted", "creation", "added", "placed", "angelegt", "erstellt")
_RATES = {"pct", "percent", "rate", "ratio", "share", "score", "lat", "lon", "latitude"}
_RATES |= {"longitude"}


def words_of(name: str) -> tuple[str, ...]:
    """The words of a lower snake case name, digits at the end of a word apart."""
    return tuple(word for word in re.split(r"_|(?<=[a-z])(?=\d)", name) if word)


def is_identifier(name: str) -> bool:
    """Whether a name says that the column identifies something."""
    words = [word for word in words_of(name) if not word.isdigit()]
    return bool(words) and (words[-1] in _IDENTIFIERS or words[0] in {"id", "nr", "no"})


def is_line(name: str) -> bool:
    """Whether a name says that the column counts lines, within a receipt say."""
    return bool({*words_of(name)} & _LINES)


def is_code(name: str) -> bool:
    """Whether digits under this name are no number: postal codes, telephone and card numbers."""
    words = {*words_of(name)}
    return bool(words & _CODES) and not words & {"count", "anzahl", "amount", "type"}


def is_time(name: str) -> bool:
    """Whether a name says that the column is a date or a time."""
    return bool({*words_of(name)} & _TIMES) or name.endswith(("date", "time", "datum"))


def is_flag(name: str) -> bool:
    """Whether a name says that the column is true or false."""
    return bool({*words_of(name)} & _FLAGS)


def is_birth(name: str) -> bool:
    """Whether a name says that the column is a day of birth."""
    return bool({*words_of(name)} & _BIRTH) or "birth" in name or "geburt" in name


def is_state(name: str) -> bool:
    """Whether a time of this name says since or until when a row is as it is."""
    words = {*words_of(name)}
    return bool(words & _STATES) or is_birth(name)


def is_update(name: str) -> bool:
    """Whether a time of this name says when a row was last changed."""
    return any(word.endswith(_UPDATES) for word in words_of(name))


def is_insert(name: str) -> bool:
    """Whether a time of this name says when a row was written first."""
    return any(word.endswith(_INSERTS) for word in words_of(name))


def is_rate(name: str) -> bool:
    """Whether a name says that the column is a share, a rate or a coordinate."""
    return bool({*words_of(name)} & _RATES)
