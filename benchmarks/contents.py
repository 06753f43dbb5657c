"""Compares two warehouses, with natural keys in place of surrogate keys."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from benchmarks.baseline import FOREIGN_KEYS

# Number of differing rows in a message.
_SHOWN = 3

# Surrogate key columns by table, which are not compared.
_SURROGATES = {
    "warehouse.dim_customer": "customer_key",
    "warehouse.dim_product": "product_key",
    "warehouse.dim_location": "location_key",
}
_LISTED = (
    *_SURROGATES,
    "warehouse.dim_date",
    "marts.mart_daily_department",
    "marts.mart_customer_rfm",
    "marts.mart_product_month",
)
_FACTS = "warehouse.fact_sales"

# A sum of hashes does not depend on the order of rows, and counts repeated rows. A key without a
# member gives NULL for the natural key, and so another hash.
_FACTS_BY_DAY = """
select
    sales.date_key,
    count(*) as facts,
    sum(sales.quantity) as quantity,
    sum(sales.sales_value) as sales_value,
    sum(sales.retail_disc) as retail_disc,
    sum(sales.coupon_disc) as coupon_disc,
    sum(sales.coupon_match_disc) as coupon_match_disc,
    sum(hash_record_extended(row(
        customers.customer_id, customers.valid_from, products.product_id, products.valid_from,
        locations.store_id, dates.date,
        sales.basket_id, sales.transaction_timestamp, sales.quantity, sales.sales_value,
        sales.retail_disc, sales.coupon_disc, sales.coupon_match_disc
    ), 0)) as fingerprint
from warehouse.fact_sales as sales
left join warehouse.dim_customer as customers on sales.customer_key = customers.customer_key
left join warehouse.dim_product as products on sales.product_key = products.product_key
left join warehouse.dim_location as locations on sales.location_key = locations.location_key
left join warehouse.dim_date as dates on sales.date_key = dates.date_key
group by sales.date_key
"""

_TYPES = """
select attname, format_type(atttypid, atttypmod)
from pg_attribute
where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
order by attnum
"""

_INDEXED = """
select attname
from pg_index
join pg_attribute on attrelid = indrelid and attnum = indkey[0]
where indrelid = to_regclass(%s) and indisvalid
"""

_TOTALS = """
select
    (
        select sum(published_rows) from platform.partition_ledger
        where asset = 'raw/retail_transactions'
    ) as raw_rows,
    (
        select sum(rows_quarantined) from platform.partition_ledger
        where asset = 'processed/retail_transactions'
    ) as quarantined_rows,
    count(*) as facts,
    sum(sales_value) as net_sales
from warehouse.fact_sales
"""
# Counted in the files: 29 lines have 12.52 of money and no units; all lines have 4,596,039.58.
_YEAR = {
    "raw_rows": 1_469_307,
    "quarantined_rows": 29,
    "facts": 1_469_278,
    "net_sales": Decimal("4596027.06"),
}


@dataclass(frozen=True)
class Difference:
    """A difference between two warehouses.

    Attributes:
        table: Namespace and name.
        what: What differs, with the first few cases of each side.
    """

    table: str
    what: str


def compare(baseline: psycopg.Connection, warehouse: psycopg.Connection) -> list[Difference]:
    """The differences of a warehouse from the baseline's.

    Only the baseline's tables and columns are compared. Facts are compared by day: their number,
    the sum of every measure, and a hash of the rows with natural keys and starts of versions in
    place of surrogate keys. Other tables are compared row by row. Every foreign key of the facts
    must be indexed.
    """
    found = [
        difference
        for table in (*_LISTED, _FACTS)
        for difference in _type_differences(table, baseline, warehouse)
    ]
    if found:
        # Their rows cannot be compared column by column.
        return found
    for table in _LISTED:
        found += _row_differences(table, baseline, warehouse)
    return [*found, *_fact_differences(baseline, warehouse), *_missing_indexes(warehouse)]


def compare_with_year(warehouse: psycopg.Connection) -> list[Difference]:
    """The differences of the platform's totals from those of the demo's year.

    The expected totals are counted in the files, so errors of both baseline and platform are found.
    """
    cursor = warehouse.cursor(row_factory=dict_row)
    found = cursor.execute(_TOTALS).fetchone() or {}
    return [
        Difference("the year", f"{name} is {found.get(name)}, {expected} by the files")
        for name, expected in _YEAR.items()
        if found.get(name) != expected
    ]


def _type_differences(
    table: str, baseline: psycopg.Connection, warehouse: psycopg.Connection
) -> Iterator[Difference]:
    types: dict[str, str] = dict(warehouse.execute(_TYPES, (table,)).fetchall())
    for column, expected in baseline.execute(_TYPES, (table,)):
        found = types.get(column, "missing")
        if found != expected:
            yield Difference(table, f"{column} is {found}, {expected} in the baseline")


def _row_differences(
    table: str, baseline: psycopg.Connection, warehouse: psycopg.Connection
) -> Iterator[Difference]:
    columns = [
        name for name, _ in baseline.execute(_TYPES, (table,)) if name != _SURROGATES.get(table)
    ]
    query = sql.SQL("copy (select {} from {}) to stdout").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(*table.split("."))
    )
    wanted, given = (Counter(_lines(session, query)) for session in (baseline, warehouse))
    if wanted != given:
        missing, extra = wanted - given, given - wanted
        yield Difference(
            table,
            f"{missing.total()} rows are missing ({_some(missing)}), "
            f"{extra.total()} are not in the baseline ({_some(extra)})",
        )


def _lines(session: psycopg.Connection, query: sql.Composed) -> Iterator[bytes]:
    with session.cursor().copy(query) as stream:
        for line in stream:
            yield bytes(line)


def _some(rows: Counter[bytes]) -> str:
    shown = [row.decode().strip().replace("\t", "|") for row in sorted(rows)[:_SHOWN]]
    return "; ".join(shown) or "none"


def _fact_differences(
    baseline: psycopg.Connection, warehouse: psycopg.Connection
) -> Iterator[Difference]:
    wanted, columns = _by_day(baseline)
    given, _ = _by_day(warehouse)
    days = sorted(wanted.keys() | given.keys())
    differing = [day for day in days if wanted.get(day) != given.get(day)]
    for day in differing[:_SHOWN]:
        what = _in_which(columns, wanted.get(day), given.get(day))
        yield Difference(_FACTS, f"{day} ({len(differing)} days differ): {what}")


_Days = dict[int, tuple[object, ...]]


def _by_day(session: psycopg.Connection) -> tuple[_Days, list[str]]:
    cursor = session.execute(_FACTS_BY_DAY)
    names = [column.name for column in cursor.description or ()]
    return {row[0]: row[1:] for row in cursor}, names[1:]


def _in_which(
    columns: Sequence[str],
    wanted: tuple[object, ...] | None,
    given: tuple[object, ...] | None,
) -> str:
    if wanted is None or given is None:
        return "no facts" if given is None else "facts where the baseline has none"
    return ", ".join(
        f"{name} {value}, {expected} in the baseline"
        for name, expected, value in zip(columns, wanted, given, strict=True)
        if value != expected
    )


def _missing_indexes(session: psycopg.Connection) -> Iterator[Difference]:
    indexed = {name for (name,) in session.execute(_INDEXED, (_FACTS,))}
    for key in FOREIGN_KEYS:
        if key not in indexed:
            yield Difference(_FACTS, f"{key} has no index")
