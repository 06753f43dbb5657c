"""Captured files move to an archive folder, after the commit and never before it."""

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.raw.manifest import captured_versions
from headrace.sources.base import Captured, CaptureRun
from headrace.sources.files.connector import FilesConnector
from headrace.sources.landing.landing_zone import LocalLanding
from tests.raw.building import (
    DAY,
    EXIST,
    FILE,
    FIRST,
    GOOD,
    NEXT,
    NEXT_FILE,
    START,
    Raw,
    csv_text,
    entity,
)


def made(folder: Path, **changes: Any) -> Raw:
    return Raw(folder, entity(extract={"archive_to": "archive", **changes}))


def archive(raw: Raw, failed: Collection[date] = (), **changes: Any) -> Sequence[str]:
    """What a run does after its commit; as of a new process, which has read no file."""

    def captured_of(days: Sequence[date]) -> Captured:
        wanted = days or raw.files
        return {day: captured_versions(raw.files.get(day, [])) for day in wanted}

    connector = FilesConnector(raw.entity, LocalLanding(raw.landing), **changes)
    return connector.after_commit(captured_of, failed, CaptureRun("shop.orders", "b", START, EXIST))


def landed(raw: Raw) -> list[str]:
    return [file.path for file in LocalLanding(raw.landing).list_files()]


def test_a_file_moves_once_its_rows_are_committed(tmp_path: Path) -> None:
    raw = made(tmp_path)
    raw.deliver(FILE, GOOD)
    raw.deliver(NEXT_FILE, GOOD)
    raw.capture(DAY, publish=False)
    assert archive(raw) == []
    raw.capture(DAY)
    assert archive(raw) == ["1 files moved to archive"]
    assert landed(raw) == [f"archive/{FILE}", NEXT_FILE]
    assert archive(raw) == []


def test_an_archived_file_is_not_missing(tmp_path: Path) -> None:
    raw = made(tmp_path, missing_file="hold")
    raw.deliver(FILE, GOOD)
    raw.capture()
    archive(raw)
    window = raw.capture(DAY, NEXT, entities={"shop.orders": raw.entity})
    assert ([*window.held], window.rows, window.remarks) == ([NEXT], {DAY: 2}, ())


def test_a_delivery_under_an_archived_path_keeps_both(tmp_path: Path) -> None:
    raw = made(tmp_path)
    for text in (GOOD, csv_text(["7,x,1"])):
        raw.deliver(FILE, text)
        raw.capture()
        archive(raw)
    first, second = landed(raw)
    assert {first, second} == {
        f"archive/{FILE}",
        "archive/orders/orders-2017-01-01.19700101T000003000000.csv",
    }
    assert raw.values("id") == ["7"]


def test_a_file_that_was_replaced_after_its_capture_stays(tmp_path: Path) -> None:
    raw = made(tmp_path)
    raw.deliver(FILE, GOOD)
    raw.capture()
    raw.deliver(FILE, csv_text(["7,x,1"]))
    assert (archive(raw), landed(raw)) == ([], [FILE])


def test_an_earlier_delivery_beside_a_file_moves_with_it(tmp_path: Path) -> None:
    raw = made(tmp_path)
    raw.deliver(FILE, csv_text(["7,old,1"]))
    raw.deliver(f"{FILE}.gz", GOOD, zipped=True)
    raw.capture()
    archive(raw)
    assert landed(raw) == [f"archive/{FILE}", f"archive/{FILE}.gz"]
    assert raw.capture().rows == {DAY: 2}
    assert raw.values("id") == ["1", "2"]


def test_an_equal_delivery_moves_though_nothing_of_it_is_stored(tmp_path: Path) -> None:
    raw = made(tmp_path)
    raw.deliver(FILE, GOOD)
    raw.capture()
    archive(raw)
    raw.deliver(FILE, GOOD)
    connector = FilesConnector(raw.entity, LocalLanding(raw.landing))
    plan_run = CaptureRun("shop.orders", "b", START, EXIST)
    held: Captured = {DAY: captured_versions(raw.files[DAY])}
    (unit,) = connector.plan([DAY], _state(held), plan_run).units
    list(connector.read(unit.objects[0], DAY))
    assert connector.after_commit(lambda _: held, [DAY], plan_run) == []
    assert connector.after_commit(lambda _: held, [], plan_run) == ["1 files moved to archive"]


def _state(held: Captured) -> Any:
    from headrace.sources.base import CaptureState  # noqa: PLC0415

    return CaptureState(held)


def test_the_marker_of_a_file_moves_after_it(tmp_path: Path) -> None:
    raw = made(tmp_path, arrival={"type": "marker", "path": "{path}.done"})
    raw.deliver(FILE, GOOD)
    raw.deliver(f"{FILE}.done", "")
    raw.capture()
    archive(raw)
    assert landed(raw) == [f"archive/{FILE}", f"archive/{FILE}.done"]


def test_a_file_of_two_entities_stays(tmp_path: Path) -> None:
    raw = made(tmp_path)
    raw.deliver(FILE, GOOD)
    raw.capture()
    other = entity(name="lines")
    said = archive(raw, entities={"shop.orders": raw.entity, "shop.lines": other})
    assert said == [f"{FILE} stays: another entity reads it, too"]


def test_a_product_list_moves_and_its_next_version_is_read(tmp_path: Path) -> None:
    raw = made(tmp_path, path="products.csv")
    raw.deliver("products.csv", GOOD)
    raw.capture(FIRST)
    archive(raw)
    assert landed(raw) == ["archive/products.csv"]
    raw.deliver("products.csv", csv_text(["9,x,1"]))
    raw.capture(FIRST)
    assert raw.values("id", FIRST) == ["9"]


def test_files_whose_rows_say_the_day_are_not_archived() -> None:
    columns = [{"name": "id", "type": "bigint"}, {"name": "sold_at", "type": "timestamp"}]
    extract = {"path": "*.csv", "partition_by": "sold_at", "archive_to": "archive"}
    with pytest.raises(ValidationError, match="are read again for days that come to exist"):
        entity(columns=columns, extract=extract)
    with pytest.raises(ValidationError, match="must be a folder below the landing zone"):
        entity(extract={"archive_to": "../archive"})
