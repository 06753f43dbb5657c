"""Classes of personal data in a column, by its name and by its values."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from headrace.assess.name_words import is_birth, words_of

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_PHONE = re.compile(r"\+?[\d(][\d ()/.\-]{6,18}\d")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_CARD = re.compile(r"\d{13,19}")
_NAMES = {"firstname", "lastname", "surname", "forename", "vorname", "nachname", "fullname"}
_NAMES |= {"givenname", "familyname"}
_PERSONS = {"first", "last", "full", "given", "family", "customer", "contact", "person", "employee"}
_PERSONS |= {
    "user",
    "holder",
    "recipient",
    "kunde",
    "kunden",
    "patient",
    "guest",
    "member",
    "maiden",
}
_ADDRESS = {"address", "street", "adresse", "strasse", "addr", "hausnummer"}
_CARD_LENGTHS = range(13, 20)
# So many of the values say it where the name does not.
_SURE, _LIKELY = 0.8, 0.3


@dataclass(frozen=True)
class PersonalData:
    """A class of personal data, and why a column has it."""

    kind: str
    evidence: str


def is_iban(text: str) -> bool:
    """Whether a text is an IBAN with the right check digits (ISO 13616: modulo 97 is 1)."""
    bare = text.replace(" ", "").upper()
    if not _IBAN.fullmatch(bare):
        return False
    return int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 == 1


def is_card_number(text: str) -> bool:
    """Whether a text is a payment card's number: 13 to 19 digits with Luhn's check digit."""
    bare = text.replace(" ", "").replace("-", "")
    if not _CARD.fullmatch(bare) or len({*bare}) == 1:
        return False
    digits = [int(c) for c in bare[::-1]]
    return (sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])) % 10 == 0


def _is_ip(text: str) -> bool:
    if not re.fullmatch(r"\d+\.\d+\.\d+\.\d+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+", text):
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_phone(text: str) -> bool:
    digits = sum(c.isdigit() for c in text)
    return _PHONE.fullmatch(text) is not None and 7 <= digits <= 15  # noqa: PLR2004


# The check, and words of a name that say the same.
_CHECKS: Mapping[str, tuple[Callable[[str], bool], frozenset[str]]] = {
    "e-mail address": (
        lambda text: _EMAIL.fullmatch(text) is not None,
        frozenset({"email", "mail", "e"}),
    ),
    "IBAN": (is_iban, frozenset({"iban"})),
    "payment card number": (is_card_number, frozenset({"card", "cc", "pan", "kreditkarte"})),
    "IP address": (_is_ip, frozenset({"ip"})),
}


def personal_data_of(name: str, type_name: str, values: Mapping[str, int]) -> PersonalData | None:
    """The class of personal data of a column; None if nothing speaks for one.

    Args:
        name: Its name, lower snake case.
        type_name: Its type once processed.
        values: Values as text and their rows.
    """
    words = {*words_of(name)}
    total = len(values) or 1
    for kind, (check, named) in _CHECKS.items():
        share = sum(map(check, values)) / total
        if share >= _SURE or (share >= _LIKELY and words & named):
            return PersonalData(kind, f"{share:.0%} of the values are one")
    if type_name in {"string", "bigint"}:
        share = sum(map(_is_phone, values)) / total
        if words & {"phone", "telephone", "tel", "mobile", "fax", "telefon", "handy"} and share > 0:
            return PersonalData("telephone number", f"the name, and {share:.0%} of the values")
    if is_birth(name) and type_name in {"date", "timestamp", "string"}:
        return PersonalData("date of birth", "the name")
    if type_name == "string":
        return _by_name(words)
    return None


def _by_name(words: set[str]) -> PersonalData | None:
    if ("name" in words and words & _PERSONS) or words & _NAMES:
        return PersonalData("name of a person", "the name")
    if words & _ADDRESS and not words & {"ip", "email", "mail", "id"}:
        return PersonalData("postal address", "the name")
    if "email" in words or {"e", "mail"} <= words:
        return PersonalData("e-mail address", "the name")
    return None
