"""What people write after --select."""

import re
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


def test_the_selections_that_the_hint_shows_reach_all_layers_up_or_down() -> None:
    layers = [["raw", "shop_orders"], ["processed", "shop_orders"], ["curated", "fact_sales"]]
    layers.append(["warehouse", "fact_sales"])

    def asset(number: int) -> dg.AssetsDefinition:
        @dg.asset(
            key=layers[number], deps=layers[number - 1 : number], group_name=layers[number][0]
        )
        def built() -> None: ...

        return built

    graph = dg.Definitions(assets=[asset(n) for n in range(len(layers))]).resolve_asset_graph()

    def selected(text: str) -> set[str]:
        keys = dg.AssetSelection.from_string(text).resolve(graph)
        return {key.path[0] for key in keys}

    with pytest.raises(ConfigError) as refused:
        run_range(lambda: dg.Definitions(assets=[asset(0)]), DAY, DAY, select="((")
    shown = re.findall(r"\((\S*\+\S*)\)", refused.value.fix)
    assert [selected(text) for text in shown] == [
        {"raw", "processed", "curated"},
        {"raw", "processed", "curated", "warehouse"},
    ]
    # Of a bare name, a plus selects one layer: the hint does not show that form.
    assert selected("+curated/fact_sales") == {"processed", "curated"}
