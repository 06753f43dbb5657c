"""Which days of a load are not published as they are already.

Belongs here: comparing staged with published rows inside Postgres.
Elsewhere: writing the days that differ (headrace.warehouse.publishing).
"""

from collections.abc import Sequence
from datetime import date

from psycopg import sql

from headrace.warehouse.sessions import Session


def differing_days(
    session: Session,
    published: sql.Identifier,
    staged: sql.Identifier,
    columns: Sequence[str],
    days: tuple[sql.Identifier, Sequence[date | int]],
) -> list[date | int]:
    """The days whose staged rows are not, as a bag, the published ones.

    A rerun that changes nothing so writes nothing: replacing an equal year took four times as
    long as comparing it, and left as many dead rows behind.

    Args:
        session: Where the load is published.
        published: Table with the published rows.
        staged: Table with the staged rows.
        columns: Columns of both.
        days: The partition column, and its values that are looked at.
    """
    day, values = days
    # The outer hash is what makes it safe: a row's hash is linear in its columns', so a plain sum
    # would not see two rows that swap a value.
    fingerprints = sql.SQL(
        "select {day} as day, count(*) as rows,"
        " sum(hashint8extended(hash_record_extended(row({columns}), 0), 0)) as hash"
        " from {relation} where {day} = any(%(days)s) group by 1"
    )
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL(
        "with published as ({}), staged as ({})"
        " select day from published full join staged using (day)"
        " where (published.rows, published.hash) is distinct from (staged.rows, staged.hash)"
        " order by day"
    ).format(
        fingerprints.format(day=day, columns=listed, relation=published),
        fingerprints.format(day=day, columns=listed, relation=staged),
    )
    return [row[0] for row in session.execute(query, {"days": list(values)})]
