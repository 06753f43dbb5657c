{#
    Incremental strategy `replace_window`: delete the rows of the window, insert those just built,
    in the model's one transaction: readers see all of it or nothing. Unlike dbt's delete+insert,
    it also deletes days of which nothing is left.

    The model's config says by which column it is cut:
        meta={'window': {'column': 'date'}}                         days
        meta={'window': {'column': 'month', 'whole_months': true}}  months, by their first day
        no `window`                                                 the whole table is replaced
#}
{% macro get_incremental_replace_window_sql(arg_dict) %}
    {% set target = arg_dict['target_relation'] %}
    {% set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) %}
    {% set window = config.get('meta', {}).get('window') %}
    {% set sql %}
    delete from {{ target }}
    {%- if window %} where {{ in_window(window['column'], whole_months=window.get('whole_months', false)) }}{% endif %};
    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
    {% endset %}
    {{ return(sql) }}
{% endmacro %}
