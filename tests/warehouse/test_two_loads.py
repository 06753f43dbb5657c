"""Two processes load the same tables at once: one waits for the other, and both end right."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from headrace.warehouse.sessions import Session
from tests.warehouse.sales import published, staging_tables
from tests.warehouse.test_visibility import polling

ROOT = Path(__file__).parents[2]
LOADS = 5

# A member and its sales, time and again; the member's brand is the sales' amount.
LOADER = """
import sys
from headrace.warehouse.warehouse import Warehouse
from headrace.warehouse.sessions import connection_factory
from tests.warehouse.sales import FACT, PRODUCT, arrow, day, sale, stage

url, first, loads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
warehouse = Warehouse(connection_factory(url))
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + loads):
    amount = f"{number}.00"
    rows = {on: [sale(on, 1, amount)] * 3 for on in (day(0), day(40))}
    member = arrow(PRODUCT, [{"product_key": 1, "brand": amount}])
    warehouse.publish(
        [stage(warehouse, rows), warehouse.stage(PRODUCT, (), [((), member.to_reader())])]
    )
"""
STATE = """
select
    (select max(brand)::numeric from warehouse.dim_product),
    (select sum(amount) / 6 from warehouse.fact_sales),
    (select count(*) from warehouse.fact_sales)
"""


def start(url: str, first: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", LOADER, url, str(first), str(LOADS)]
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def go(loaders: Sequence[subprocess.Popen[str]]) -> list[tuple[str, int]]:
    """Let loaders begin at the same time; what each wrote on stderr, and its exit code."""
    for loader in loaders:
        assert loader.stdout is not None
        assert loader.stdout.readline() == "ready\n"
    for loader in loaders:
        assert loader.stdin is not None
        loader.stdin.write("go\n")
        loader.stdin.flush()
    with ThreadPoolExecutor(len(loaders)) as pool:
        written = pool.map(lambda loader: loader.communicate(timeout=120)[1], loaders)
        return [(text, loader.returncode) for text, loader in zip(written, loaders, strict=True)]


@pytest.mark.crash
def test_two_processes_that_load_at_once_take_turns(url: str, session: Session) -> None:
    firsts = (100, 200)
    loaders = [start(url, first) for first in firsts]
    later = [start(url, first + LOADS) for first in firsts]
    # The tables are not there yet: both find them missing, and one of them makes them.
    assert go(loaders) == [("", 0), ("", 0)]
    with polling(url, STATE) as seen:
        assert go(later) == [("", 0), ("", 0)]
    assert {rows for _, _, rows in seen} == {6}
    assert all(amount == of_sales for amount, of_sales, _ in seen)
    assert len(seen) > 1, "the readers never saw a change"
    last = {Decimal(first + number * LOADS - 1) for first in firsts for number in (1, 2)}
    assert session.execute(STATE).fetchall()[0][0] in last
    assert len(published(session, "warehouse.dim_product")) == 1
    assert staging_tables(session) == []
