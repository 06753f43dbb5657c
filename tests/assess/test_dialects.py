"""How text files are written is found by their bytes."""

from typing import Any

import pytest

from headrace.assess.files.text_dialect import find_dialect, find_encoding

# Two lines of greetings.
RUSSIAN = bytes.fromhex(
    "cff0e8e2e5f22c20eae0ea20e4e5ebe020f1e5e3eee4edff0af5eef0eef8ee2c20f1efe0f1e8e1ee0a"
)
_ROWS = [f"{n};{n * 2},5;Ort {n}" for n in range(1, 9)]


def options_of(*lines: str) -> dict[str, Any]:
    return find_dialect("\n".join(lines) + "\n", is_whole=True).as_format()


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        (["a,b", "1,2", "3,4"], {}),
        (["a;b;c", *_ROWS], {"delimiter": ";"}),
        (["a\tb", "1\tx, y", "2\tz, w"], {"delimiter": "\t"}),
        (["a||b", "1||2", "3||4"], {"delimiter": "||"}),
        (["sep=;", "a;b;c", *_ROWS], {"delimiter": ";", "skip_lines": 1}),
        (["Report", "", "a;b;c", *_ROWS], {"delimiter": ";", "skip_lines": 2}),
        (["a;b;c", *_ROWS, "Summe;36;"], {"delimiter": ";", "footer": "Summe;"}),
        (["a;b;c", *_ROWS, "8 rows", "end of file"], {"delimiter": ";", "footer": 2}),
        (["a;b;c", *_ROWS[:4], "# page", *_ROWS[4:]], {"delimiter": ";", "comment": "#"}),
        (_ROWS, {"delimiter": ";", "header": False}),
        (["a,b", '"1 | 2",3', '"4 | 5",6'], {}),
        (["a,b", '"x, \\"y\\"",1', '"z, \\"w\\"",2'], {"escape": "\\"}),
        (["a,,b", "1,2,3"], {"header": ["a", "column_2", "b"], "skip_lines": 1}),
        (["a,b,a", "1,2,3"], {"header": ["a", "b", "a_2"], "skip_lines": 1}),
        (["id;'name'", "'1';'a;b'", "'2';'c;d'"], {"delimiter": ";", "quote": "'"}),
        (["1;2,5;3,5", "2;3,5;4,5"], {"delimiter": ";", "header": False}),
        (["#id,b,c", "1,2,3", "4,5,6"], {}),
    ],
)
def test_options_of_the_format_are_found(lines: list[str], options: dict[str, Any]) -> None:
    assert options_of(*lines) == options


@pytest.mark.parametrize(
    "last",
    [
        ["9;1,5", "10;2,5;a;b"],  # too few and too many fields
        ["9"],  # cut off
        ["9;1,5;Total of all"],
        ['9;1,5;"two', 'lines"'],
    ],
)
def test_a_last_line_that_may_be_a_damaged_row_is_no_footer(last: list[str]) -> None:
    assert options_of("a;b;c", *_ROWS, *last) == {"delimiter": ";"}


def test_rows_that_begin_like_a_comment_are_rows() -> None:
    rows = [f"{'#' if n == 3 else ''}tag{n},{n},x" for n in range(9)]
    assert options_of("tag,n,x", *rows) == {}


def test_a_damaged_first_row_is_no_preamble() -> None:
    assert options_of("0;1,5", *_ROWS) == {"delimiter": ";", "header": False}


def test_a_row_of_names_that_begins_like_a_sum_is_no_footer() -> None:
    rows = [f"Name {n};{n};{n}" for n in range(9)]
    assert options_of("a;b;c", *rows, "Total wine;3;4") == {"delimiter": ";"}


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"a,b\n1,2\n", "utf-8"),
        ("a\nÄpfel\n".encode(), "utf-8"),
        ("\ufeffa\nÄpfel\n".encode(), "utf-8"),
        ("a\nÄpfel, Café, 5 €\n".encode("cp1252"), "cp1252"),
        ("a\nÄpfel\n".encode("utf-16"), "utf-16"),
        ("id,name\n1,abc\n".encode("utf-16-le"), "utf-16-le"),
        (RUSSIAN * 5, "cp1251"),
    ],
)
def test_the_encoding_is_found(content: bytes, encoding: str) -> None:
    assert find_encoding([content])[0] == encoding


def test_an_encoding_is_found_behind_megabytes_of_ascii() -> None:
    assert find_encoding([b"a,b\n" * 2**18, "ü\n".encode("cp1252")])[0] == "cp1252"
