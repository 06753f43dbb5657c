"""Grains of partitions: periods by the calendar, and the gate across grains by an oracle."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.grain import WHOLE, Grain, finest
from headrace.ledger.build_plan import AssetLineage
from headrace.ledger.records import PartitionState, Status
from headrace.ledger.staleness import gate, stale_partitions

FIRST = date(2024, 2, 26)
DAYS = st.dates(date(2023, 1, 1), date(2025, 12, 31))
PERIODS = [Grain.DAY, Grain.WEEK, Grain.MONTH, Grain.YEAR]
AT = datetime(2024, 1, 1, tzinfo=UTC)


@given(DAYS, st.sampled_from(PERIODS))
def test_a_day_lies_in_the_period_that_its_start_names(day: date, grain: Grain) -> None:
    start = grain.start_of(day)
    assert start <= day < grain.end_of(start)
    assert {grain.start_of(each) for each in grain.days_of(start)} == {start}
    assert grain.start_of(grain.end_of(start)) == grain.end_of(start)
    found = grain.starts_of(np.array([day, "NaT"], dtype="datetime64[D]"))
    assert found[0] == np.datetime64(start)
    assert np.isnat(found[1])


@given(DAYS, st.integers(0, 800), st.sampled_from(PERIODS))
def test_the_periods_of_a_range_are_those_of_its_days(day: date, more: int, grain: Grain) -> None:
    last = day + timedelta(days=more)
    days = [day + timedelta(days=n) for n in range(more + 1)]
    assert grain.starts(day, last) == sorted({grain.start_of(each) for each in days})


@pytest.mark.parametrize(
    ("grain", "label"),
    [
        (Grain.DAY, "2024-02-26"),
        (Grain.WEEK, "2024-W09"),
        (Grain.MONTH, "2024-02"),
        (Grain.YEAR, "2024"),
        (Grain.NONE, "all"),
    ],
)
def test_a_partition_is_written_as_people_write_its_period(grain: Grain, label: str) -> None:
    assert grain.label(grain.start_of(FIRST)) == label


@given(st.sets(st.sampled_from([*Grain]), min_size=1), DAYS)
def test_what_is_built_from_several_grains_has_every_partition_of_theirs(
    grains: set[Grain], day: date
) -> None:
    built = finest(grains)
    for grain in grains - {Grain.NONE, Grain.SPARSE}:
        start = grain.start_of(day)
        assert built == Grain.SPARSE or built.start_of(start) == start


def _state(status: Status, version: str, inputs: dict[str, str]) -> PartitionState:
    is_published = status == "published"
    return PartitionState(
        asset="",
        partition=None,
        status=status,
        run_id="r",
        code_version="1",
        rows_in=0,
        rows_out=0,
        rows_quarantined=0,
        quality_score=Decimal(1),
        error=None,
        attempted_at=AT,
        attempted_inputs=inputs,
        running_run_id=None,
        snapshot_id=None,
        published_rows=0 if is_published else None,
        published_run_id="r" if is_published else None,
        published_at=AT if is_published else None,
        published_code_version="1" if is_published else None,
        data_version=version if is_published else None,
        inputs=inputs if is_published else None,
    )


_STATUS: st.SearchStrategy[Status | None] = st.sampled_from(["published", "held", None])
States = dict[date | None, PartitionState]
_KNOWN = [WHOLE, *(FIRST + timedelta(days=n) for n in range(40))]


def _keys(grain: Grain) -> list[date]:
    """The partitions of a grain among 40 days."""
    if grain == Grain.NONE:
        return [WHOLE]
    return [day for day in _KNOWN[1:] if grain == Grain.SPARSE or grain.start_of(day) == day]


@st.composite
def _histories(draw: st.DrawFn, grain: Grain, most: int = 40) -> States:
    keys = _keys(grain)[:most]
    found: States = {}
    for key in keys:
        status = draw(_STATUS)
        if status is not None:
            found[key] = _state(status, draw(st.sampled_from("ab")), {})
    return found


@given(st.data(), st.sampled_from([*Grain]), st.sampled_from([*Grain]))
def test_a_dimension_opens_and_follows_as_a_naive_reading_of_its_inputs_says(
    data: st.DataObject, own: Grain, facts: Grain
) -> None:
    lineage = AssetLineage(
        "curated/d",
        "1",
        inputs=("processed/m",),
        optional_inputs=("processed/f",),
        grain=finest([own, facts]),
        grains={"processed/m": own, "processed/f": facts},
    )
    inputs: dict[str, States] = {
        "processed/m": data.draw(_histories(own)),
        "processed/f": data.draw(_histories(facts)),
    }
    read_before = {
        key: {
            name: data.draw(st.sampled_from("ab"))
            for name in inputs
            if key in inputs[name] and inputs[name][key].status == "published"
        }
        for key in data.draw(st.sets(st.sampled_from(_KNOWN), max_size=10))
    }
    mine: States = {key: _state("published", "x", read) for key, read in read_before.items()}
    states: dict[str, States] = {**inputs, "curated/d": mine}

    def naive_why_shut(key: date) -> bool:
        member = inputs["processed/m"].get(key)
        must_be_there = key in _keys(own) and own != Grain.SPARSE
        return member.status != "published" if member else must_be_there

    def naive_now(key: date) -> dict[str, str | None]:
        return {
            name: some[key].data_version
            for name, some in inputs.items()
            if key in some and some[key].status == "published"
        }

    known = {key for some in states.values() for key in some if key is not None}
    found = gate(lineage, states, known)
    assert {*found.shut} == {key for key in known if naive_why_shut(key)}
    assert {key: dict(read) for key, read in found.open.items()} == {
        key: naive_now(key) for key in known if not naive_why_shut(key)
    }
    assert {one.partition for one in stale_partitions(lineage, states)} == {
        key
        for key in known
        if not naive_why_shut(key) and (key not in mine or read_before[key] != naive_now(key))
    }


@given(st.data(), st.sampled_from([*Grain]), st.sampled_from([*Grain]))
def test_a_fact_waits_for_what_its_dimension_holds_back_in_its_period(
    data: st.DataObject, own: Grain, members: Grain
) -> None:
    lineage = AssetLineage(
        "curated/f",
        "1",
        inputs=("processed/f",),
        required_tables=("curated/d",),
        grain=own,
        grains={"curated/d": members, "processed/f": own},
    )
    dimension = data.draw(_histories(members))
    for key in _keys(own)[:5]:
        states: dict[str, States] = {
            "processed/f": {key: _state("published", "a", {})},
            "curated/d": dimension,
        }
        if own == members and own != Grain.SPARSE:
            needed, is_there = [key], True
        else:
            # What begins within the period, and the longer period that it lies in.
            needed = [d for d in dimension if d is not None and key <= d < own.end_of(key)]
            if members.start_of(key) < key:
                needed.append(members.start_of(key))
            is_published = any(state.published_at for state in dimension.values())
            is_there = bool(needed) or (members == Grain.SPARSE and is_published)
        is_open = is_there and all(
            d in dimension and dimension[d].status == "published" for d in needed
        )
        assert (key in gate(lineage, states, [key]).open) == is_open
