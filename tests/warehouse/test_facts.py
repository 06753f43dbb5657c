"""Days of a partitioned table."""

from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from headrace.date_keys import date_key
from headrace.errors import ConfigError, HeadraceError, UnknownColumnError
from headrace.schema import Column, TableSchema
from headrace.warehouse.sessions import RowsRefusedError, Session
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import (
    FACT,
    arrow,
    day,
    load,
    published,
    rows_of,
    sale,
    sales,
    stage,
    staging_tables,
)


def test_staged_rows_are_not_visible_before_they_are_published(
    warehouse: Warehouse, session: Session
) -> None:
    days = {day(0): sales(day(0), 3), day(2): sales(day(2), 2)}
    staged = stage(warehouse, days)
    assert session.execute("select to_regclass('warehouse.fact_sales')").fetchone() == (None,)
    assert staged.rows_by_day == {day(0): 3, day(2): 2}
    warehouse.publish([staged])
    assert published(session) == rows_of(days)


def test_every_row_of_every_slice_arrives_once(warehouse: Warehouse, session: Session) -> None:
    # More slices than sessions, months that come in pieces, and one that comes whole.
    days = [date(2017, 1, 1) + timedelta(days=n) for n in range(120)]
    rows = {on: sales(on, number + 1) for number, on in enumerate(days)}
    pieces = [days[start : start + 9] for start in range(0, 63, 9)] + [days[63:]]
    slices = (
        (piece, arrow(FACT, [row for on in piece for row in rows[on]]).to_reader())
        for piece in pieces
    )
    warehouse.publish([warehouse.stage(FACT, days, slices)])
    assert published(session) == rows_of(rows)


def test_replacing_days_leaves_their_neighbours_alone(
    warehouse: Warehouse, session: Session
) -> None:
    rows = {day(n): sales(day(n), 2) for n in range(4)}
    load(warehouse, rows)
    changed = {day(1): sales(day(1), 1, "9.00"), day(2): []}
    publication = load(warehouse, changed)
    assert published(session) == rows_of(rows | changed)
    counts = (publication.rows_deleted, publication.rows_inserted, publication.rows_updated)
    assert counts == (3, 0, 1)
    assert publication.changed_days == {day(1): 2, day(2): 2}


def test_a_year_at_once_and_its_days_one_by_one_give_the_same_rows(
    warehouse: Warehouse, session: Session
) -> None:
    rows = {day(n): sales(day(n), n % 3) for n in range(0, 40, 3)}
    for on in reversed(rows):
        load(warehouse, {on: rows[on]})
    one_by_one = published(session)
    load(warehouse, {on: [] for on in rows})
    assert published(session) == []
    load(warehouse, rows)
    assert published(session) == one_by_one == rows_of(rows)


def test_a_month_gets_a_table_and_every_index_of_its_parent(
    warehouse: Warehouse, session: Session
) -> None:
    load(warehouse, {day(0): sales(day(0), 1), day(2): sales(day(2), 1)})
    load(warehouse, {day(40): sales(day(40), 1)})
    found = session.execute(
        """
        select c.relname::text, pg_get_expr(c.relpartbound, c.oid), (
            select array_agg(x.indexrelid::regclass::text order by 1)
            from pg_index as x
            join pg_inherits as j on j.inhrelid = x.indexrelid
            where x.indrelid = c.oid
        )
        from pg_inherits as i
        join pg_class as c on c.oid = i.inhrelid
        where i.inhparent = 'warehouse.fact_sales'::regclass
        order by 1
        """
    ).fetchall()
    bounds = {name: bound for name, bound, _ in found}
    assert bounds == {
        "fact_sales__2017_01": "FOR VALUES FROM (20170101) TO (20170201)",
        "fact_sales__2017_02": "FOR VALUES FROM (20170201) TO (20170301)",
        "fact_sales__2017_03": "FOR VALUES FROM (20170301) TO (20170401)",
    }
    for name, _, indexes in found:
        assert sorted(indexes) == [f"warehouse.{name}__date_key", f"warehouse.{name}__product_key"]


def test_staged_months_are_attached_without_copying_their_rows(
    warehouse: Warehouse, session: Session
) -> None:
    staged = stage(warehouse, {day(0): sales(day(0), 5)})
    file = "select pg_relation_filepath(%s::regclass)"
    before = session.execute(file, (f'staging."{staged.parts[0].name}"',)).fetchone()
    warehouse.publish([staged])
    assert session.execute(file, ("warehouse.fact_sales__2017_01",)).fetchone() == before


def test_loading_the_same_rows_again_writes_nothing(warehouse: Warehouse, session: Session) -> None:
    rows = {day(n): sales(day(n), 3) for n in range(5)}
    load(warehouse, rows)
    where = "select tableoid, ctid, xmin from warehouse.fact_sales order by 1, 2"
    before = session.execute(where).fetchall()
    again = load(warehouse, rows)
    assert session.execute(where).fetchall() == before
    assert (again.rows_deleted, again.rows_inserted) == (0, 0)


def test_two_rows_that_swap_a_value_are_a_change(warehouse: Warehouse, session: Session) -> None:
    # Many days, because sums of hashes that are linear in the columns miss some of them only.
    amounts = [(f"{n}.00", f"{n * n + 5}.00") for n in range(20)]
    days = {day(n): [sale(day(n), 1, a), sale(day(n), 2, b)] for n, (a, b) in enumerate(amounts)}
    swapped = {day(n): [sale(day(n), 1, b), sale(day(n), 2, a)] for n, (a, b) in enumerate(amounts)}
    load(warehouse, days)
    load(warehouse, swapped)
    assert published(session) == rows_of(swapped)


def test_a_row_given_twice_and_a_null_are_kept_and_compared(
    warehouse: Warehouse, session: Session
) -> None:
    twice = {day(0): [sale(day(0), 1, None), sale(day(0), 1, None)]}
    load(warehouse, twice)
    assert load(warehouse, twice).rows_inserted == 0
    load(warehouse, {day(0): [sale(day(0), 1, None)]})
    assert len(published(session)) == 1


def test_days_may_be_dates(warehouse: Warehouse, session: Session) -> None:
    table = WarehouseTable(
        "warehouse",
        "fact_visits",
        TableSchema((Column("on", "date"), Column("visits", "int"))),
        primary_key=("on",),
        partition_column="on",
    )
    days = [date(2016, 12, 31), date(2017, 1, 1)]
    load(warehouse, {on: [{"on": on, "visits": 1}] for on in days}, table)
    load(warehouse, {days[1]: [{"on": days[1], "visits": 2}]}, table)
    rows = session.execute("select * from warehouse.fact_visits order by 1").fetchall()
    assert rows == [(days[0], 1), (days[1], 2)]


@pytest.mark.parametrize("into_existing_month", [False, True])
def test_a_row_of_a_day_that_is_not_loaded_is_refused_by_its_day(
    warehouse: Warehouse, session: Session, *, into_existing_month: bool
) -> None:
    before = {day(0): sales(day(0), 1)}
    load(warehouse, before)
    wanted = day(1) if into_existing_month else day(50)
    with pytest.raises(RowsRefusedError, match=str(date_key(day(3)))):
        stage(warehouse, {wanted: [sale(wanted, 1), sale(day(3), 2)]})
    assert published(session) == rows_of(before)
    assert staging_tables(session) == []


def test_a_row_without_a_day_is_refused(warehouse: Warehouse) -> None:
    with pytest.raises(RowsRefusedError, match="None in column date_key"):
        stage(warehouse, {day(0): [{**sale(day(0), 1), "date_key": None}]})


@pytest.mark.parametrize(
    ("column", "values", "error"),
    [
        ("product_key", pa.array([None], pa.int64()), RowsRefusedError),
        ("amount", pa.array([Decimal("12345678901.00")]), RowsRefusedError),
        ("amount", pa.array([1.5]), HeadraceError),
        ("product_key", pa.array(["secret"]), HeadraceError),
        ("product_key", pa.array([2**63], pa.uint64()), RowsRefusedError),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_table_and_column_without_their_values(
    warehouse: Warehouse,
    session: Session,
    column: str,
    values: pa.Array,
    error: type[HeadraceError],
) -> None:
    good = arrow(FACT, [sale(day(0), 987654321)])
    bad = good.set_column(good.column_names.index(column), column, values)
    with pytest.raises(error) as refused:
        warehouse.stage(FACT, [day(0)], [([day(0)], bad.to_reader())])
    text = f"{refused.value} {refused.value.fix}"
    assert "fact_sales" in text
    assert column in text
    for secret in ("987654321", "12345678901", "secret", "9223372036854775808"):
        assert secret not in text
    assert refused.value.__cause__ is None
    assert staging_tables(session) == []


def test_text_with_a_zero_byte_is_refused(warehouse: Warehouse) -> None:
    table = WarehouseTable(
        "w", "t", TableSchema((Column("text", "string"),)), mode="truncate_and_load"
    )
    with pytest.raises(RowsRefusedError, match=r"w\.t.*column text"):
        warehouse.stage(table, (), [((), pa.table({"text": ["a\0b"]}).to_reader())])


def test_missing_and_unknown_columns_are_named(warehouse: Warehouse) -> None:
    rows = arrow(FACT, [sale(day(0), 1)]).rename_columns(["date_key", "product_key", "price"])
    message = r"missing from the rows: \['amount'\]; unknown columns: \['price'\]"
    with pytest.raises(UnknownColumnError, match=message):
        warehouse.stage(FACT, [day(0)], [([day(0)], rows.to_reader())])


def test_a_key_given_twice_within_a_day_is_refused(warehouse: Warehouse, session: Session) -> None:
    keyed = WarehouseTable(
        FACT.namespace,
        FACT.name,
        FACT.schema,
        primary_key=("date_key", "product_key"),
        partition_column="date_key",
    )
    before = {day(0): sales(day(0), 3)}
    load(warehouse, before, keyed)
    for wanted in (day(0), day(40)):  # rows that are inserted, and a table that is attached
        with pytest.raises(RowsRefusedError, match="UniqueViolation"):
            load(warehouse, {wanted: [sale(wanted, 7), sale(wanted, 7)]}, keyed)
    assert published(session) == rows_of(before)
    assert staging_tables(session) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "upsert", "partition_column": None},
        {"mode": "upsert", "primary_key": ("date_key",)},
        {"partition_column": None},
        {"partition_column": "amount"},
        {"primary_key": ("product_key",)},
        {"name": "n" * 51},
    ],
)
def test_a_declaration_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    given = {"namespace": "w", "name": "t", "schema": FACT.schema, "partition_column": "date_key"}
    with pytest.raises(ConfigError, match=r"w\."):
        WarehouseTable(**(given | wrong))  # type: ignore[arg-type]
