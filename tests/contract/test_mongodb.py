"""Collections of MongoDB: modes, documents and arrays as rows, over a real server."""

import random
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson.objectid import ObjectId

from headrace.errors import SourceRejectedError
from headrace.raw.capture import CapturedWindow
from headrace.sources.mongodb.collection import horizon_of
from tests.contract.mongodb_collections import MongoCollection, as_instant
from tests.contract.tables import DAY, NEXT
from tests.contract.test_reconcile import counts, found, repair

pytestmark = pytest.mark.contract

CHANGING: dict[str, Any] = {
    "extract": {"mode": "watermark", "cursor": "at", "overlap": "1m", "ignored": ["tags"]},
    "columns": [
        {"name": "id", "from": "_id", "type": "int"},
        {"name": "name", "type": "string"},
        {"name": "city", "from": "$.address.city", "type": "string", "optional": True},
        {"name": "sold_on", "type": "timestamptz"},
        {"name": "at", "type": "timestamptz"},
    ],
}


@pytest.fixture
def changing(tmp_path: Path) -> MongoCollection:
    """A collection with an update time, of days of 2017, that was written just now."""
    found = MongoCollection(tmp_path, **CHANGING)
    found.documents.insert_many([order(n, (DAY, NEXT)[n % 2]) for n in range(1, 11)])
    return found


def order(number: int, day: date, **more: Any) -> dict[str, Any]:
    return {
        "_id": number,
        "name": f"n{number}",
        "sold_on": as_instant(day),
        "at": datetime.now(UTC),
        **more,
    }


def change(table: MongoCollection, number: int, **fields: Any) -> None:
    fields = {"at": datetime.now(UTC), **fields}
    table.documents.update_one({"_id": number}, {"$set": fields})


def error(window: CapturedWindow, day: date = DAY) -> str:
    return f"{window.failed[day]} | {window.failed[day].fix}"


def test_a_first_watermark_capture_reads_all_and_a_second_nothing(
    changing: MongoCollection,
) -> None:
    assert changing.capture(DAY, NEXT).rows == {DAY: 5, NEXT: 5}
    assert changing.pending() == set()
    plan = changing.connector.plan([DAY, NEXT], changing.state(), changing.run())
    assert (plan.units, plan.unchanged) == ((), (DAY, NEXT))


def test_a_watermark_capture_appends_what_changed_once(changing: MongoCollection) -> None:
    changing.capture(DAY, NEXT)
    change(changing, 1, name="new", address={"city": "Ulm"})
    assert changing.pending() == {NEXT}
    window = changing.capture(DAY, NEXT)
    assert [file.rows for file in window.staged[NEXT].files] == [1]
    assert window.staged[DAY].files == ()
    latest = changing.latest()[1,]
    assert (latest["name"], latest["city"], len(changing.latest())) == ("new", "Ulm", 10)
    # Within the overlap, without a change of the cursor.
    changing.documents.update_one({"_id": 1}, {"$set": {"name": "n1"}})
    assert changing.pending() == {NEXT}
    changing.capture(DAY, NEXT)
    assert changing.latest()[1,]["name"] == "n1"


def test_a_document_that_is_written_late_within_the_overlap_is_not_missed(
    changing: MongoCollection,
) -> None:
    changing.capture(DAY, NEXT)
    late = datetime.now(UTC) - timedelta(seconds=50)
    changing.documents.insert_one(order(50, DAY, at=late))
    assert changing.pending() == {DAY}
    assert changing.capture(DAY, NEXT).rows == {DAY: 6, NEXT: 5}


def test_documents_without_a_readable_cursor_are_read_by_each_capture(
    changing: MongoCollection,
) -> None:
    changing.capture(DAY, NEXT)
    changing.documents.insert_many(
        [order(50, DAY, at=None), order(51, DAY, at="2017-01-01"), {"_id": 52}]
    )
    changing.capture(DAY, NEXT)
    changing.documents.update_one({"_id": 50}, {"$set": {"name": "new"}})
    assert changing.pending() == {DAY}
    changing.capture(DAY, NEXT)
    rows = changing.rows(DAY)
    assert changing.latest()[50,]["name"] == "new"
    reasons = {row["_corrupt_reason"] for row in rows if row["_corrupt_record"]}
    assert reasons == {"at: of BSON type string, not timestamptz", "sold_on: no readable day"}


def test_a_row_that_does_not_fit_stays_in_its_partition_and_is_captured_once(
    changing: MongoCollection,
) -> None:
    change(changing, 1, name={"first": "a"})
    change(changing, 3, address={"city": 7.5})
    assert changing.capture(NEXT).rows == {NEXT: 5}
    changing.documents.update_one({"_id": 5}, {"$set": {"sold_on": "2017-01-02"}})
    assert changing.capture(DAY, NEXT).rows == {DAY: 6, NEXT: 5}
    found = {row["_corrupt_reason"] for row in changing.rows() if row["_corrupt_record"]}
    assert found == {"sold_on: of BSON type string, not timestamptz"}
    assert changing.latest()[1,]["name"] == '{"first":"a"}'
    assert changing.latest()[3,]["city"] == "7.5"


def test_new_documents_are_read_by_the_time_in_their_object_id(tmp_path: Path) -> None:
    table = MongoCollection(
        tmp_path,
        extract={"mode": "increasing_id", "cursor": "id", "overlap": "1m"},
        columns=[
            {"name": "id", "from": "_id", "type": "string"},
            {"name": "sold_on", "type": "timestamptz"},
        ],
    )
    old = ObjectId.from_datetime(datetime(2020, 1, 1, tzinfo=UTC))
    table.documents.insert_many([{"_id": old, "sold_on": as_instant(DAY)}])
    table.capture(DAY)
    assert table.pending() == set()
    new = table.documents.insert_one({"sold_on": as_instant(NEXT)}).inserted_id
    assert table.pending() == {NEXT}
    assert table.capture(DAY, NEXT).rows == {DAY: 1, NEXT: 1}
    assert {*table.latest()} == {(str(old),), (str(new),)}
    plan = table.connector.plan([DAY, NEXT], table.state(), table.run())
    assert plan.units == ()


def test_new_documents_are_read_by_an_increasing_number(tmp_path: Path) -> None:
    table = MongoCollection(
        tmp_path,
        extract={"mode": "increasing_id", "cursor": "id", "overlap": "0s"},
        columns=CHANGING["columns"],
    )
    table.documents.insert_many([order(n, DAY) for n in (1, 3)])
    table.capture(DAY)
    # A number that was given before, and written after.
    table.documents.insert_many([order(n, DAY) for n in (2, 4)])
    assert table.pending() == {DAY}
    assert table.capture(DAY).rows == {DAY: 4}
    assert len(table.latest()) == 4


def test_elements_of_an_array_are_rows_with_fields_of_their_document(tmp_path: Path) -> None:
    table = MongoCollection(
        tmp_path,
        key=["order_id", "line"],
        extract={"children": "$.items[*]", "partition_by": "sold_on"},
        columns=[
            {"name": "order_id", "from": "$._id", "type": "int"},
            {"name": "line", "from": "{index}", "type": "int"},
            {"name": "sku", "type": "string"},
            {"name": "price", "from": "@.price.amount", "type": "decimal(8,2)"},
            {"name": "sold_on", "from": "$.sold_on", "type": "date"},
        ],
    )
    table.documents.insert_many(
        [
            order(1, DAY, items=[{"sku": "x", "price": {"amount": 1.5}}, {"sku": "y"}]),
            order(2, DAY, items=[]),
            order(3, DAY),
            order(4, NEXT, items=[{"sku": "z"}]),
        ]
    )
    assert table.capture(DAY).rows == {DAY: 2}
    names = ("order_id", "line", "sku", "price", "sold_on")
    assert [tuple(row[name] for name in names) for row in table.rows(DAY)] == [
        (1, 0, "x", 1.5, DAY),
        (1, 1, "y", None, DAY),
    ]
    table.documents.update_one({"_id": 1}, {"$set": {"items": {"sku": "x"}}})
    assert "orders: $.items[*] is an object with sku in a document, and no array" in error(
        table.capture(DAY)
    )


def test_elements_may_be_values_and_documents_whole(tmp_path: Path) -> None:
    table = MongoCollection(
        tmp_path,
        key=["id", "tag"],
        extract={"children": "$.tags", "partition_by": None},
        columns=[
            {"name": "id", "from": "$._id", "type": "int"},
            {"name": "tag", "from": "@", "type": "string"},
        ],
    )
    table.documents.insert_one({"_id": 1, "tags": ["a", "b"], "n": {"x": [1]}})
    table.capture(DAY)
    assert [(row["id"], row["tag"]) for row in table.rows()] == [(1, "a"), (1, "b")]
    whole = MongoCollection(
        tmp_path / "whole",
        extract={"partition_by": None},
        columns=[
            {"name": "id", "from": "_id", "type": "int"},
            {"name": "document", "from": "$", "type": "string"},
        ],
    )
    whole.documents.insert_one({"_id": 1, "tags": ["a", "b"], "n": {"x": None}})
    whole.capture(DAY)
    (row,) = whole.rows()
    assert row["document"] == '{"_id":1,"tags":["a","b"],"n":{"x":null}}'


def test_a_field_that_no_column_reads_is_named_and_may_be_ignored(
    changing: MongoCollection,
) -> None:
    change(changing, 2, note="x", tags=["y"])
    said = error(changing.capture(DAY))
    assert "orders: column 'note' is not declared" in said
    assert "extra_columns: ignore" in said
    extract = {**CHANGING["extract"], "extra_columns": "ignore"}
    changing.entity = changing.declare(**{**CHANGING, "extract": extract})
    assert changing.capture(DAY).rows == {DAY: 5}


def test_days_are_those_of_the_declared_time_zone(tmp_path: Path) -> None:
    table = MongoCollection(tmp_path, **{**CHANGING, "timezone": "Europe/Berlin"})
    late = datetime(2017, 1, 1, 23, 30, tzinfo=UTC)
    table.documents.insert_many([order(1, DAY), order(2, DAY, sold_on=late)])
    assert table.pending() == set()
    assert table.capture(DAY).rows == {DAY: 1}
    assert table.pending() == {NEXT}
    assert table.capture(NEXT).rows == {NEXT: 1}


def test_a_wrong_path_is_named_by_the_first_capture(changing: MongoCollection) -> None:
    columns = [*CHANGING["columns"], {"name": "town", "from": "$.address.town", "type": "string"}]
    changing.entity = changing.declare(**{**CHANGING, "columns": columns})
    assert "column '$.address.town' is missing: no document has it" in error(changing.capture(DAY))


def test_a_collection_of_another_database_is_read_by_name(changing: MongoCollection) -> None:
    name = changing.documents.database.name
    extract = {**CHANGING["extract"], "database": name, "collection": "gone"}
    changing.entity = changing.declare(**{**CHANGING, "extract": extract})
    with pytest.raises(SourceRejectedError, match=f"{name}.gone: there is no such collection"):
        changing.capture(DAY)
    extract["collection"] = "orders"
    changing.entity = changing.declare(**{**CHANGING, "extract": extract})
    assert changing.capture(DAY).rows == {DAY: 5}


def test_a_replica_describes_the_moment_of_its_last_write() -> None:
    now, last = datetime(2026, 1, 2), datetime(2026, 1, 1)
    assert horizon_of({"localTime": now}) == now.replace(tzinfo=UTC)
    replica = {"localTime": now, "lastWrite": {"majorityWriteDate": last}}
    assert horizon_of(replica) == last.replace(tzinfo=UTC)


def test_what_a_watermark_does_not_see_is_found_and_repaired(changing: MongoCollection) -> None:
    """Deleted documents, late ones, and changes that leave the cursor alone."""
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    changing.documents.update_many({}, {"$set": {"at": long_ago}})
    changing.capture(DAY, NEXT)
    assert counts(found(changing)) == (0, 0, 0)
    changing.documents.delete_one({"_id": 1})
    changing.documents.update_one({"_id": 2}, {"$set": {"name": {"now": ["x"]}}})
    changing.documents.insert_one(order(11, DAY, at=long_ago))
    assert changing.pending() == set()
    assert counts(found(changing)) == (1, 1, 1)
    assert repair(changing) == {DAY, NEXT}
    assert counts(found(changing)) == (0, 0, 0)
    operations = {key[0]: row["_operation"] for key, row in changing.latest().items()}
    assert {key for key, what in operations.items() if what == "delete"} == {1}
    assert changing.latest()[2,]["name"] == '{"now":["x"]}'


def test_the_watermark_misses_nothing_while_writers_never_stop(changing: MongoCollection) -> None:
    """Writers take their time between the clock and the write, less than the overlap."""
    extract = {**CHANGING["extract"], "overlap": "2s"}
    changing.entity = changing.declare(**{**CHANGING, "extract": extract})
    stop, errors = threading.Event(), []

    def write(number: int) -> None:
        chance = random.Random(number)  # noqa: S311
        try:
            while not stop.is_set():
                key = 100 * number + chance.randint(1, 20)
                late = chance.choice([0, 0, 0.1, 1.2])
                at = datetime.now(UTC)
                time.sleep(late)
                day = (DAY, NEXT)[key % 2]
                fields = order(key, day, at=at, name=chance.choice(["a", "b", None]))
                changing.documents.replace_one({"_id": key}, fields, upsert=True)
        except BaseException as error:  # noqa: BLE001  # the test raises it
            errors.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for _ in range(6):
        changing.capture(DAY, NEXT)
        time.sleep(0.5)
    stop.set()
    for writer in writers:
        writer.join()
    assert errors == []
    changing.capture(DAY, NEXT)
    truth = {(one["_id"],): (one["name"], one["at"]) for one in changing.documents.find()}
    captured = {
        key: (row["name"], row["at"].replace(tzinfo=None)) for key, row in changing.latest().items()
    }
    assert captured == truth
    assert changing.pending() == set()
