"""The made-up changes of the demo's year: as many and as troublesome as they are said to be."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv as pa_csv

from demo.history import DELETE, INSERT, Dice, History, Member
from demo.stage import StagedLanding
from demo.truth import Version, read_versions

KINDS = {"products": ("product_id", 0.05), "households": ("household_id", 0.10)}
Line = dict[str, str]
VersionsOf = dict[str, dict[int, list[Version]]]


@pytest.fixture(scope="module")
def landing(year: StagedLanding) -> Path:
    return year.landing


@pytest.fixture(scope="module")
def versions_of(landing: Path) -> VersionsOf:
    return {kind: read_versions(landing, kind, key) for kind, (key, _) in KINDS.items()}


def told(landing: Path, kind: str) -> list[tuple[date, Line]]:
    """Day of the file and row, of every file after the first."""
    rows = []
    for path in sorted((landing / kind).iterdir())[1:]:
        with path.open(newline="") as lines:
            day = date.fromisoformat(path.stem[-10:])
            rows += [(day, line) for line in csv.DictReader(lines)]
    return rows


@pytest.fixture(scope="module")
def sales(landing: Path) -> pa.Table:
    """household_id, product_id and transaction_timestamp of every line."""
    columns = ["household_id", "product_id", "transaction_timestamp"]
    options = pa_csv.ConvertOptions(include_columns=columns)
    files = sorted((landing / "transactions").iterdir())
    return pa.concat_tables(pa_csv.read_csv(f, convert_options=options) for f in files)


def sold_to_or_of(sales: pa.Table, key: str, members: Iterable[str]) -> dict[str, list[datetime]]:
    """By member, the times of its sales, in order."""
    wanted = pa.array([int(member) for member in members])
    some = sales.filter(pc.is_in(sales[key], wanted)).sort_by("transaction_timestamp")
    times: dict[str, list[datetime]] = defaultdict(list)
    for member, at in zip(some[key], some["transaction_timestamp"], strict=True):
        times[str(member)].append(at.as_py())
    return times


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_change_as_is_said_and_some_of_them_twice(
    versions_of: VersionsOf, kind: str
) -> None:
    _, share = KINDS[kind]
    versions = versions_of[kind]
    changed = Counter(len(some) for some in versions.values())
    several = sum(count for number, count in changed.items() if number > 1)
    assert several / len(versions) == pytest.approx(share, rel=0.25)
    assert 0.05 < changed[3] / several < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_some_are_told_late_and_some_are_corrected_at_the_same_instant(
    landing: Path, kind: str
) -> None:
    key, _ = KINDS[kind]
    rows = told(landing, kind)
    days_late = [(day - datetime.fromisoformat(row["changed_at"]).date()).days for day, row in rows]
    assert min(days_late) == 0
    assert 0.15 < sum(late > 0 for late in days_late) / len(rows) < 0.4
    instants = Counter((row[key], row["changed_at"]) for _, row in rows)
    corrected = sum(count > 1 for count in instants.values())
    assert 0.02 < corrected / len(instants) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_leave_and_come_back_and_nothing_is_sold_to_or_of_them_meanwhile(
    landing: Path, versions_of: VersionsOf, sales: pa.Table, kind: str
) -> None:
    key, _ = KINDS[kind]
    versions = versions_of[kind]
    away = [row[key] for _, row in told(landing, kind) if row["operation"] == DELETE]
    assert 5 < len(away) < 30
    for member, sold in sold_to_or_of(sales, key, away).items():
        before, after = versions[int(member)]
        assert before.valid_to is not None, member
        assert before.valid_to < after.valid_from, member
        assert sold[0] < before.valid_to, "sold before"
        assert sold[-1] > after.valid_from, "and after"
        assert not [at for at in sold if before.valid_to <= at < after.valid_from], "not meanwhile"


@pytest.mark.parametrize("kind", KINDS)
def test_some_are_sold_before_they_are_told_of(landing: Path, sales: pa.Table, kind: str) -> None:
    key, _ = KINDS[kind]
    rows = told(landing, kind)
    away = {row[key] for _, row in rows if row["operation"] == DELETE}
    new = {row[key]: day for day, row in rows if row["operation"] == INSERT}
    sold = sold_to_or_of(sales, key, new.keys() - away)
    early = [member for member, times in sold.items() if times[0].date() < new[member]]
    assert len(early) > 5, "too few facts need an inferred member"


def test_a_product_stays_in_its_department(versions_of: VersionsOf) -> None:
    versions = versions_of["products"]
    departments = [{v.attributes["department"] for v in some} for some in versions.values()]
    assert {len(some) for some in departments} == {1}


def test_some_rows_say_that_something_changed_when_nothing_did(
    landing: Path, versions_of: VersionsOf
) -> None:
    versions = versions_of["products"]
    starts = {(str(p), str(v.valid_from)) for p, some in versions.items() for v in some}
    rows = [(row["product_id"], row["changed_at"]) for _, row in told(landing, "products")]
    assert sum(row not in starts for row in rows) > 20


def test_what_happens_to_a_member_does_not_depend_on_the_others_or_their_order() -> None:
    def other_size(dice: Dice, member: Member) -> Member:
        return member | {"size": dice.below(1000)}

    first, last = date(2017, 1, 1), date(2017, 12, 31)
    history = History("thing", "id", 0.5, 0.1, other_size, first, last)
    members: list[Member] = [{"id": n, "size": 0} for n in range(200)]
    absences = {7: (date(2017, 3, 1), date(2017, 4, 1))}
    shuffled = [dict(reversed(m.items())) for m in (*members[1::2], *members[::2])]
    together = history.changes(members, absences)
    assert history.changes(shuffled, absences) == together
    some = [change for change in together if change.member["id"] % 3 == 0]
    assert history.changes([m for m in members if m["id"] % 3 == 0], absences) == some
    assert len(together) > 100
