"""The planner's statistics after a load."""

from collections.abc import Mapping

import psycopg
import structlog
from psycopg import sql

from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable

# Autovacuum's own threshold.
_SHARE = 0.1
_ANALYZE_ONLY = 180_000

log = structlog.get_logger(__name__)


def analyze_changed(session: Session, table: WarehouseTable, changed: Mapping[str, int]) -> None:
    """Analyze what changed by more than a tenth since it was last analyzed.

    Args:
        session: Outside a transaction.
        table: The table that was published.
        changed: Rows inserted, updated and deleted of each of its months, or of itself.
    """
    try:
        found = session.execute(
            """
            select
                c.relname::text,
                c.relkind = 'p',
                greatest(c.reltuples, 0)::bigint,
                coalesce((
                    select sum(greatest(p.reltuples, 0))
                    from pg_inherits as i
                    join pg_class as p on p.oid = i.inhrelid
                    where i.inhparent = c.oid
                ), 0)::bigint
            from pg_class as c
            join pg_namespace as n on n.oid = c.relnamespace
            where n.nspname = %s and c.relname = any(%s)
            """,
            (table.namespace, [table.name, *changed]),
        ).fetchall()
        for name, is_partitioned, then, of_months in found:
            # Nobody but us analyzes the whole: its months tell what daily loads added up to.
            drift = abs(of_months - then) if is_partitioned else 0
            if max(drift, changed.get(name, 0)) > _SHARE * then:
                only = is_partitioned and session.info.server_version >= _ANALYZE_ONLY
                relation = sql.Identifier(table.namespace, name)
                session.execute(
                    sql.SQL("analyze {}{}").format(sql.SQL("only " if only else ""), relation)
                )
    except psycopg.Error as error:
        # The load is committed; without statistics queries are slower, not wrong.
        log.warning("table_not_analyzed", table=table.label, error=type(error).__name__)
