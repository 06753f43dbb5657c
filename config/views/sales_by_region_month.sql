-- Sales by month and region of the store at the time of the sale.
select
    locations.region,
    dates.month,
    count(*) as lines,
    count(distinct sales.basket_id) as baskets,
    sum(sales.quantity) as units,
    sum(sales.sales_value) as sales
from warehouse.fact_sales as sales
inner join warehouse.dim_location as locations on sales.location_key = locations.location_key
inner join (
    select
        date_key,
        date_trunc('month', date)::date as month
    from warehouse.dim_date
) as dates on sales.date_key = dates.date_key
group by locations.region, dates.month
