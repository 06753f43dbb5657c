"""Classes of personal data, and that no report or file has their values."""

import csv
from pathlib import Path

import pytest

from headrace.assess.assessment import assess
from headrace.assess.files.folder import folder_sources
from headrace.assess.personal_data import is_card_number, is_iban, personal_data_of


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("DE89370400440532013000", True),
        ("DE89 3704 0044 0532 0130 00", True),
        ("DE88370400440532013000", False),
        ("GB29NWBK60161331926819", True),
        ("12345678901234567890", False),
    ],
)
def test_an_iban_has_the_right_check_digits(text: str, *, is_one: bool) -> None:
    assert is_iban(text) is is_one


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("4111 1111 1111 1111", True),
        ("4111111111111112", False),
        ("5500-0000-0000-0004", True),
        ("0000000000000000", False),
        ("123", False),
    ],
)
def test_a_card_number_has_the_right_check_digit(text: str, *, is_one: bool) -> None:
    assert is_card_number(text) is is_one


@pytest.mark.parametrize(
    ("name", "type_name", "values", "kind"),
    [
        ("contact", "string", ["a@example.org", "b@example.org"], "e-mail address"),
        ("email", "string", [""], "e-mail address"),
        ("last_name", "string", ["Lovelace"], "name of a person"),
        ("product_name", "string", ["Tea"], None),
        ("mobile_phone", "string", ["+49 30 1234567"], "telephone number"),
        ("source", "string", ["192.168.0.1", "2001:db8::1"], "IP address"),
        ("dob", "date", ["1990-01-01"], "date of birth"),
        ("street", "string", ["Elm 1"], "postal address"),
        ("quantity", "int", ["1", "2"], None),
    ],
)
def test_a_class_is_found_by_name_or_values(
    name: str, type_name: str, values: list[str], kind: str | None
) -> None:
    found = personal_data_of(name, type_name, dict.fromkeys(values, 1))
    assert (found.kind if found else None) == kind


def test_neither_reports_nor_configuration_have_personal_values(tmp_path: Path) -> None:
    secrets = {
        "customer_name": "Zyxwina Qwertz",
        "email": "zyxwina@canary.example",
        "phone": "+49 170 99887766",
        "iban": "DE89370400440532013000",
        "card": "4111111111111111",
        "address": "Canary Lane 12345",
        "dob": "1971-12-31",
        "ip": "203.0.113.77",
    }
    with (tmp_path / "people.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["customer_id", *secrets, "amount"])
        for number in range(60):
            rows.writerow([number, *secrets.values(), f"{number}.50"])
    (source,) = folder_sources(tmp_path)
    found = assess(source, "people", 1000)
    written = found.yaml + found.markdown + found.html
    assert [value for value in secrets.values() if value in written] == []
    assert {line.partition(": ")[0] for line in found.personal} == {f"people.{n}" for n in secrets}
