{#
    The columns identify a row: none of them is NULL and no two rows agree in all of them.
    One query for dbt's not_null and unique, because each test costs a build about 20 ms.

    columns: on a model; on a column, that column.
    Of a model with a `meta.window` only what the build replaces is looked at (macros/window.sql),
    unless the key lacks the window's column: such a row may have its like on any day.
#}
{% test is_key(model, columns=none, column_name=none, window=none) %}
{%- set window = tested_window(window) -%}
{%- set key = columns or [column_name] -%}
select
    {{ key | join(', ') }},
    count(*) as found
from {{ model }}
{%- if window and window['column'] in key %}
where {{ in_window(window['column']) }}
{%- endif %}
group by {{ key | join(', ') }}
having count(*) > 1{% for column in key %} or {{ column }} is null{% endfor %}
{% endtest %}
