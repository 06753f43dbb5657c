"""What every store promises, through the library."""

import multiprocessing
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from headrace.errors import IncompatibleSchemaError
from headrace.schema import Column, TableSchema
from tests.contract.stores import DAY, PartitionStore, Row

pytestmark = pytest.mark.contract

SALES = TableSchema((Column("sale", "int"), Column("amount", "decimal(10,2)"), Column(DAY, "date")))
FIRST = date(2017, 1, 1)
Days = Mapping[date, Sequence[Row]]


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def sale(on: date, number: int, amount: str = "1.00") -> Row:
    return {"sale": number, "amount": Decimal(amount), DAY: on}


def sales(on: date, count: int, amount: str = "1.00") -> list[Row]:
    return [sale(on, number, amount) for number in range(count)]


def published(store: PartitionStore, days: Collection[date] | None = None) -> list[Row]:
    rows: list[Row] = store.read(days).to_pylist()
    return sorted(rows, key=lambda row: (str(row[DAY]), str(row["sale"]).zfill(9)))


def test_a_published_day_is_read_back(store: PartitionStore) -> None:
    store.publish({day(0): [sale(day(0), 1), sale(day(0), 2)]}, SALES)
    assert published(store, [day(0)]) == [sale(day(0), 1), sale(day(0), 2)]


def test_many_days_are_published_at_once_and_read_alone_together_or_all(
    store: PartitionStore,
) -> None:
    store.publish({day(n): [sale(day(n), n)] for n in range(40)}, SALES)
    assert published(store, [day(7)]) == [sale(day(7), 7)]
    assert published(store, [day(3), day(30)]) == [sale(day(3), 3), sale(day(30), 30)]
    assert published(store, [day(n) for n in range(10, 20)]) == [
        sale(day(n), n) for n in range(10, 20)
    ]
    assert published(store) == [sale(day(n), n) for n in range(40)]


def test_days_one_by_one_give_the_same_table_as_all_at_once(store: PartitionStore) -> None:
    days = {day(n): sales(day(n), n) for n in range(4)}
    store.publish(days, SALES)
    at_once = published(store)
    store.publish({on: [] for on in days}, SALES)
    for on in reversed(days):
        store.publish({on: days[on]}, SALES)
    assert published(store) == at_once
    assert len(at_once) == 6


def test_publishing_again_changes_nothing(store: PartitionStore) -> None:
    days = {day(0): sales(day(0), 3), day(1): sales(day(1), 2)}
    store.publish(days, SALES)
    before = published(store)
    store.publish(days, SALES)
    assert published(store) == before
    assert len(before) == 5


def test_a_day_is_replaced_by_fewer_rows(store: PartitionStore) -> None:
    store.publish({day(0): sales(day(0), 5)}, SALES)
    store.publish({day(0): [sale(day(0), 9)]}, SALES)
    assert published(store) == [sale(day(0), 9)]


def test_an_empty_day_is_a_state(store: PartitionStore) -> None:
    store.publish({day(0): sales(day(0), 2), day(1): sales(day(1), 2)}, SALES)
    store.publish({day(0): []}, SALES)
    assert published(store, [day(0)]) == []
    assert published(store) == sales(day(1), 2)


def test_a_first_day_without_rows_makes_an_empty_table(store: PartitionStore) -> None:
    store.publish({day(0): []}, SALES)
    assert store.read().num_rows == 0
    assert set(SALES.names) == set(store.read().column_names)


def test_replacing_days_leaves_their_neighbours_alone(store: PartitionStore) -> None:
    store.publish({day(n): sales(day(n), 2) for n in range(5)}, SALES)
    store.publish({day(1): [sale(day(1), 7)], day(3): []}, SALES)
    expected = [*sales(day(0), 2), sale(day(1), 7), *sales(day(2), 2), *sales(day(4), 2)]
    assert published(store) == expected


def test_a_gap_between_published_days_stays_a_gap(store: PartitionStore) -> None:
    store.publish({day(0): sales(day(0), 1), day(9): sales(day(9), 1)}, SALES)
    assert published(store, [day(n) for n in range(10)]) == [sale(day(0), 0), sale(day(9), 0)]
    assert published(store, [day(5)]) == []
    store.publish({day(4): sales(day(4), 1)}, SALES)
    assert [row[DAY] for row in published(store)] == [day(0), day(4), day(9)]


def test_values_of_every_type_come_back_as_they_were(store: PartitionStore) -> None:
    schema = TableSchema(
        (
            Column("sale", "int"),
            Column("text", "string"),
            Column("yes", "boolean"),
            Column("small", "int"),
            Column("large", "bigint"),
            Column("ratio", "double"),
            Column("on", "date"),
            Column("at", "timestamp"),
            Column("instant", "timestamptz"),
            Column("money", "decimal(18,4)"),
            Column("tags", "list<string>"),
            Column(DAY, "date"),
        )
    )
    full: Row = {
        "sale": 1,
        "text": "ü\t\"',\\N\n",
        "yes": True,
        "small": -(2**31),
        "large": 2**63 - 1,
        "ratio": 0.1,
        "on": date(1, 1, 1),
        "at": datetime(2017, 3, 26, 2, 30, 0, 123456),  # wall-clock time
        "instant": datetime(2017, 3, 26, 1, 30, 0, 1, tzinfo=UTC),
        "money": Decimal("-12345678901234.5678"),
        "tags": ["a", "", 'b,"c"'],
        DAY: day(0),
    }
    empty: Row = {**full, "sale": 2, "text": "", "tags": []}
    nothing: Row = {**dict.fromkeys(schema.names), "sale": 3, DAY: day(0)}
    store.publish({day(0): [full, empty, nothing]}, schema)
    found = store.read()
    by_text = sorted(found.to_pylist(), key=lambda row: (row["text"] is not None, row["text"]))
    assert by_text == [nothing, empty, full]
    assert {name: found.schema.field(name).type for name in schema.names} == {
        field.name: field.type for field in schema.arrow()
    }


def test_a_new_nullable_column_is_null_in_rows_published_before(store: PartitionStore) -> None:
    store.publish({day(0): [sale(day(0), 1)]}, SALES)
    wider = SALES.plus([Column("shop", "string")])
    store.publish({day(1): [{**sale(day(1), 2), "shop": "north"}]}, wider)
    assert published(store) == [
        {**sale(day(0), 1), "shop": None},
        {**sale(day(1), 2), "shop": "north"},
    ]
    assert published(store, [day(0)]) == [{**sale(day(0), 1), "shop": None}]


def test_a_column_that_is_no_longer_published_stays_and_is_null_in_new_rows(
    store: PartitionStore,
) -> None:
    store.publish({day(0): [sale(day(0), 1)]}, SALES)
    store.publish({day(1): [{"sale": 2, DAY: day(1)}]}, SALES.without("amount"))
    assert published(store) == [sale(day(0), 1), {"sale": 2, "amount": None, DAY: day(1)}]


def test_a_type_that_holds_more_takes_the_place_of_the_old_one(store: PartitionStore) -> None:
    store.publish({day(0): [sale(day(0), 1)]}, SALES)
    wider = TableSchema(
        (Column("sale", "bigint"), Column("amount", "decimal(14,2)"), Column(DAY, "date"))
    )
    large = sale(day(1), 2**40, "123456789012.34")
    store.publish({day(1): [large]}, wider)
    assert published(store) == [sale(day(0), 1), large]
    assert published(store, [day(0)]) == [sale(day(0), 1)]


@pytest.mark.parametrize(
    ("column", "new_type"), [("sale", "string"), ("amount", "decimal(10,3)"), ("sale", "date")]
)
def test_an_incompatible_type_is_refused_by_name(
    store: PartitionStore, column: str, new_type: str
) -> None:
    store.publish({day(0): [sale(day(0), 1)]}, SALES)
    old_type = SALES.column(column).type
    other = TableSchema(tuple(Column(c.name, new_type) if c.name == column else c for c in SALES))
    with pytest.raises(IncompatibleSchemaError) as refused:
        store.publish({day(0): [{DAY: day(0)}], day(1): [{DAY: day(1)}]}, other)
    for named in (store.key[-1], f"'{column}'", old_type, new_type):
        assert named in str(refused.value)
    assert refused.value.fix
    assert published(store) == [sale(day(0), 1)]


def publish_sales(store: PartitionStore, on: Sequence[date], count: int, amount: str) -> None:
    store.publish({d: sales(d, count, amount) for d in on}, SALES)


def test_processes_that_publish_different_days_at_once_lose_none(
    store: PartitionStore, processes: ProcessPoolExecutor
) -> None:
    # Nobody has made the table yet: the processes also race for that.
    work = [
        processes.submit(publish_sales, store, [day(2 * n), day(2 * n + 1)], 3, "2.00")
        for n in range(6)
    ]
    for done in work:
        done.result(timeout=180)
    assert published(store) == [row for n in range(12) for row in sales(day(n), 3, "2.00")]


def test_threads_that_publish_different_days_at_once_lose_none(store: PartitionStore) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: publish_sales(store, [day(n)], 2, "3.00"), range(12)))
    assert published(store) == [row for n in range(12) for row in sales(day(n), 2, "3.00")]


def test_of_those_who_publish_the_same_days_at_once_one_wins_whole(
    store: PartitionStore, processes: ProcessPoolExecutor
) -> None:
    days = [day(0), day(1), day(2)]
    work = [processes.submit(publish_sales, store, days, n, f"{n}.00") for n in range(1, 7)]
    for done in work:
        done.result(timeout=180)
    rows = published(store)
    winner = len(rows) // len(days)
    assert rows == [row for d in days for row in sales(d, winner, f"{winner}.00")]


def publish_for_ever(store: PartitionStore, on: Sequence[date], amounts: Sequence[str]) -> None:
    while True:
        for amount in amounts:
            publish_sales(store, on, 2, amount)


def test_readers_and_a_kill_find_the_state_before_or_after(store: PartitionStore) -> None:
    days = [day(n) for n in range(8)]
    states = [[row for d in days for row in sales(d, 2, a)] for a in ("1.00", "2.00")]
    publish_sales(store, days, 2, "1.00")
    context = multiprocessing.get_context("spawn")
    writer = context.Process(
        target=publish_for_ever, args=(store, days, ("2.00", "1.00")), daemon=True
    )
    writer.start()
    seen: set[int] = set()
    try:
        until = time.monotonic() + 120
        while len(seen) < 2 and time.monotonic() < until:
            found = published(store)
            assert found in states
            seen.add(states.index(found))
    finally:
        writer.kill()
        writer.join()
    assert seen == {0, 1}, "the writer was not seen to publish"
    assert published(store) in states
    publish_sales(store, days, 2, "1.00")
    assert published(store) == states[0]
