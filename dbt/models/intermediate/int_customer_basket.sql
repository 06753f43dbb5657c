{{ config(
    meta={'window': {'column': 'date'}},
    indexes=[{'columns': ['date']}],
) }}

with months as (
    {{ months_of_build() }}
),

baskets as (
    select
        month_baskets.date_key,
        month_baskets.customer_id,
        month_baskets.basket_id,
        month_baskets.lines,
        month_baskets.units,
        month_baskets.sales
    from months
    cross join lateral (
        select
            sales.date_key,
            customers.customer_id,
            sales.basket_id,
            count(*) as lines,
            sum(sales.quantity) as units,
            sum(sales.sales_value) as sales
        from {{ ref('stg_warehouse__sales') }} as sales
        inner join {{ ref('stg_warehouse__customers') }} as customers
            on sales.customer_key = customers.customer_key
        where
            sales.date_key between months.first_key and months.last_key
            and {{ in_build('sales.date_key', is_key=true) }}
        group by sales.date_key, customers.customer_id, sales.basket_id
    ) as month_baskets
)

select
    to_date(date_key::text, 'YYYYMMDD') as date,
    customer_id,
    basket_id,
    lines,
    units,
    sales::numeric(14, 2) as sales
from baskets
