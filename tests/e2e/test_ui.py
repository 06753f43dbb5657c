"""What Dagster's UI sends works: its backfill dialog, and one partition of some assets.

`headrace dev` serves the UI and runs the daemon; the requests are those of the UI's dialogs.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.error import URLError

import psutil
import pytest

from tests.e2e.conftest import days
from tests.e2e.installation import Installation, good_lines

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

_START_SECONDS = 180
_RUN_SECONDS = 300

_LOCATION = """
{ workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError {
  __typename ... on RepositoryLocation { name repositories { name } } } } } } }
"""
_RELOAD = """
mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename } }
"""
_LOAD_ERROR = """
{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
  ... on PythonError { message causes { message } } } } } } }
"""
_ASSETS = "{ assetNodes { assetKey { path } isPartitioned } }"
_BACKFILL = """
mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on Error { message } } }
"""
_BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status error { message } } } }
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }
"""
_RUN_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_FAILURES = """
{ runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results {
  jobName tags { key value }
  eventConnection { events { ... on ExecutionStepFailureEvent { stepKey error { message
    causes { message } } } ... on RunFailureEvent { message } } } } } } }
"""
_MATERIALIZED = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetPartitionStatuses { ... on TimePartitionStatuses {
    ranges { startKey endKey status } } } } } }
"""


@dataclass(frozen=True)
class Ui:
    """The UI's GraphQL endpoint."""

    url: str
    log: Path

    def await_error(self) -> str:
        """Why the code location cannot be loaded, in the UI's words."""
        found: list[Any] = []

        def status() -> str:
            entries = self.ask(_LOAD_ERROR)["workspaceOrError"]["locationEntries"]
            found[:] = [entry["locationOrLoadError"] for entry in entries]
            return "failed" if found and found[0] else "loading"

        self.await_end(status, {"failed"})
        return json.dumps(found)

    def await_log(self, text: str) -> str:
        """What `headrace dev` printed from `text` on."""
        self.await_end(lambda: "there" if text in self.log.read_text() else "not yet", {"there"})
        return self.log.read_text().partition(text)[2]

    def ask(self, query: str, **variables: object) -> Any:
        """The data of an answer without errors."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url, body, headers)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def await_end(self, ask: Callable[[], str], ends: set[str]) -> str:
        """The status once it is one of `ends`."""
        deadline = time.monotonic() + _RUN_SECONDS
        while (status := ask()) not in ends:
            assert time.monotonic() < deadline, f"still {status}"
            time.sleep(0.5)
        return status

    def materialized(self, asset: str) -> list[tuple[str, str]]:
        """The ranges of days that the UI shows green."""
        node = self.ask(_MATERIALIZED, key={"path": asset.split("/")})["assetNodeOrError"]
        ranges = node["assetPartitionStatuses"]["ranges"]
        return [(r["startKey"], r["endKey"]) for r in ranges if r["status"] == "MATERIALIZED"]


@pytest.fixture
def ui(shop: Installation) -> Iterator[Ui]:
    """`headrace dev` over a shop whose sensors find nothing to do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "headrace.cli.app", "dev", "--port", str(port)]
    log = (shop.root / "dev.log").open("w+")
    with shop.active():
        process = subprocess.Popen(
            command,
            cwd=shop.root,  # any folder will do
            env=dict(os.environ),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    found = Ui(f"http://127.0.0.1:{port}/graphql", shop.root / "dev.log")
    try:
        _await_location(found, process)
        yield found
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        log.close()
    assert process.returncode == 0
    assert len(children) > 3
    assert not psutil.wait_procs(children, timeout=10)[1]


def _await_location(ui: Ui, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(URLError, ConnectionError):
            entries = ui.ask(_LOCATION)["workspaceOrError"]["locationEntries"]
            if entries and all(entry["loadStatus"] == "LOADED" for entry in entries):
                assert entries[0]["locationOrLoadError"]["__typename"] == "RepositoryLocation"
                return
        time.sleep(0.5)
    pytest.fail("headrace dev did not serve the code location")


def test_one_runs_at_a_time_and_errors_of_the_configuration_are_said(
    shop: Installation, ui: Ui
) -> None:
    with shop.active():
        second = _headrace(shop, "dev", "--port", "3999")
        stopped = _headrace(shop, "stop")
    for refused in (second, stopped):
        assert refused.returncode == 2
        assert f"headrace dev at {ui.url.removesuffix('/graphql')}" in refused.stderr
    star = shop.config / "star.yaml"
    text = star.read_text()
    star.write_text(text.replace("entity: retail.stores", "entity: retail.shops"))
    ui.ask(_RELOAD, name="platform")
    error = ui.await_error()
    for told in (error, ui.await_log("definitions cannot be loaded")):
        assert "star.yaml" in told
        assert "retail.shops" in told
    star.write_text(text)
    ui.ask(_RELOAD, name="platform")
    ui.await_log("loaded again")
    assert "Warning" not in ui.log.read_text()
    # Without a pool the daemon opens several sessions a second; ticks of sensors open a few.
    before = _sessions(shop)
    time.sleep(10)
    assert _sessions(shop) - before < 30


def _sessions(shop: Installation) -> int:
    """How many sessions were opened to Dagster's database so far."""
    ((found,),) = shop.sql("select sessions from pg_stat_database where datname = 'dagster'")
    return int(found)


def _headrace(shop: Installation, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "headrace.cli.app", *words]
    return subprocess.run(command, cwd=shop.root, capture_output=True, text=True, check=False)


def _deliver(shop: Installation, window: list[date]) -> None:
    shop.deliver_catalogue()
    for day in window:
        shop.deliver(day, good_lines(day))


def test_the_backfill_dialog_brings_its_days_to_the_marts(shop: Installation, ui: Ui) -> None:
    window = days(3)
    nodes = ui.ask(_ASSETS)["assetNodes"]
    params = {
        "assetSelection": [{"path": node["assetKey"]["path"]} for node in nodes],
        "partitionNames": [day.isoformat() for day in window],
        "fromFailure": False,
        "tags": [],
    }
    _deliver(shop, window)
    launched = ui.ask(_BACKFILL, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    status = ui.await_end(
        lambda: str(
            ui.ask(_BACKFILL_STATUS, id=launched["backfillId"])["partitionBackfillOrError"][
                "status"
            ]
        ),
        {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"},
    )
    assert status == "COMPLETED_SUCCESS", json.dumps(ui.ask(_FAILURES), indent=1)
    range_of_days = [(window[0].isoformat(), window[-1].isoformat())]
    for asset in ("raw/retail_transactions", "warehouse/fact_sales", "marts/mart_customer_rfm"):
        assert ui.materialized(asset) == range_of_days, asset
        assert shop.status()[asset].published == len(window), asset
    assert shop.sql("select count(*) from warehouse.fact_sales") == [(12,)]

    # One partition of some assets, as "Materialize selected…" sends it for a single day.
    entry = ui.ask(_LOCATION)["workspaceOrError"]["locationEntries"][0]["locationOrLoadError"]
    day = window[1]
    shop.deliver(day, good_lines(day, 2))
    selector = {
        "repositoryLocationName": entry["name"],
        "repositoryName": entry["repositories"][0]["name"],
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": ["raw", "retail_transactions"]}],
    }
    tags = [{"key": "dagster/partition", "value": day.isoformat()}]
    single = {"mode": "default", "selector": selector, "executionMetadata": {"tags": tags}}
    run = ui.ask(_LAUNCH, params={**single, "runConfigData": {}})["launchPipelineExecution"]
    assert run["__typename"] == "LaunchRunSuccess", run
    status = ui.await_end(
        lambda: str(ui.ask(_RUN_STATUS, id=run["run"]["runId"])["runOrError"]["status"]),
        {"SUCCESS", "FAILURE", "CANCELED"},
    )
    assert status == "SUCCESS"
    raw = shop.lake("raw.retail_transactions")
    assert sum(row["_partition_date"] == day for row in raw) == 4 + 2
    assert ui.materialized("raw/retail_transactions") == range_of_days
