{#
    Every row satisfies the condition; one for which it is NULL does not.

    window: as in the model's meta (macros/replace_window.sql): only what was written is looked at.
#}
{% test holds(model, condition, window=none) %}
select 1 as broken
from {{ model }}
where
    ({{ condition }}) is not true
{%- if window %}
    and {{ in_window(window['column'], whole_months=window.get('whole_months', false)) }}
{%- endif %}
{% endtest %}
