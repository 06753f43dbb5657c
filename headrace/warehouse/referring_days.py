"""Days whose facts point to members that a load changed.

Belongs here: finding them, in the load's own transaction.
Elsewhere: what follows for the marts (headrace.ledger.staleness), changing the members
(headrace.warehouse.keyed_rows).
"""

from datetime import date

from psycopg import sql

from headrace.warehouse.keyed_rows import restated_keys
from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import Reference, WarehouseTable


def days_of_restated_members(
    session: Session, fact: WarehouseTable, day_column: str, reference: Reference
) -> set[date]:
    """Days of the facts that point to rows whose attributes the load changed, in its transaction.

    Args:
        session: That of the load.
        fact: A published fact; one that is not there has no days.
        day_column: Its column with the day as yyyymmdd.
        reference: The foreign key; its dimension had such rows.
    """
    there = session.execute("select to_regclass(%s)", (fact.identifier.as_string(),)).fetchone()
    if there is None or there[0] is None:
        return set()
    query = sql.SQL(
        "select to_date({day}::text, 'YYYYMMDD') from {fact} where {column} in"
        " (select {key} from {restated} where _is_restated) group by {day}"
    ).format(
        day=sql.Identifier(day_column),
        fact=fact.identifier,
        column=sql.Identifier(reference.column),
        key=sql.Identifier(reference.key),
        restated=restated_keys(reference.table),
    )
    return {row[0] for row in session.execute(query)}
