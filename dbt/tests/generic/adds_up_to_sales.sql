{#
    Sums of lines, units and money of the model equal those of the fact table, over the model's
    window (macros/window.sql): a join has neither lost nor repeated rows.
#}
{% test adds_up_to_sales(model, window=none) %}
{%- set window = tested_window(window) -%}
with expected as (
    select
        count(*) as lines,
        sum(quantity) as units,
        sum(sales_value) as sales
    from {{ ref('stg_warehouse__sales') }}
    where {{ in_window('date_key', is_key=true) }}
),

found as (
    select
        coalesce(sum(lines), 0) as lines,
        sum(units) as units,
        sum(sales) as sales
    from {{ model }}
    where {{ in_window(window['column']) if window else 'true' }}
)

select 1 as differs
from expected
cross join found
where
    (expected.lines, expected.units, expected.sales)
    is distinct from (found.lines, found.units, found.sales)
{% endtest %}
