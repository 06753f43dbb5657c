{#
    The columns identify a row: none of them is NULL and no two rows agree in all of them.
    One query for dbt's not_null and unique, because each test costs a build about 20 ms.

    columns: on a model; on a column, that column.
    window: as in the model's meta (macros/replace_window.sql): only what was written is looked at.
#}
{% test is_key(model, columns=none, column_name=none, window=none) %}
{%- set key = columns or [column_name] -%}
select
    {{ key | join(', ') }},
    count(*) as found
from {{ model }}
{%- if window %}
where {{ in_window(window['column'], whole_months=window.get('whole_months', false)) }}
{%- endif %}
group by {{ key | join(', ') }}
having count(*) > 1{% for column in key %} or {{ column }} is null{% endfor %}
{% endtest %}
