{#
    Incremental strategy `replace_window`: delete the rows of the window, insert those just built,
    in the model's one transaction: readers see all of it or nothing. Unlike dbt's delete+insert,
    it also deletes days of which nothing is left.

    The window is the model's `meta.window` (macros/window.sql).
#}
{% macro get_incremental_replace_window_sql(arg_dict) %}
    {% do require_rows_in_window(arg_dict['temp_relation']) %}
    {% set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) %}
    {{ return(replace_window_sql(arg_dict['target_relation'], arg_dict['temp_relation'], columns)) }}
{% endmacro %}


{# The statements that make a table hold `source`'s rows in the window of the build. #}
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
    Fails if the model built a row that the replacement would add to what is there: its window says
    which rows are deleted, and a row outside would be counted twice.
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
