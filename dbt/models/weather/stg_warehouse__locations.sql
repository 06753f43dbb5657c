{{ config(materialized='ephemeral', contract={'enforced': false}) }}

select
    location_key,
    store_id,
    region
from {{ source('warehouse', 'dim_location') }}
