{#
    Incremental strategy `replace_window`: delete the rows of the window and insert the built rows,
    in the transaction of the model. Unlike dbt's delete+insert, it also empties days that have no
    rows any more.

    The window is the model's `meta.window` (macros/window.sql).
#}
{% macro get_incremental_replace_window_sql(arg_dict) %}
    {% do require_rows_in_window(arg_dict['temp_relation']) %}
    {% set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) %}
    {{ return(replace_window_sql(arg_dict['target_relation'], arg_dict['temp_relation'], columns)) }}
{% endmacro %}


{# Statements that replace the rows of a table in the build's window by the rows of `source`. #}
{% macro replace_window_sql(target, source, columns) %}
    {% set window = model_window() %}
    {% set sql %}
    delete from {{ target }}{% if window %} where {{ in_window(window['column']) }}{% endif %};
    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ source }}
    {% endset %}
    {{ return(sql) }}
{% endmacro %}


{#
    Fails if a built row lies outside the build's window: only rows in the window are deleted, so it
    would be counted twice.
#}
{% macro require_rows_in_window(relation) %}
    {% set window = model_window() %}
    {% if not window or window_days() is none %}
        {{ return(none) }}
    {% endif %}
    {% set counts = run_query(
        'select count(*), count(*) filter (where (' ~ in_window(window['column']) ~ ') is not true) from ' ~ relation
    ).rows[0] %}
    {% if counts[1] %}
        {% do exceptions.raise_compiler_error(
            counts[1] ~ " of " ~ counts[0] ~ " built rows lie outside the window that the build replaces ("
            ~ window['column'] ~ ", by " ~ window['grain'] ~ "): they would be counted twice. "
            ~ "Filter with in_build, whose grain is the window's; a model by month needs "
            ~ "meta={'window': {'column': '" ~ window['column'] ~ "', 'grain': 'month'}}"
        ) %}
    {% endif %}
{% endmacro %}
