{{ config(
    meta={'window': {'column': 'date'}},
    indexes=[{'columns': ['date', 'store_id']}],
) }}

with months as (
    {{ months_of_build() }}
),

hours as (
    select
        month_hours.date_key,
        month_hours.sold_hour,
        month_hours.store_id,
        month_hours.region,
        month_hours.lines,
        month_hours.units,
        month_hours.baskets,
        month_hours.sales
    from months
    cross join lateral ( -- noqa: ST05
        -- By basket first: two hash aggregates take less time than count(distinct) by sort.
        with baskets as (
            select
                sales.date_key,
                sales.location_key,
                date_trunc('hour', sales.transaction_timestamp) as sold_hour,
                count(*) as lines,
                sum(sales.quantity) as units,
                sum(sales.sales_value) as sales
            from {{ ref('stg_warehouse__sales') }} as sales
            where
                sales.date_key between months.first_key and months.last_key
                and {{ in_build('sales.date_key', is_key=true) }}
            group by
                sales.date_key,
                sales.location_key,
                date_trunc('hour', sales.transaction_timestamp),
                sales.basket_id
        )

        select
            baskets.date_key,
            baskets.sold_hour,
            locations.store_id,
            locations.region,
            sum(baskets.lines)::bigint as lines,
            sum(baskets.units)::bigint as units,
            count(*) as baskets,
            sum(baskets.sales) as sales
        from baskets
        inner join {{ ref('stg_warehouse__locations') }} as locations
            on baskets.location_key = locations.location_key
        group by
            baskets.date_key,
            baskets.sold_hour,
            locations.store_id,
            locations.region
    ) as month_hours
)

select
    to_date(hours.date_key::text, 'YYYYMMDD') as date,
    hours.sold_hour,
    hours.store_id,
    hours.region,
    weather.sky,
    weather.celsius,
    weather.wind_speed,
    hours.lines,
    hours.units,
    hours.baskets,
    hours.sales::numeric(14, 2) as sales
from hours
left join {{ ref('stg_warehouse__weather') }} as weather
    on
        hours.date_key = weather.date_key
        and hours.region = weather.region
        and hours.sold_hour = weather.observed_hour
