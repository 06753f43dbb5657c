"""Options of a column, and the types that use them."""

import pytest
from pydantic import ValidationError

from headrace.config.entities.columns import ColumnConfig
from tests.standardize.captured import entity

REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "formats of a text": (
        {"type": "string", "formats": ["yyyy"]},
        "formats: is for date, timestamp, timestamptz, not for string",
    ),
    "a text's decimal mark": ({"type": "string", "decimal_mark": "."}, "decimal_mark: is for int"),
    "a boolean's currency": (
        {"type": "boolean", "currency": "$"},
        "currency: is for .*, not for boolean",
    ),
    "a date's grouping": ({"type": "date", "grouping": ","}, "grouping: is for .*, not for date"),
    "a rounded double": (
        {"type": "double", "round": "half_up"},
        "round: is for .*, not for double",
    ),
    "an int's pivot": ({"type": "int", "pivot": 1970}, "pivot: is for .*, not for int"),
    "a list": ({"type": "list<string>"}, "cannot be read from one text"),
    "a digit between digits": ({"type": "int", "grouping": "0"}, "cannot stand between"),
    "a letter between digits": ({"type": "int", "grouping": "x"}, "cannot stand between"),
    "one mark for two": (
        {"type": "double", "grouping": ",", "decimal_mark": ","},
        "is the decimal_mark too",
    ),
    "a currency of digits": ({"type": "int", "currency": "1"}, "cannot be told from the number"),
    "a currency that is a mark": ({"type": "int", "currency": "."}, "cannot be told"),
    "groups of nothing": ({"type": "int", "group_sizes": [3, 0]}, "from 1 to 9"),
    "a decimal rounded down": ({"type": "decimal(5,2)", "round": "down"}, "rounded half_up"),
    "a time rounded up": ({"type": "timestamp", "round": "half_up"}, "truncated to microseconds"),
    "a year of two digits": ({"type": "date", "formats": ["dd/MM/yy"]}, "such as pivot: 1970"),
    "a pivot for nothing": (
        {"type": "date", "formats": ["dd/MM/yyyy"], "pivot": 1970},
        "formats with a year of two digits",
    ),
    "another dialect's pattern": (
        {"type": "date", "formats": ["YYYY-MM-DD"]},
        "unknown letters 'YYYY': write yyyy-MM-dd",
    ),
    "strftime's pattern": ({"type": "date", "formats": ["%Y-%m-%d"]}, "write yyyy-MM-dd"),
    "an end before the start": (
        {"type": "int", "since": "2024-02-01", "until": "2024-01-01"},
        "until: 2024-01-01 does not lie after since, 2024-02-01",
    ),
    "a default for nothing": ({"type": "int", "default": 0}, "default: is for a column that a"),
    "a name twice": ({"type": "int", "from": ["a", "a"]}, "a list of different names"),
    "no name": ({"type": "int", "from": []}, "a list of different names"),
    **{
        f"{text} as default of a {kind}": (
            {"type": kind, "optional": True, "default": text},
            "default: '.*' is not a ",
        )
        for kind, text in [
            ("int", "1.5"),
            ("int", 2**31),
            ("bigint", "1_000"),
            ("boolean", "yes"),
            ("double", "inf"),
            ("decimal(5,2)", "1.234"),
            ("decimal(5,2)", "1000"),
            ("decimal(5,2)", "NaN"),
            ("date", "31.12.2024"),
            ("date", "2024-02-30"),
            ("timestamp", "2024-01-01T00:00:00Z"),
            ("timestamp", "20240101T000000"),
            ("string", ""),
        ]
    },
    "a zone without an instant": (
        {"type": "timestamp", "formats": ["yyyy-MM-dd HH:mm XXX"]},
        "make the column a timestamptz",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_that_cannot_be_used_is_refused(name: str) -> None:
    declared, why = REFUSED[name]
    with pytest.raises(ValidationError, match=why):
        ColumnConfig.model_validate({"name": "weight", **declared})


def test_every_problem_of_a_column_is_named_at_once() -> None:
    with pytest.raises(ValidationError, match=r"grouping: is for.*currency: is for"):
        ColumnConfig.model_validate(
            {"name": "weight", "type": "string", "grouping": ",", "currency": "$"}
        )


@pytest.mark.parametrize(
    "declared",
    [
        {"type": "double", "decimal_mark": ",", "grouping": "."},
        {"type": "int", "currency": "Stk", "grouping": "."},
        {"type": "decimal(12,2)", "round": "half_up", "grouping": " "},
        {"type": "date", "formats": ["dd/MM/yy", "dd/MM/yyyy"], "pivot": 1930},
        {"type": "timestamptz", "round": "down"},
        {"type": "string", "grouping": ""},
        {"type": "string", "since": "2024-01-03", "from": ["old", "new"], "default": "web"},
        {"type": "decimal(5,5)", "optional": True, "default": 0},
        {"type": "decimal(5,2)", "optional": True, "default": 999.99},
        {"type": "boolean", "optional": True, "default": False},
        {"type": "date", "until": "2024-01-03", "default": "2024-01-01"},
        {"type": "timestamptz", "optional": True, "default": "2024-01-01T00:00:00+02:00"},
    ],
    ids=str,
)
def test_an_option_that_the_type_uses_is_accepted(declared: dict[str, object]) -> None:
    ColumnConfig.model_validate({"name": "weight", **declared})


def test_rules_for_clock_changes_are_for_instants_of_an_entity_with_a_zone() -> None:
    sold_at = {"name": "sold_at", "type": "timestamptz", "ambiguous": "later"}
    assert entity(sold_at, timezone="Europe/Berlin").columns[1].ambiguous == "later"
    with pytest.raises(ValidationError, match=r"columns\[1\]\.ambiguous: is for local times"):
        entity(sold_at)
    with pytest.raises(ValidationError, match="nonexistent: is for timestamptz, not for date"):
        entity({"name": "day", "type": "date", "nonexistent": "shift_forward"}, timezone="UTC")
