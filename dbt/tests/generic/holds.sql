{#
    Every row satisfies the condition; NULL does not satisfy it.

    With a `meta.window`, only the rows that the build replaces are tested (macros/window.sql).
#}
{% test holds(model, condition, window=none) %}
{%- set window = tested_window(window) -%}
select 1 as broken
from {{ model }}
where
    ({{ condition }}) is not true
{%- if window %}
    and {{ in_window(window['column']) }}
{%- endif %}
{% endtest %}
