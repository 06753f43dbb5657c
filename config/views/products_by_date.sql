-- Products as of the end of each day: one row for each product and day of the calendar. Filter by
-- date, as in "where date = '2017-03-04'".
select
    dates.date,
    products.product_id,
    products.department,
    products.brand,
    products.product_category,
    products.product_type,
    products.package_size,
    products.product_key
from warehouse.dim_date as dates
inner join warehouse.dim_product as products
    on
        products.valid_from < dates.date + 1
        and coalesce(products.valid_to, 'infinity') >= dates.date + 1
where products.product_key <> -1
