"""Drops and restores the views and policies that depend on a table, in one transaction.

Postgres does not alter the type of a column that a view or a policy reads. Readers see the old
views until the commit, and the new ones after it. Other dependent objects, such as a function with
an SQL body, make Postgres refuse the change with an error that names them.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import structlog
from psycopg import sql

from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable

# Relation and number of some columns, in the table and in its months.
_COLUMNS = """
    select coalesce(array_agg(attrelid), '{}'), coalesce(array_agg(attnum::int), '{}')
    from pg_attribute
    where attname = any(%(columns)s) and not attisdropped
        and (attrelid = to_regclass(%(table)s) or attrelid in (
            select inhrelid from pg_inherits where inhparent = to_regclass(%(table)s)
        ))
"""
# The statements that drop and create each view that reads the given columns, also through other
# views, in the order of their dependencies. They include privileges, comments and indexes.
_VIEWS = """
    with recursive dependent as (
        select r.ev_class as view, 1 as depth
        from unnest(%(relations)s::oid[], %(numbers)s::int[]) as read (relation, number)
        join pg_depend as d on d.refclassid = 'pg_class'::regclass
            and d.refobjid = read.relation and d.refobjsubid = read.number
        join pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        union
        select r.ev_class, v.depth + 1
        from dependent as v
        join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = v.view
        join pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        where r.ev_class <> v.view
    ), named as (
        select c.*, found.depth, format('%%I.%%I', n.nspname, c.relname) as name,
            case c.relkind when 'm' then 'materialized view' else 'view' end as kind
        from (select view, max(depth) as depth from dependent group by view) as found
        join pg_class as c on c.oid = found.view
        join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind in ('v', 'm')
    )
    select format('drop %%s %%s', kind, name),
        array[format('create %%s %%s%%s as %%s%%s', kind, name,
            ' with (' || array_to_string(reloptions, ', ') || ')',
            rtrim(pg_get_viewdef(oid), ';'),
            case when not relispopulated then ' with no data' end)]
        || array(
            select pg_get_indexdef(indexrelid) from pg_index where indrelid = v.oid
            order by indexrelid
        ) || array(
            select format('grant %%s on %%s to %%s%%s', a.privilege_type, name,
                case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
                case when a.is_grantable then ' with grant option' end)
            from aclexplode(relacl) as a where a.grantee <> relowner
        ) || array(
            select case when d.objsubid = 0 then format('comment on %%s %%s is %%L', kind, name,
                    d.description)
                else format('comment on column %%s.%%I is %%L', name, a.attname, d.description) end
            from pg_description as d
            left join pg_attribute as a on a.attrelid = d.objoid and a.attnum = d.objsubid
            where d.classoid = 'pg_class'::regclass and d.objoid = v.oid
        ) || case when relowner <> current_user::regrole then
            array[format('alter %%s %%s owner to %%s', kind, name, relowner::regrole)]
        end
    from named as v
    order by depth, oid
"""
_CREATE_POLICY = """
    format('create policy %%I on %%s as %%s for %%s to %%s%%s%%s',
        p.polname, p.polrelid::regclass,
        case when p.polpermissive then 'permissive' else 'restrictive' end,
        case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
            when 'd' then 'delete' else 'all' end,
        array_to_string(array(
            select case role when 0 then 'public' else role::regrole::text end
            from unnest(p.polroles) as role
        ), ', '),
        ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
        ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
"""
_POLICIES = f"""
    select distinct format('drop policy %%I on %%s', p.polname, p.polrelid::regclass),
        array[{_CREATE_POLICY}]
    from unnest(%(relations)s::oid[], %(numbers)s::int[]) as read (relation, number)
    join pg_depend as d on d.refclassid = 'pg_class'::regclass
        and d.refobjid = read.relation and d.refobjsubid = read.number
    join pg_policy as p on d.classid = 'pg_policy'::regclass and p.oid = d.objid
"""  # noqa: S608  # of constants alone

# For a table that is dropped: all of its columns, and number 0, on which `count(*)` depends.
_ALL_COLUMNS = """
    with relations as (
        select to_regclass(%(table)s)::oid as relation
        union
        select inhrelid from pg_inherits where inhparent = to_regclass(%(table)s)
    ), read as (
        select attrelid as relation, attnum::int as number
        from pg_attribute where attrelid in (select relation from relations) and not attisdropped
        union
        select relation, 0 from relations
    )
    select coalesce(array_agg(relation), '{}'), coalesce(array_agg(number), '{}') from read
"""
# Its own policies, and those of other tables that read it: table, roles and CREATE statement.
_ALL_POLICIES = f"""
    select p.polrelid::regclass::text,
        array(select role::regrole::text from unnest(p.polroles) as role where role <> 0),
        {_CREATE_POLICY}
    from pg_policy as p
    where p.polrelid = to_regclass(%(table)s) or p.oid in (
        select d.objid
        from unnest(%(relations)s::oid[], %(numbers)s::int[]) as read (relation, number)
        join pg_depend as d on d.refclassid = 'pg_class'::regclass
            and d.refobjid = read.relation and d.refobjsubid = read.number
        where d.classid = 'pg_policy'::regclass
    )
    order by 1, 3
"""  # noqa: S608  # of constants alone
_PRIVILEGES = """
    select format('grant %%s%%s on %%s to %%s%%s', a.privilege_type, of.columns, c.oid::regclass,
        case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
        case when a.is_grantable then ' with grant option' end)
    from pg_class as c
    cross join lateral (
        select relacl as acl, '' as columns where relacl is not null
        union all
        select attacl, format(' (%%I)', attname) from pg_attribute
        where attrelid = c.oid and attacl is not null and not attisdropped
    ) as of
    cross join lateral aclexplode(of.acl) as a
    where c.oid = to_regclass(%(table)s) and a.grantee <> c.relowner
    union all
    select format('alter table %%s enable row level security', oid::regclass)
    from pg_class where oid = to_regclass(%(table)s) and relrowsecurity
    union all
    select format('alter table %%s force row level security', oid::regclass)
    from pg_class where oid = to_regclass(%(table)s) and relforcerowsecurity
    union all
    select format('alter table %%s add constraint %%I %%s', conrelid::regclass, conname,
        pg_get_constraintdef(oid))
    from pg_constraint
    where confrelid = to_regclass(%(table)s) and contype = 'f' and conparentid = 0
"""
# Revokes what default privileges granted on the new table.
_REVOKED = """
    select format('revoke all on %%s from %%s', c.oid::regclass,
        case a.grantee when 0 then 'public' else a.grantee::regrole::text end)
    from pg_class as c cross join lateral aclexplode(c.relacl) as a
    where c.oid = to_regclass(%(table)s) and a.grantee <> c.relowner
"""
# A statement refers to a column that no longer exists, or has another type.
_REFERS_TO_DROPPED = (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Dependents:
    """The objects that are dropped with a table, as statements that restore them.

    Attributes:
        table: The quoted name.
        views: Statements of each view that reads it, in the order of their dependencies.
        policies: Table, roles and CREATE statement of each policy.
        statements: Privileges, row-level security, and foreign keys of other tables.
    """

    table: str
    views: Sequence[Sequence[str]]
    policies: Sequence[tuple[str, Sequence[str], str]]
    statements: Sequence[str]

    @classmethod
    def of(cls, session: Session, table: WarehouseTable) -> "Dependents":
        """The dependents of a table that exists."""
        name = table.identifier.as_string(session)
        found = session.execute(_ALL_COLUMNS, {"table": name}).fetchone() or ([], [])
        read = {"table": name, **dict(zip(("relations", "numbers"), found, strict=True))}
        return cls(
            name,
            [creates for _, creates in session.execute(_VIEWS, read).fetchall()],
            session.execute(_ALL_POLICIES, read).fetchall(),
            [row[0] for row in session.execute(_PRIVILEGES, read).fetchall()],
        )


def restore(session: Session, dependents: Sequence[Dependents]) -> None:
    """Restore the dependents of dropped tables on the new tables of the same names.

    A view whose columns no longer exist is not restored, with a warning. If a policy cannot be
    restored, its roles lose their privileges on the table: they would see all of its rows.
    """
    views: list[Sequence[str]] = []
    for each in dependents:
        for (revoke,) in session.execute(_REVOKED, {"table": each.table}).fetchall():
            session.execute(sql.SQL(revoke))
        for statement in each.statements:
            _try(session, [statement])
        for table, roles, create in each.policies:
            if not _try(session, [create]):
                _revoke(session, table, roles)
        views += each.views
    # A view of one table may read a view of another: repeat until none can be created.
    while created := [view for view in views if _try(session, view)]:
        views = [view for view in views if view not in created]
    for view in views:
        log.warning("view_not_restored", view=view[0].split(" as ")[0].split(" with ")[0])


def _try(session: Session, statements: Sequence[str]) -> bool:
    try:
        with session.transaction():
            for statement in statements:
                session.execute(sql.SQL(statement))
    except _REFERS_TO_DROPPED:
        return False
    return True


def _revoke(session: Session, table: str, roles: Sequence[str]) -> None:
    names = ", ".join(roles) or "public"
    session.execute(sql.SQL(f"revoke all on {table} from {names}"))
    log.warning("policy_not_restored", table=table, roles=names)


@contextmanager
def without_dependents(
    session: Session, table: WarehouseTable, columns: Collection[str]
) -> Iterator[None]:
    """Drop the views and policies that read the columns; restore them after the block."""
    if not columns:
        yield
        return
    places = {"table": table.identifier.as_string(session), "columns": [*columns]}
    found = session.execute(_COLUMNS, places).fetchone() or ([], [])
    read = dict(zip(("relations", "numbers"), found, strict=True))
    views = session.execute(_VIEWS, read).fetchall()
    policies = session.execute(_POLICIES, read).fetchall()
    for drop, _ in (*policies, *reversed(views)):
        session.execute(sql.SQL(drop))
    yield
    for _, create in (*views, *policies):
        for statement in create:
            session.execute(sql.SQL(statement))
