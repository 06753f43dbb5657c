{#
    Write-audit-publish: the rows of a build are tested before they are visible.

    Headrace builds in two commands (headrace/marts/commands.py); a shell can do the same:

        dbt build --vars '{"phase": "stage", "days": ["2024-01-31"]}'
        dbt run --vars '{"phase": "publish", "days": ["2024-01-31"]}' --select <models that passed>

    stage: the rows of each model are written to `<schema>_staged.<model>__rows`. The view
    `<schema>_staged.<model>` shows the table after the publication: the published rows outside the
    window, and the staged rows. Tests and downstream models read the view in place of the table.
    publish: the staged rows replace the window, or the whole table, in one transaction.
    Without `phase`, dbt replaces the rows and then tests them, as by default.
#}
{% macro ref() %}
    {% set relation = builtins.ref(*varargs, **kwargs) %}
    {{ return(staged_view_of(relation) if execute and var('phase', none) == 'stage' else relation) }}
{% endmacro %}


{# The staged view of a model that the build stages; other relations are unchanged. #}
{% macro staged_view_of(relation) %}
    {% set name = relation | string %}
    {% for unique_id in selected_resources %}
        {% set node = graph.nodes.get(unique_id) %}
        {% if node and node.resource_type == 'model' and node.relation_name == name and node.config.materialized != 'ephemeral' %}
            {{ return(staged_view(relation)) }}
        {% endif %}
    {% endfor %}
    {{ return(relation) }}
{% endmacro %}


{% macro staged_view(relation) %}
    {{ return(api.Relation.create(
        database=relation.database, schema=relation.schema ~ '_staged', identifier=relation.identifier, type='view'
    )) }}
{% endmacro %}


{% macro staged_rows(relation) %}
    {{ return(make_intermediate_relation(staged_view(relation).incorporate(type='table'), '__rows')) }}
{% endmacro %}


{# Whether the test's model is rebuilt, so that the whole table is tested. #}
{% macro is_tested_whole() %}
    {% if not execute or model.resource_type != 'test' or var('phase', none) != 'stage' %}
        {{ return(false) }}
    {% endif %}
    {% set node = graph.nodes.get(model.get('attached_node')) %}
    {% if not node %}
        {{ return(false) }}
    {% endif %}
    {% set table = adapter.get_relation(node.database, node.schema, node.alias) %}
    {{ return(flags.FULL_REFRESH or table is none or node.config.materialized != 'incremental') }}
{% endmacro %}


{% materialization incremental, adapter='postgres' %}
    {% if var('phase', none) == 'stage' %}
        {{ return(stage_model()) }}
    {% elif var('phase', none) == 'publish' %}
        {{ return(publish_model()) }}
    {% endif %}
    {{ return(dbt.materialization_incremental_default()) }}
{% endmaterialization %}


{% materialization table, adapter='postgres' %}
    {% if var('phase', none) == 'stage' %}
        {{ return(stage_model()) }}
    {% elif var('phase', none) == 'publish' %}
        {{ return(publish_model()) }}
    {% endif %}
    {{ return(dbt.materialization_table_default()) }}
{% endmaterialization %}


{# Views have no rows to stage: dbt's default publishes them. #}
{% materialization view, adapter='postgres' %}
    {{ return(stage_view() if var('phase', none) == 'stage' else dbt.materialization_view_default()) }}
{% endmaterialization %}


{% materialization materialized_view, adapter='postgres' %}
    {{ return(stage_view() if var('phase', none) == 'stage' else dbt.materialization_materialized_view_default()) }}
{% endmaterialization %}


{% macro stage_model() %}
    {% set view, rows = staged_view(this), staged_rows(this) %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% do drop_staged(view, rows) %}
    {% if is_incremental() %}
        {# Unlogged: a crash of the server empties it, but also ends the build. #}
        {% call statement('main') %}
            create unlogged table {{ rows }}
            {% if config.get('contract') and config.get('contract').enforced %}
                {{ get_assert_columns_equivalent(sql) }}
                {{ get_table_columns_and_constraints() }};
                insert into {{ rows }} ({{ adapter.dispatch('get_column_names', 'dbt')() }})
                {{ get_select_subquery(sql) }}
            {% else %}
                as {{ sql }}
            {% endif %}
        {% endcall %}
        {% do require_same_columns(rows) %}
        {% do require_rows_in_window(rows) %}
        {# Unique indexes of the table, so that repeated keys fail before the publication. #}
        {% for index in config.get('indexes', default=[]) if index.get('unique') %}
            {% do run_query(get_create_index_sql(rows, index)) %}
        {% endfor %}
        {% set columns = get_quoted_csv(adapter.get_columns_in_relation(rows) | map(attribute='name')) %}
        {% set window = model_window() %}
        {% do run_query(
            'create view ' ~ view ~ ' as select ' ~ columns ~ ' from ' ~ rows
            ~ (' union all select ' ~ columns ~ ' from ' ~ this ~ ' where (' ~ in_window(window['column']) ~ ') is not true' if window else '')
        ) %}
    {% else %}
        {% call statement('main') %}
            {{ get_create_table_as_sql(False, rows, sql) }}
        {% endcall %}
        {% do create_indexes(rows) %}
        {% do persist_docs(rows, model) %}
        {% do run_query('create view ' ~ view ~ ' as select * from ' ~ rows) %}
    {% endif %}
    {% do adapter.commit() %}
    {{ return({'relations': [view]}) }}
{% endmacro %}


{% macro stage_view() %}
    {% set view = staged_view(this) %}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% do drop_staged(view, staged_rows(this)) %}
    {% call statement('main') %}
        create view {{ view }} as {{ sql }}
    {% endcall %}
    {% do adapter.commit() %}
    {{ return({'relations': [view]}) }}
{% endmacro %}


{# Create the schema of staged relations, and drop this model's relations of a failed build. #}
{% macro drop_staged(view, rows) %}
    {# `if not exists` fails when two sessions create the schema at the same time. #}
    {% do run_query(
        "select pg_advisory_xact_lock(hashtextextended('" ~ view.schema ~ "', 0))"
        ~ " where to_regnamespace('" ~ view.without_identifier().include(database=False) ~ "') is null"
    ) %}
    {% do run_query('create schema if not exists ' ~ view.without_identifier().include(database=False)) %}
    {% do run_query('drop view if exists ' ~ view ~ ' cascade; drop table if exists ' ~ rows ~ ' cascade') %}
{% endmacro %}


{# Fails if the built columns are not the table's: old rows would silently lack new columns. #}
{% macro require_same_columns(rows) %}
    {% set described %}
        select attname || ' ' || format_type(atttypid, atttypmod) from pg_attribute
        where attrelid = '{}'::regclass and attnum > 0 and not attisdropped order by 1
    {% endset %}
    {% set built = run_query(described.replace('{}', rows | string)).columns[0].values() | list %}
    {% set published = run_query(described.replace('{}', this | string)).columns[0].values() | list %}
    {% if built != published %}
        {% do exceptions.raise_compiler_error(
            "the model's columns are not those of " ~ this.include(database=False) ~ ": new "
            ~ (built | reject('in', published) | join(', ') or 'none') ~ "; missing "
            ~ (published | reject('in', built) | join(', ') or 'none')
            ~ ". Rebuild the table from all days: headrace backfill --rebuild --select 'key:\"marts/" ~ model.name ~ "\"'"
        ) %}
    {% endif %}
{% endmacro %}


{#
    Publish the staged rows in one transaction. Rows of a window are in an unlogged table, and are
    inserted; a whole table is logged, and replaces the published one.
#}
{% macro publish_model() %}
    {% set view, rows = staged_view(this), staged_rows(this) %}
    {% set existing = load_cached_relation(this) %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% set found = run_query(
        "select relpersistence from pg_class where oid = to_regclass('" ~ rows.include(database=False) ~ "')"
    ).rows %}
    {% if not found %}
        {% do exceptions.raise_compiler_error('nothing is staged of ' ~ this) %}
    {% endif %}
    {% if found[0][0] == 'u' %}
        {% set columns = get_quoted_csv(adapter.get_columns_in_relation(rows) | map(attribute='name')) %}
        {% call statement('main') %}
            {{ replace_window_sql(this, rows, columns) }}
        {% endcall %}
    {% else %}
        {% do run_query(save_privileges_sql(this)) %}
        {% if existing is not none %}
            {# By the adapter, which also removes dropped views from dbt's cache. #}
            {% do adapter.drop_relation(existing) %}
        {% endif %}
        {% call statement('main') %}
            {{ replace_table_sql(this, rows) }}
        {% endcall %}
    {% endif %}
    {% do run_query('drop view if exists ' ~ view ~ ' cascade; drop table if exists ' ~ rows ~ ' cascade') %}
    {% do apply_grants(this, config.get('grants'), should_revoke=should_revoke(existing, full_refresh_mode=True)) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmacro %}


{#
    Save the privileges of the table that is dropped, and the default privileges of its schema,
    which Postgres grants only on tables that are created in it.
#}
{% macro save_privileges_sql(target) %}
    create temporary table staged_rights on commit drop as
    select distinct item.grantee, item.privilege_type
    from (
        select relacl as acl from pg_class where oid = to_regclass('{{ target.include(database=False) }}')
        union all
        select defaclacl from pg_default_acl
        where defaclobjtype = 'r' and defaclrole = quote_ident(current_user)::regrole
            and defaclnamespace = '{{ target.without_identifier().include(database=False) }}'::regnamespace
    ) as rights
    cross join lateral aclexplode(rights.acl) as item
    where item.grantee <> quote_ident(current_user)::regrole
{% endmacro %}


{# Rename the staged table to the published one, and grant the saved privileges. #}
{% macro replace_table_sql(target, rows) %}
    alter table {{ rows }} set schema {{ target.without_identifier().include(database=False) }};
    alter table {{ target.incorporate(path={'identifier': rows.identifier}) }} rename to {{ adapter.quote(target.identifier) }};
    do $rights$
    declare rights record;
    begin
        for rights in select * from staged_rights loop
            execute format(
                'grant %s on {{ target.include(database=False) }} to %s', rights.privilege_type,
                case when rights.grantee = 0 then 'public' else rights.grantee::regrole::text end
            );
        end loop;
    end $rights$
{% endmacro %}
