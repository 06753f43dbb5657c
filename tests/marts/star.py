"""A star small enough to read, and what its marts hold, worked out row by row."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from psycopg import sql

from headrace.warehouse.sessions import Session

Rows = set[tuple[object, ...]]

TABLES = (
    """create table warehouse.dim_date (
        date_key int primary key, date date not null, year int, quarter int, month int, day int,
        iso_week int, day_of_week int, is_weekend boolean)""",
    """create table warehouse.dim_customer (
        customer_key bigint, customer_id bigint not null, age text, income text,
        home_ownership text, marital_status text, household_size text, household_comp text,
        kids_count text, valid_from timestamp, valid_to timestamp, is_current boolean)""",
    """create table warehouse.dim_product (
        product_key bigint, product_id bigint not null, manufacturer_id bigint, department text,
        brand text, product_category text, product_type text, package_size text,
        valid_from timestamp, valid_to timestamp, is_current boolean)""",
    """create table warehouse.dim_location (
        location_key bigint, store_id bigint not null, store_name text, region text)""",
    """create table warehouse.fact_sales (
        basket_id bigint not null, customer_key bigint not null, product_key bigint not null,
        location_key bigint not null, date_key int not null,
        transaction_timestamp timestamp not null, quantity int not null,
        sales_value numeric(12,2) not null, retail_disc numeric(12,2) not null,
        coupon_disc numeric(12,2) not null, coupon_match_disc numeric(12,2) not null,
        _run_id text) partition by range (date_key)""",
    *(
        f"""create table warehouse.fact_sales_{month} partition of warehouse.fact_sales
        for values from ({month}01) to ({month + 1}01)"""
        for month in (202212, 202301, 202302, 202303, 202304)
    ),
    """insert into warehouse.dim_date (date_key, date)
    select to_char(day, 'YYYYMMDD')::int, day
    from generate_series('2022-12-01'::timestamp, '2023-04-30', interval '1 day') as day""",
)

# Keys of versions to what they are versions of. 11 and 12 are one product in one department, 21
# and 22 one that moved; 30 has no department, -1 is unknown.
CUSTOMERS = {-1: -1, 101: 1, 102: 1, 201: 2, 301: 3, 401: 4, 501: 5, 601: 6, 701: 7}
PRODUCTS: dict[int, tuple[int, str | None]] = {
    -1: (-1, "Unknown"),
    11: (1, "GROCERY"),
    12: (1, "GROCERY"),
    21: (2, "GROCERY"),
    22: (2, "DRUG GM"),
    30: (3, None),
    40: (4, "DRUG GM"),
    50: (5, "GROCERY"),
}


@dataclass(frozen=True)
class Sale:
    """One row of the fact."""

    day: date
    basket: int
    customer_key: int
    product_key: int
    quantity: int
    sales: Decimal


@dataclass(frozen=True)
class Star:
    """The star in Postgres."""

    session: Session

    def fill(self, sales: Iterable[Sale]) -> None:
        """Members of the dimensions, and these sales in place of all others."""
        self.session.execute(
            "truncate warehouse.dim_customer, warehouse.dim_product, warehouse.dim_location"
        )
        with self.session.cursor() as cursor:
            cursor.executemany(
                "insert into warehouse.dim_customer (customer_key, customer_id) values (%s, %s)",
                list(CUSTOMERS.items()),
            )
            cursor.executemany(
                "insert into warehouse.dim_product (product_key, product_id, department) "
                "values (%s, %s, %s)",
                [(key, *product) for key, product in PRODUCTS.items()],
            )
            cursor.execute(
                "insert into warehouse.dim_location values (9, 330, 'Store 330', 'West')"
            )
        self.sell(sales)

    def sell(self, sales: Iterable[Sale]) -> None:
        """These sales in place of all others."""
        self.session.execute("truncate warehouse.fact_sales")
        with (
            self.session.cursor() as cursor,
            cursor.copy("copy warehouse.fact_sales from stdin") as copy,
        ):
            for sale in sales:
                at = datetime.combine(sale.day, time(12))
                keys = (sale.basket, sale.customer_key, sale.product_key, 9, f"{sale.day:%Y%m%d}")
                copy.write_row((*keys, at, sale.quantity, sale.sales, 0, 0, 0, "run"))

    def mart(self, name: str) -> Rows:
        """All rows of a mart; fails on two that are the same."""
        query = sql.SQL("select * from marts.{}").format(sql.Identifier(name))
        rows = self.session.execute(query).fetchall()
        assert len(rows) == len(set(rows)), f"{name} holds a row twice"
        return set(rows)

    def marts(self) -> dict[str, Rows]:
        """All rows of all marts."""
        return {name: self.mart(name) for name in ORACLES}


def random_sales(seed: int, start: date, end: date, lines: int) -> list[Sale]:
    """Sales of every kind of member; baskets of several lines, some of which span midnight."""
    chosen = random.Random(seed)  # noqa: S311 - test data
    days = [start + timedelta(days=n) for n in range((end - start).days)]
    sales = []
    for basket in range(lines // 4):
        day, customer = chosen.choice(days), chosen.choice([*CUSTOMERS])
        for _ in range(chosen.randint(1, 7)):
            is_next_day = day + timedelta(days=1) < end and chosen.random() < 0.1
            value = Decimal(chosen.randrange(0, 2000)) / 100
            sales.append(
                Sale(
                    day + timedelta(days=int(is_next_day)),
                    basket,
                    customer,
                    chosen.choice([*PRODUCTS]),
                    chosen.randint(0, 3),
                    value,
                )
            )
    return sales


def daily_department(sales: Sequence[Sale]) -> Rows:
    groups = defaultdict(list)
    for sale in sales:
        groups[sale.day, PRODUCTS[sale.product_key][1] or "Unknown"].append(sale)
    return {(*key, *_measures(group)) for key, group in groups.items()}


def product_month(sales: Sequence[Sale]) -> Rows:
    groups = defaultdict(list)
    for sale in sales:
        product, department = PRODUCTS[sale.product_key]
        groups[sale.day.replace(day=1), product, department or "Unknown"].append(sale)
    measures = {key: _measures(group) for key, group in groups.items()}
    rows: Rows = set()
    for (month, product, department), found in measures.items():
        rivals = sorted(
            (-other[3], key[1])
            for key, other in measures.items()
            if (key[0], key[2]) == (month, department)
        )
        rank = rivals.index((-found[3], product)) + 1
        rows.add((month, product, department, *found, rank))
    return rows


def customer_rfm(sales: Sequence[Sale]) -> Rows:
    as_of = max(sale.day for sale in sales) + timedelta(days=1)
    groups = defaultdict(list)
    for sale in sales:
        groups[CUSTOMERS[sale.customer_key]].append(sale)
    groups.pop(-1, None)
    last = {customer: max(sale.day for sale in group) for customer, group in groups.items()}
    recency = {customer: (as_of - day).days for customer, day in last.items()}
    measures = {customer: _measures(group) for customer, group in groups.items()}
    r_score = _fifths({customer: -days for customer, days in recency.items()})
    f_score = _fifths({customer: found[2] for customer, found in measures.items()})
    m_score = _fifths({customer: found[3] for customer, found in measures.items()})
    return {
        (c, last[c], recency[c], *measures[c][2:], r_score[c], f_score[c], m_score[c])
        for c in groups
    }


ORACLES = {
    "mart_daily_department": daily_department,
    "mart_product_month": product_month,
    "mart_customer_rfm": customer_rfm,
}


def expected(sales: Sequence[Sale]) -> dict[str, Rows]:
    """What the marts hold after these sales."""
    return {name: oracle(sales) for name, oracle in ORACLES.items()}


def moved(sales: Iterable[Sale], day: date, by: Decimal) -> list[Sale]:
    """The same sales, but dearer on one day."""
    return [replace(s, sales=s.sales + by) if s.day == day else s for s in sales]


def _measures(sales: Sequence[Sale]) -> tuple[int, int, int, Decimal]:
    """Lines, units, baskets, money."""
    return (
        len(sales),
        sum(sale.quantity for sale in sales),
        len({sale.basket for sale in sales}),
        sum((sale.sales for sale in sales), Decimal(0)),
    )


def _fifths(values: dict[int, int] | dict[int, Decimal]) -> dict[int, int]:
    """1 to 5 in ascending order, ties by id; the first parts take what does not divide evenly."""
    ranked = sorted(values, key=lambda customer: (values[customer], customer))
    size, rest = divmod(len(ranked), 5)
    scores = {}
    for part in range(1, 6):
        take = size + (part <= rest)
        scores.update(dict.fromkeys(ranked[:take], part))
        ranked = ranked[take:]
    return scores
