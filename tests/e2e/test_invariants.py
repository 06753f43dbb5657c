"""Whole runs in random histories: what readers see in between, and what is there in the end.

A failing history prints its steps; HISTORIES=50 takes fifty of them at night.
"""

import os
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from random import Random

import pytest

from tests.e2e.installation import Installation
from tests.e2e.random_histories import FIRST_DAY, LENGTH, LOADS, History
from tests.e2e.stale_shop import stale_shop

pytestmark = [pytest.mark.e2e, pytest.mark.property, pytest.mark.crash]

SHORT, LONG = 7, 14
HISTORIES = int(os.environ.get("HISTORIES", "20"))
_NIGHTLY = (pytest.param(n, LONG, marks=pytest.mark.slow) for n in range(1, HISTORIES))
_PLACES = count()


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    """All ways to load facts, in one star; each history has its own days."""
    end = FIRST_DAY + timedelta(days=LENGTH * (HISTORIES + 1))
    with stale_shop(end, LOADS) as made:
        yield made


@pytest.mark.parametrize(("seed", "steps"), [(0, SHORT), *_NIGHTLY])
def test_any_history_ends_with_the_latest_good_files(
    shop: Installation, seed: int, steps: int
) -> None:
    history = History(shop, Random(seed), next(_PLACES))  # noqa: S311  # reproducible
    try:
        history.happen(steps)
        history.finish()
        assert history.found() == history.expected()
        assert history.found_members() == history.expected_members()
        for name in LOADS:
            assert history.cities(name) == history.expected_cities(name)
    except BaseException as error:
        error.add_note("\n".join([f"seed {seed}, {steps} steps:", *history.steps]))
        raise
