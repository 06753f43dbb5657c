"""What may be built, what has to be, and who gives way: the rule, on the ledger itself."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import cast
from uuid import uuid4

from headrace.ledger import liveness
from headrace.ledger.build_plan import AssetLineage
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionRecord, Status
from headrace.ledger.staleness import (
    gate,
    is_superseded,
    read_stale,
    read_states,
    stale_partitions,
    stale_tables,
)
from headrace.warehouse.sessions import Connect

MONDAY, TUESDAY = date(2017, 1, 2), date(2017, 1, 3)
RAW = AssetLineage("raw/a", "raw-1")
ROWS = AssetLineage("processed/a", "rows-1", inputs=("raw/a",))
MEMBERS = AssetLineage("curated/d", "members-1", ("processed/m",), ("processed/a",))
FACT = AssetLineage("curated/f", "fact-1", ("processed/a",), required_tables=("curated/d",))


def publish(
    ledger: Ledger,
    lineage: AssetLineage,
    version: str,
    inputs: Mapping[str, str] | None = None,
    **other: object,
) -> None:
    record = PartitionRecord(
        lineage.name,
        MONDAY,
        "published",
        "run-1",
        code_version=lineage.code_version,
        data_version=version,
        inputs={} if inputs is None else inputs,
        content="new",
    )
    ledger.record([replace(record, **other)])  # type: ignore[arg-type]


def reasons(ledger: Ledger, lineage: AssetLineage) -> dict[date | None, str]:
    found = {stale.partition: stale.reason for stale in read_stale(ledger, lineage)}
    # The narrow question gives what the rule gives on all states.
    states = read_states(ledger, lineage)
    all_of_them = stale_partitions(lineage, states, ledger.dead_runs())
    assert found == {stale.partition: stale.reason for stale in all_of_them}
    return found


def test_a_day_is_stale_while_an_input_has_other_content_than_it_was_built_from(
    ledger: Ledger,
) -> None:
    publish(ledger, RAW, "v1")
    publish(ledger, ROWS, "w1", {"raw/a": "v1"})
    assert reasons(ledger, ROWS) == {}
    publish(ledger, RAW, "v2")
    assert reasons(ledger, ROWS) == {MONDAY: "raw/a has other content"}
    publish(ledger, ROWS, "w2", {"raw/a": "v2"})
    assert reasons(ledger, ROWS) == {}


def test_a_rerun_that_gives_equal_content_makes_nothing_stale(ledger: Ledger) -> None:
    publish(ledger, RAW, "v1")
    publish(ledger, ROWS, "w1", {"raw/a": "v1"})
    publish(ledger, FACT, "f1", {"processed/a": "w1"})
    publish(ledger, RAW, "v1", run_id="run-2")
    # The same inputs and the same code give the same content, whatever its version is called.
    publish(ledger, ROWS, "w9", {"raw/a": "v1"}, run_id="run-2", content="derived")
    assert ledger.states("processed/a")[MONDAY].data_version == "w1"
    publish(ledger, ROWS, "w9", {"raw/a": "v2"}, run_id="run-3", content="same")
    assert ledger.states("processed/a")[MONDAY].data_version == "w1"
    publish(ledger, ROWS, "w9", {"raw/a": "v2"}, run_id="run-4", code_version="rows-2")
    assert ledger.states("processed/a")[MONDAY].data_version == "w9"


def test_a_day_is_stale_when_its_code_version_changed(ledger: Ledger) -> None:
    publish(ledger, RAW, "v1")
    publish(ledger, ROWS, "w1", {"raw/a": "v1"})
    assert reasons(ledger, replace(ROWS, code_version="rows-2")) == {
        MONDAY: "its code_version changed"
    }
    assert reasons(ledger, replace(RAW, code_version="raw-2")) == {
        MONDAY: "its code_version changed"
    }


def test_a_day_that_was_never_built_is_stale_once_its_inputs_are_published(ledger: Ledger) -> None:
    assert reasons(ledger, ROWS) == {}
    publish(ledger, RAW, "v1", status="failed")
    assert reasons(ledger, ROWS) == {}
    assert reasons(ledger, RAW) == {}, "the same file would fail again"
    publish(ledger, RAW, "v1")
    assert reasons(ledger, ROWS) == {MONDAY: "was never built"}
    publish(ledger, ROWS, "", status="skipped")
    assert reasons(ledger, ROWS) == {MONDAY: "was never built"}


def test_a_bad_day_is_tried_again_when_something_changed_and_not_before(ledger: Ledger) -> None:
    publish(ledger, RAW, "v1")
    for status in ("held", "failed"):
        publish(ledger, ROWS, "", {"raw/a": "v1"}, status=status)
        assert reasons(ledger, ROWS) == {}
        assert reasons(ledger, replace(ROWS, code_version="rows-2")) != {}
    publish(ledger, RAW, "v2")
    assert reasons(ledger, ROWS) == {MONDAY: "raw/a has other content"}
    publish(ledger, ROWS, "", status="failed")
    with ledger.connect() as session:
        session.execute("update platform.partition_ledger set attempted_inputs = null")
    assert reasons(ledger, ROWS) == {MONDAY: "a retry may succeed"}


def test_a_day_that_is_held_for_its_file_waits_and_one_that_failed_does_not(
    ledger: Ledger,
) -> None:
    cases: list[tuple[Status, bool]] = [("held", True), ("failed", False)]
    for status, waits in cases:
        ledger.record([PartitionRecord(RAW.name, MONDAY, status, "run-1", code_version="raw-1")])
        (found,) = read_stale(ledger, RAW)
        assert (found.waits, found.reason == "waits for its file") == (waits, waits)
        # Without inputs, a day of rows is one of a ledger from before they were recorded.
        publish(ledger, RAW, "v1")
        record = PartitionRecord(ROWS.name, MONDAY, status, "run-1", code_version="rows-1")
        ledger.record([record])
        assert [one.waits for one in read_stale(ledger, ROWS)] == [False]


def test_a_day_that_a_dead_run_was_at_is_stale_and_one_of_a_live_run_is_not(
    ledger: Ledger,
) -> None:
    run_id = f"run-{uuid4()}"
    liveness.acquire(cast("Connect", ledger.connect), run_id)
    ledger.begin(RAW.name, [MONDAY], run_id)
    assert reasons(ledger, RAW) == {}
    assert ledger.readable(RAW.name, [MONDAY]) == frozenset()
    liveness.release(run_id)
    assert reasons(ledger, RAW) == {MONDAY: f"run {run_id} died while it built it"}
    ledger.begin(RAW.name, [MONDAY], "run-2")
    publish(ledger, RAW, "v1", run_id="run-2")
    assert reasons(ledger, RAW) == {}
    history = [(a.run_id, a.status) for a in ledger.attempts(asset=RAW.name, partition=MONDAY)]
    assert history == [(run_id, "interrupted"), ("run-2", "published")]


def test_a_dead_run_leaves_what_was_published_readable(ledger: Ledger) -> None:
    publish(ledger, RAW, "v1")
    ledger.begin(RAW.name, [MONDAY], "dead")
    assert ledger.readable(RAW.name, [MONDAY]) == {MONDAY}
    assert list(reasons(ledger, RAW)) == [MONDAY]


def test_the_gate_opens_for_days_whose_inputs_are_published(ledger: Ledger) -> None:
    publish(ledger, RAW, "v1")
    found = gate(ROWS, read_states(ledger, ROWS, [MONDAY, TUESDAY]), [MONDAY, TUESDAY])
    assert found.open == {MONDAY: {"raw/a": "v1"}}
    assert found.shut == {TUESDAY: f"raw/a {TUESDAY} was never built"}
    publish(ledger, RAW, "v1", status="held")
    found = gate(ROWS, read_states(ledger, ROWS, [MONDAY]), [MONDAY])
    assert found.shut == {MONDAY: f"raw/a {MONDAY} is held"}


def test_a_fact_waits_for_a_dimension_that_has_not_read_its_rows(ledger: Ledger) -> None:
    inferred = replace(FACT, inferring_tables=FACT.required_tables)
    publish(ledger, ROWS, "w1")
    for read in ({}, {"processed/a": "w0"}):
        publish(ledger, MEMBERS, "d1", {"processed/m": "m1", **read})
        assert gate(FACT, read_states(ledger, FACT, [MONDAY]), [MONDAY]).open
        found = gate(inferred, read_states(ledger, FACT, [MONDAY]), [MONDAY])
        assert found.shut == {
            MONDAY: f"curated/d {MONDAY} was not built from the current processed/a"
        }
    publish(ledger, MEMBERS, "d1", {"processed/m": "m1", "processed/a": "w1"})
    assert gate(inferred, read_states(ledger, FACT, [MONDAY]), [MONDAY]).open


def test_an_optional_input_that_appears_makes_a_day_stale(ledger: Ledger) -> None:
    members = AssetLineage("processed/m", "m")
    publish(ledger, members, "m1")
    publish(ledger, MEMBERS, "d1", {"processed/m": "m1"})
    assert reasons(ledger, MEMBERS) == {}
    publish(ledger, ROWS, "w1")
    if found := {s.partition: s.reason for s in read_stale(ledger, MEMBERS)}:
        assert found == {MONDAY: "processed/a has other content"}
    else:
        raise AssertionError("the rows name members that the dimension may not have")


def test_a_run_gives_way_to_a_newer_one_that_has_been_at_the_day(ledger: Ledger) -> None:
    def overtaken(read: str) -> bool:
        states = read_states(ledger, ROWS, [MONDAY])
        return is_superseded(ROWS, states, MONDAY, {"raw/a": read}, "run-old")

    publish(ledger, RAW, "v1")
    assert not overtaken("v1"), "nobody else was at it"
    publish(ledger, RAW, "v2")
    assert not overtaken("v1"), "the newer rows are there, but nobody built from them"
    outcomes: tuple[Status, ...] = ("published", "held", "failed")
    for status in outcomes:
        publish(ledger, ROWS, "w2", {"raw/a": "v2"}, status=status, run_id="run-new")
        assert overtaken("v1"), status
        assert not overtaken("v2"), "built from the same"
    publish(ledger, ROWS, "w2", {"raw/a": "v2"}, run_id="run-old")
    assert not overtaken("v1"), "its own attempt"


def test_an_attempt_that_gives_way_changes_no_state(ledger: Ledger) -> None:
    publish(ledger, ROWS, "w2", {"raw/a": "v2"}, run_id="run-new")
    before = ledger.states(ROWS.name)
    publish(ledger, ROWS, "w1", {"raw/a": "v1"}, run_id="run-old", status="superseded")
    assert ledger.states(ROWS.name) == before
    assert [a.status for a in ledger.attempts(run_id="run-old")] == ["superseded"]
    assert ledger.held_or_failed_of_run("run-old") == []


def test_a_whole_table_makes_a_fact_stale_when_its_content_changes(ledger: Ledger) -> None:
    fact, watermarks = replace(FACT, table_inputs=("curated/d",)), ledger.watermarks
    publish(ledger, MEMBERS, "d1")
    versions = watermarks.current_versions(fact.table_inputs)
    assert stale_tables(fact, watermarks.versions_read(fact.name), versions) == [], "unpublished"
    watermarks.record_versions_read(fact.name, versions)
    assert stale_tables(fact, watermarks.versions_read(fact.name), versions) == []
    publish(ledger, MEMBERS, "d2")
    current = watermarks.current_versions(["curated/d"])
    changed = stale_tables(fact, watermarks.versions_read(fact.name), current)
    assert [stale.reason for stale in changed] == ["curated/d has changed since"]


def test_days_that_were_dropped_on_purpose_are_not_stale(ledger: Ledger) -> None:
    publish(ledger, RAW, "v1")
    assert reasons(ledger, replace(ROWS, retained_from=MONDAY)) != {}
    assert reasons(ledger, replace(ROWS, retained_from=MONDAY + timedelta(days=1))) == {}
