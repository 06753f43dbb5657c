"""Tables without partitions: made equal to what is loaded, or loaded anew."""

import pyarrow as pa
import pytest

from headrace.schema import Column, TableSchema
from headrace.warehouse.sessions import RowsRefusedError, Session
from headrace.warehouse.tables import WarehouseTable
from headrace.warehouse.warehouse import Warehouse
from tests.warehouse.sales import PRODUCT, Row, arrow, load_all, published, staging_tables

TABLE = "warehouse.dim_product"
RELOADED = WarehouseTable(
    PRODUCT.namespace,
    PRODUCT.name,
    PRODUCT.schema,
    primary_key=PRODUCT.primary_key,
    mode="truncate_and_load",
)


def product(key: int, brand: str | None) -> Row:
    return {"product_key": key, "brand": brand}


def test_upsert_writes_only_what_differs(warehouse: Warehouse, session: Session) -> None:
    load_all(warehouse, [product(n, "a") for n in range(5)])
    versions = row_versions(session)
    changed = [product(0, "a"), product(1, "b"), product(2, None), product(9, "z")]
    publication = load_all(warehouse, changed)
    assert (publication.rows_inserted, publication.rows_updated, publication.rows_deleted) == (
        1,
        2,
        2,
    )
    assert published(session, TABLE) == [(0, "a"), (1, "b"), (2, None), (9, "z")]
    assert row_versions(session)[0] == versions[0]
    assert row_versions(session)[1] != versions[1]
    again = load_all(warehouse, changed)
    assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)


def test_a_null_that_gets_a_value_and_back_is_a_change(
    warehouse: Warehouse, session: Session
) -> None:
    for brand in (None, "a", None):
        load_all(warehouse, [product(1, brand)])
        assert published(session, TABLE) == [(1, brand)]


def test_a_key_of_several_columns_is_compared_column_by_column(
    warehouse: Warehouse, session: Session
) -> None:
    table = WarehouseTable(
        "warehouse",
        "dim_shop",
        TableSchema((Column("a", "string"), Column("b", "string"), Column("n", "int"))),
        primary_key=("a", "b"),
        mode="upsert",
    )
    rows = [{"a": "x", "b": "yz", "n": 1}, {"a": "xy", "b": "z", "n": 2}]
    load_all(warehouse, rows, table)
    load_all(warehouse, [rows[0] | {"n": 3}, rows[1]], table)
    found = session.execute("select * from warehouse.dim_shop order by n").fetchall()
    assert found == [("xy", "z", 2), ("x", "yz", 3)]


def test_a_table_of_keys_alone_can_be_upserted(warehouse: Warehouse, session: Session) -> None:
    table = WarehouseTable(
        "warehouse", "keys", TableSchema((Column("k", "int"),)), primary_key=("k",), mode="upsert"
    )
    load_all(warehouse, [{"k": 1}, {"k": 2}], table)
    load_all(warehouse, [{"k": 2}, {"k": 3}], table)
    assert published(session, "warehouse.keys") == [(2,), (3,)]


@pytest.mark.parametrize("table", [PRODUCT, RELOADED])
def test_a_key_given_twice_is_refused_and_changes_nothing(
    warehouse: Warehouse, session: Session, table: WarehouseTable
) -> None:
    load_all(warehouse, [product(1, "a")], table)
    with pytest.raises(RowsRefusedError, match="UniqueViolation") as refused:
        load_all(warehouse, [product(7, "secret"), product(7, "b")], table)
    assert "secret" not in str(refused.value)
    assert published(session, TABLE) == [(1, "a")]
    assert staging_tables(session) == []


def test_truncate_and_load_replaces_all_rows(warehouse: Warehouse, session: Session) -> None:
    for rows in ([(1, "a"), (2, "b")], [(2, "c")], []):
        publication = load_all(warehouse, [product(*row) for row in rows], RELOADED)
        assert published(session, TABLE) == rows
        assert publication.rows_inserted == len(rows)


def test_a_table_that_comes_in_several_slices_arrives_whole(
    warehouse: Warehouse, session: Session
) -> None:
    slices = (
        ((), arrow(PRODUCT, [product(n, str(n)) for n in range(start, start + 10)]).to_reader())
        for start in range(0, 100, 10)
    )
    warehouse.publish([warehouse.stage(PRODUCT, (), slices)])
    assert published(session, TABLE) == [(n, str(n)) for n in range(100)]


def test_a_load_without_any_slice_empties_the_table(warehouse: Warehouse, session: Session) -> None:
    load_all(warehouse, [product(1, "a")])
    warehouse.publish([warehouse.stage(PRODUCT, (), [])])
    assert published(session, TABLE) == []


def test_other_forms_of_strings_and_integers_are_taken(
    warehouse: Warehouse, session: Session
) -> None:
    rows = pa.table(
        {
            "product_key": pa.array([1, 2], pa.int16()),
            "brand": pa.array(["a", None]).dictionary_encode(),
        }
    )
    warehouse.publish([warehouse.stage(PRODUCT, (), [((), rows.to_reader())])])
    assert published(session, TABLE) == [(1, "a"), (2, None)]


def row_versions(session: Session) -> dict[int, str]:
    """The transaction that wrote each row."""
    query = "select product_key, xmin::text from warehouse.dim_product"
    return dict(session.execute(query).fetchall())
