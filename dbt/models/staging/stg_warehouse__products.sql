select
    product_key,
    product_id,
    coalesce(department, 'Unknown') as department
from {{ source('warehouse', 'dim_product') }}
