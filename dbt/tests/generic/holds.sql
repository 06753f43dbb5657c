{#
    Every row satisfies the condition; one for which it is NULL does not.

    Of a model with a `meta.window` only what the build replaces is looked at (macros/window.sql).
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
