{#
    The columns are a key: not NULL, and unique together. One query in place of dbt's not_null and
    unique, because each test takes about 20 ms of a build.

    columns: for a test of a model; a test of a column has that column.
    With a `meta.window`, only the rows that the build replaces are tested (macros/window.sql),
    unless the key lacks the window's column: then a duplicate may be on any day.
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
