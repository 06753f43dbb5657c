select
    customer_key,
    customer_id
from {{ source('warehouse', 'dim_customer') }}
