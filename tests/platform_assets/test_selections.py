"""What people write after --select."""

from datetime import date

import dagster as dg
import pytest

from headrace.errors import ConfigError
from jobs.backfill import run_range

DAY = date(2024, 1, 1)


@pytest.mark.parametrize("select", ["((", "", "*+", "key:", "a b", 'key:"a', "column:x", "nothing"])
def test_a_selection_that_cannot_be_read_is_an_error_with_a_hint(select: str) -> None:
    @dg.asset
    def a() -> None: ...

    with pytest.raises(ConfigError, match="--select") as refused:
        run_range(lambda: dg.Definitions(assets=[a]), DAY, DAY, select=select)
    assert "headrace status" in refused.value.fix
