select
    basket_id,
    customer_key,
    product_key,
    location_key,
    date_key,
    transaction_timestamp,
    quantity,
    sales_value,
    retail_disc,
    coupon_disc,
    coupon_match_disc
from {{ source('warehouse', 'fact_sales') }}
