"""Views and policies that read a column: away while its type changes, and the same afterwards.

Belongs here: finding them, dropping them and making them again, within one transaction.
Elsewhere: the change (headrace.warehouse.schema), views made from files (headrace.warehouse.views).

Postgres does not alter the type of a column that a view or a policy reads. Readers see nothing of
it: until the commit they have the old views, and after it the new ones. What depends on a column
otherwise, such as a function with an SQL body, makes Postgres refuse the change by name.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from psycopg import sql

from headrace.warehouse.sessions import Session
from headrace.warehouse.tables import WarehouseTable

# The columns, in the table and in its months.
_COLUMNS = """
    select coalesce(array_agg(attrelid), '{}'), coalesce(array_agg(attnum::int), '{}')
    from pg_attribute
    where attname = any(%(columns)s) and not attisdropped
        and (attrelid = to_regclass(%(table)s) or attrelid in (
            select inhrelid from pg_inherits where inhparent = to_regclass(%(table)s)
        ))
"""
# How each is dropped and made, those first that others read. A view made again has the privileges,
# comments and indexes that it had.
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
_POLICIES = """
    select distinct format('drop policy %%I on %%s', p.polname, p.polrelid::regclass),
        array[format('create policy %%I on %%s as %%s for %%s to %%s%%s%%s',
            p.polname, p.polrelid::regclass,
            case when p.polpermissive then 'permissive' else 'restrictive' end,
            case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                when 'd' then 'delete' else 'all' end,
            array_to_string(array(
                select case role when 0 then 'public' else role::regrole::text end
                from unnest(p.polroles) as role
            ), ', '),
            ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
            ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')]
    from unnest(%(relations)s::oid[], %(numbers)s::int[]) as read (relation, number)
    join pg_depend as d on d.refclassid = 'pg_class'::regclass
        and d.refobjid = read.relation and d.refobjsubid = read.number
    join pg_policy as p on d.classid = 'pg_policy'::regclass and p.oid = d.objid
"""


@contextmanager
def set_aside(session: Session, table: WarehouseTable, columns: Collection[str]) -> Iterator[None]:
    """Drop what reads the columns, and make it again when the block ends without an error."""
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
