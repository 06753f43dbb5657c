"""Paths that are taken without a parser are those that the parser takes."""

import jsonpath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.sources.json_paths import json_path, single_json_path

_STEPS = st.lists(
    st.sampled_from(
        [".a", "._b1", "[0]", "[12]", "[01]", "[*]", ".*", ".1", "[-1]", "..c", " ", "é"]
    ),
    max_size=4,
)


def _takes(text: str) -> tuple[bool, bool]:
    """Whether the parser takes a path, and whether as one of a single value."""
    try:
        path = jsonpath.compile(text, strict=True)
    except jsonpath.JSONPathError:
        return False, False
    return True, isinstance(path, jsonpath.JSONPath) and path.singular_query()


@given(steps=_STEPS)
def test_a_path_is_taken_as_the_parser_takes_it(steps: list[str]) -> None:
    text = "$" + "".join(steps)
    for check, is_taken in zip((json_path, single_json_path), _takes(text), strict=True):
        if is_taken:
            assert check(text) == text
        else:
            with pytest.raises(ValueError, match=r"JSONPath|must name one value"):
                check(text)
