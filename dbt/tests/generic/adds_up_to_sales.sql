{#
    Lines, units and money of the model are those of the fact table, over the window: nothing was
    lost in a join and nothing counted twice.

    window: as in the model's meta (macros/replace_window.sql).
#}
{% test adds_up_to_sales(model, window) %}
{%- set whole_months = window.get('whole_months', false) %}
with expected as (
    select
        count(*) as lines,
        sum(quantity) as units,
        sum(sales_value) as sales
    from {{ ref('stg_warehouse__sales') }}
    where {{ in_window('date_key', is_key=true, whole_months=whole_months) }}
),

found as (
    select
        coalesce(sum(lines), 0) as lines,
        sum(units) as units,
        sum(sales) as sales
    from {{ model }}
    where {{ in_window(window['column'], whole_months=whole_months) }}
)

select 1 as differs
from expected
cross join found
where
    (expected.lines, expected.units, expected.sales)
    is distinct from (found.lines, found.units, found.sales)
{% endtest %}
