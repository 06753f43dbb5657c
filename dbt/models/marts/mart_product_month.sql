{{ config(
    meta={'window': {'column': 'month', 'grain': 'month'}},
    indexes=[{'columns': ['month', 'product_id']}],
) }}

-- All versions of a product in one department are counted under one of their keys, so that a basket
-- with two versions counts once.
with products as (
    select
        product_key,
        product_id,
        department,
        min(product_key) over (partition by product_id, department) as counted_under
    from {{ ref('stg_warehouse__products') }}
),

-- Few products have several versions, so that a join of these to every sale is cheap. A join of all
-- products, to group by product_id and department, took twice as long.
other_versions as (
    select
        product_key,
        counted_under
    from products
    where product_key <> counted_under
),

months as (
    {{ months_of_build() }}
),

ranked as (
    select
        months.month,
        month_products.product_id,
        month_products.department,
        month_products.lines,
        month_products.units,
        month_products.baskets,
        month_products.sales,
        month_products.sales_rank
    from months
    -- Ranked within the month: a sort by department alone uses abbreviated keys, which a sort by
    -- month and department cannot.
    cross join lateral ( -- noqa: ST05
        with sold as (
            select
                coalesce(other_versions.counted_under, sales.product_key) as product_key,
                count(*) as lines,
                sum(sales.quantity) as units,
                count(distinct sales.basket_id) as baskets,
                sum(sales.sales_value) as sales
            from {{ ref('stg_warehouse__sales') }} as sales
            left join other_versions
                on sales.product_key = other_versions.product_key
            where sales.date_key between months.first_key and months.last_key
            group by coalesce(other_versions.counted_under, sales.product_key)
        )

        select
            products.product_id,
            products.department,
            sold.lines,
            sold.units,
            sold.baskets,
            sold.sales,
            row_number() over (
                partition by products.department
                order by sold.sales desc, products.product_id asc
            ) as sales_rank
        from sold
        inner join products
            on sold.product_key = products.product_key
    ) as month_products
)

select
    month,
    product_id,
    department,
    lines,
    units,
    baskets,
    sales::numeric(14, 2) as sales,
    sales_rank
from ranked
