select
    date_key,
    date
from {{ source('warehouse', 'dim_date') }}
